"""The house stays easy to find one's way in: no crowded room, file or function."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1] / "flask_llm_cost"

FILE_LINES = 450
FUNCTION_LINES = 60


def sources() -> Iterator[tuple[Path, str]]:
    for path in sorted(HOUSE.rglob("*.py")):
        yield path.relative_to(HOUSE), path.read_text("utf-8")


def too_long(name: Path, text: str) -> Iterator[str]:
    """Name a file that is too long, and its functions that are."""
    if (lines := text.count("\n")) > FILE_LINES:
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{name}, {node.name}: {lines} lines"


def test_a_long_file_and_a_long_function_are_noticed() -> None:
    body = "    pass\n" * FUNCTION_LINES
    assert list(too_long(Path("a.py"), f"def f():\n{body}")) == ["a.py, f: 61 lines"]
    assert list(too_long(Path("a.py"), "\n" * 451)) == ["a.py: 451 lines"]


def test_no_file_or_function_is_too_long() -> None:
    found = [fault for name, text in sources() for fault in too_long(name, text)]
    assert not found, "\n".join(found)


def test_no_room_holds_more_than_a_seventh() -> None:
    rooms = Counter[str]()
    for name, text in sources():
        rooms[name.parts[0] if name.parts[1:] else "."] += text.count("\n")
    assert len(rooms) > 10
    crowded = {room: n for room, n in rooms.items() if n * 7 > rooms.total()}
    assert not crowded
