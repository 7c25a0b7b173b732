"""How is a YAML price file changed, such that what a person wrote there stays?

Only the values of entries that change are replaced, and new ones are put behind the last.
All else, comments included, is left as it is, letter by letter.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from decimal import Decimal

from .document import dumps
from .document import texts
from .meters import decimal_rate
from .meters import Malformed
from .meters import parse_key


class Unwritable(Exception):
    """The change cannot be made in that text; it says why."""


def rewritten(
    text: str, before: Mapping[str, t.Any], after: Mapping[str, t.Any]
) -> str:
    """The text of a file with other values.

    :param before: What it says, with ``models``.
    :param after: What it is to say.
    :raises Unwritable: If it could not be done without changing something else.
    """
    import yaml

    root = yaml.compose(text, Loader=yaml.BaseLoader) if text.strip() else None
    if not before or root is None or not root.value:
        return _fresh(after)
    edits: list[tuple[int, int, str]] = []
    if "models" in before:
        for name in ("metadata", "models"):
            _replace(root, name, before, after, edits, text)
    else:
        # A file of models alone has no place for metadata, and gets none.
        after = after["models"]
        _entries(root, before, after, edits, text)
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    try:
        read = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        read = None
    if read is None or texts(read) != texts(after):
        raise Unwritable(
            "its anchors, merge keys or layout do not let single entries be replaced"
        )
    return text


def _fresh(after: Mapping[str, t.Any]) -> str:
    lines = [
        f"{part}:\n"
        + "".join(f"  {_key(k)}: {_value(v, 2)}\n" for k, v in after[part].items())
        for part in ("metadata", "models")
        if after.get(part)
    ]
    return "".join(lines) or "models: {}\n"


def _replace(
    root: t.Any,
    name: str,
    before: Mapping[str, t.Any],
    after: Mapping[str, t.Any],
    edits: list[tuple[int, int, str]],
    text: str,
) -> None:
    for key, value in root.value:
        if key.value == name:
            held = before.get(name)
            if value.value and not value.flow_style and isinstance(held, Mapping):
                _entries(value, held, after[name], edits, text)
            elif texts(held) != texts(after[name]):
                edits.append(_edit(key, value, after[name]))
            return
    if after.get(name):
        start = root.start_mark.index
        edits.append((start, start, f"{name}: {_value(after[name], 0)}\n"))


def _entries(
    node: t.Any,
    before: Mapping[str, t.Any],
    after: Mapping[str, t.Any],
    edits: list[tuple[int, int, str]],
    text: str,
) -> None:
    column = node.start_mark.column
    for key, value in node.value:
        new = after.get(key.value)
        if texts(before.get(key.value)) != texts(new):
            edits.append(_edit(key, value, new))
    added = [name for name in after if name not in before]
    if added:
        # Behind the comment that may stand on the last line.
        end = text.find("\n", _end(node))
        end = len(text) if end < 0 else end
        pad = " " * column
        lines = "".join(
            f"\n{pad}{_key(name)}: {_value(after[name], column)}" for name in added
        )
        edits.append((end, end, lines))


def _edit(key: t.Any, value: t.Any, new: t.Any) -> tuple[int, int, str]:
    """Everything between a key's colon and the end of its value."""
    return key.end_mark.index, _end(value), f": {_value(new, key.start_mark.column)}"


def _end(node: t.Any) -> int:
    """Where a node's last letter is: a block's own mark is behind comments that follow."""
    if isinstance(node.value, list) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _key(name: str) -> str:
    return name if name.replace("/", "").replace("-", "").isalnum() else _value(name, 0)


def _value(value: t.Any, column: int) -> str:
    """In the flow style, which is JSON on one line; a list of prices a line each."""
    if isinstance(value, list):
        pad = " " * (column + 2)
        inner = ",".join(f"\n{pad}{_value(each, column + 2)}" for each in value)
        return f"[{inner}]" if value else "[]"
    return " ".join(line.strip() for line in dumps(_numbers(value)).splitlines())


def _numbers(value: t.Any) -> t.Any:
    """Rates as numbers again, which the base loader leaves text."""
    if not isinstance(value, Mapping):
        return value
    return {key: _number(str(key), each) for key, each in value.items()}


def _number(key: str, value: t.Any) -> t.Any:
    if isinstance(value, Mapping):
        return _numbers(value)
    if isinstance(value, str) and parse_key(key) is not None:
        try:
            return Decimal(decimal_rate(value, key))
        except Malformed:
            return value
    return value
