"""Edit a YAML price file in place, so that everything else in it stays as written.

Only the values of changed entries are replaced, and new entries are appended. The rest,
comments included, keeps every character.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from decimal import Decimal

from .document import as_text
from .document import written
from .meters import LIMITS
from .meters import Malformed
from .meters import parse_key
from .meters import parse_rate

_Edit: t.TypeAlias = tuple[int, int, str]
"""Replace the text between two offsets."""


class NotEditable(Exception):
    """The text cannot be edited as asked; the message says why."""


def edit(text: str, before: Mapping[str, t.Any], after: Mapping[str, t.Any]) -> str:
    """Return the text with other values.

    :param before: The document that the text contains.
    :param after: The document it should contain, with ``models``.
    :raises NotEditable: If something else would change.
    """
    import yaml

    root = yaml.compose(text, Loader=yaml.BaseLoader) if text.strip() else None
    if not before or root is None or not root.value:
        return _new_file(after)
    if "models" in before:
        edits = [
            each
            for name in ("metadata", "models")
            for each in _edit_section(root, name, before, after, text)
        ]
    else:
        # A file of models alone has no place for metadata.
        after = after["models"]
        edits = _edit_entries(root, before, after, text)
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    try:
        result = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        result = None
    if result is None or as_text(result) != as_text(after):
        raise NotEditable(
            "single entries cannot be replaced because of its anchors, merge keys or layout"
        )
    return text


def _new_file(document: Mapping[str, t.Any]) -> str:
    lines = [
        f"{section}:\n"
        + "".join(
            f"  {_key(k)}: {_value(v, 2)}\n" for k, v in document[section].items()
        )
        for section in ("metadata", "models")
        if document.get(section)
    ]
    return "".join(lines) or "models: {}\n"


def _edit_section(
    root: t.Any,
    name: str,
    before: Mapping[str, t.Any],
    after: Mapping[str, t.Any],
    text: str,
) -> list[_Edit]:
    for key, value in root.value:
        if key.value == name:
            old = before.get(name)
            if value.value and not value.flow_style and isinstance(old, Mapping):
                return _edit_entries(value, old, after[name], text)
            if as_text(old) != as_text(after[name]):
                return [_replace_value(key, value, after[name])]
            return []
    if after.get(name):
        start = root.start_mark.index
        return [(start, start, f"{name}: {_value(after[name], 0)}\n")]
    return []


def _edit_entries(
    node: t.Any, before: Mapping[str, t.Any], after: Mapping[str, t.Any], text: str
) -> list[_Edit]:
    edits = [
        _replace_value(key, value, after.get(key.value))
        for key, value in node.value
        if as_text(before.get(key.value)) != as_text(after.get(key.value))
    ]
    column = node.start_mark.column
    pad = " " * column
    added = "".join(
        f"\n{pad}{_key(name)}: {_value(after[name], column)}"
        for name in after
        if name not in before
    )
    if added:
        # After a comment on the last line.
        end = text.find("\n", _end(node))
        end = len(text) if end < 0 else end
        edits.append((end, end, added))
    return edits


def _replace_value(key: t.Any, value: t.Any, new: t.Any) -> _Edit:
    """Replace everything between a key and the end of its value."""
    return key.end_mark.index, _end(value), f": {_value(new, key.start_mark.column)}"


def _end(node: t.Any) -> int:
    """Return where a node's content ends. A block's own mark is after later comments."""
    if isinstance(node.value, list) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _key(name: str) -> str:
    return name if name.replace("/", "").replace("-", "").isalnum() else _value(name, 0)


def _value(value: t.Any, column: int) -> str:
    """Write a value in flow style: JSON on one line, but each price of a list on its own."""
    if isinstance(value, list):
        pad = " " * (column + 2)
        inner = ",".join(f"\n{pad}{_value(each, column + 2)}" for each in value)
        return f"[{inner}]" if value else "[]"
    return " ".join(line.strip() for line in written(_numbers(value)).splitlines())


def _numbers(value: t.Any, key: str = "") -> t.Any:
    """Convert rates back to numbers, which the base loader leaves as text."""
    if isinstance(value, Mapping):
        return {name: _numbers(each, str(name)) for name, each in value.items()}
    if isinstance(value, str) and (key in LIMITS or parse_key(key) is not None):
        try:
            return Decimal(parse_rate(value, key))
        except Malformed:
            return value
    return value
