"""Reads the members of a JSON document that matter, without parsing its content.

A body of 1 MB takes as long as one of 2 KB. The first members are parsed one by one, up to
one that holds content, and the last ones from ``"usage"`` on. Both are exact. In valid JSON
the bytes ``"usage"`` are always a whole string token, since a quote inside a string is
escaped. What follows parses as the rest of an object, and the number of brackets that are
still open gives its depth.
"""

from __future__ import annotations

import functools
import json
import re
import typing as t

from ..money import parse_int

Text: t.TypeAlias = bytes | bytearray

_DECODER: t.Final = json.JSONDecoder(parse_int=parse_int)
_value: t.Final[t.Callable[..., tuple[t.Any, int]]] = _DECODER.raw_decode
_COLON: t.Final = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_NEXT: t.Final = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_OPEN: t.Final = re.compile(r"\ufeff?[ \t\r\n]*\{[ \t\r\n]*")
_CLOSE: t.Final = re.compile(r"[ \t\r\n]*[}\]]")

_TRIES: t.Final = 8
"""How many occurrences of a name are tried, from the end."""
_FIRST: t.Final = 4096
_NEAR: t.Final = 16 * 1024
_DAMAGE: t.Final = (ValueError, RecursionError)
"""What the standard library raises for damaged, truncated or deeply nested JSON."""


def parse(text: Text) -> t.Any:
    """Decode JSON, or return ``None`` if it is damaged, truncated or nested too deeply."""
    try:
        return json.loads(text, parse_int=parse_int)
    except _DAMAGE:
        return None


@functools.cache
def _quoted(name: str) -> bytes:
    return f'"{name}"'.encode()


@functools.cache
def _any_of(names: frozenset[str]) -> re.Pattern[bytes]:
    return re.compile(
        b'"(?:' + "|".join(map(re.escape, sorted(names))).encode() + b')"'
    )


def head(data: Text, content: frozenset[str]) -> dict[str, t.Any]:
    """Get the first members of an object, up to one that holds content or is cut off."""
    start = data if len(data) <= _FIRST else data[:_FIRST]
    found = _any_of(content).search(start) if content else None
    if found is not None:
        # What precedes the name is an object only if the name is at the top level.
        before = start[: found.start()].rstrip(b", \t\r\n") + b"}"
        try:
            members, _ = _value(before.decode())
        except _DAMAGE:
            members = None
        if isinstance(members, dict):
            return members
    members, cut = _walk(start, content)
    # A long member, such as instructions or an error text, may precede the content.
    if cut and len(data) > _FIRST:
        members, _ = _walk(data, content)
    return members


def _walk(data: Text, content: frozenset[str]) -> tuple[dict[str, t.Any], bool]:
    text = data.decode("utf-8", "replace")
    members: dict[str, t.Any] = {}
    found = _OPEN.match(text)
    try:
        while found is not None and text[found.end()] == '"':
            key, at = _value(text, found.end())
            if key in content:
                return members, False
            colon = _COLON.match(text, at)
            if colon is None:
                break
            value, at = _value(text, colon.end())
            found = _NEXT.match(text, at)
            if found is None and _CLOSE.match(text, at) is None:
                break  # a number at the end of the text may be cut off
            members[key] = value
            if found is None:
                return members, False
    except (*_DAMAGE, IndexError):
        pass
    return members, True


def tail(data: Text, name: str, depth: int = 1) -> dict[str, t.Any] | None:
    """Get the last members of an object, from a name on.

    :param depth: 1 for the document itself, 2 for an object in it.
    """
    quoted = _quoted(name)
    end = len(data)
    for _ in range(_TRIES):
        at = data.rfind(quoted, 0, end)
        if at < 0:
            return None
        members = _rest(data[at:].decode("utf-8", "replace"), depth)
        if members is not None:
            return members
        end = at
    return None


def _rest(text: str, depth: int) -> dict[str, t.Any] | None:
    """Read ``"name": value, ...``, which must be followed by ``depth`` closing brackets."""
    try:
        members, at = _value("{" + text)
        text = text[at - 1 :]
        for _ in range(depth - 1):
            text = _outer(text)
    except _DAMAGE:
        return None
    return members if not text or text.isspace() else None


def _outer(text: str) -> str:
    """Skip the rest of the enclosing object or list, and return what follows it."""
    more = _NEXT.match(text)
    if more is None:
        close = _CLOSE.match(text)
        if close is None:
            raise ValueError("cut off")
        return text[close.end() :]
    for opening in "{", "[":
        try:
            _, at = _value(opening + text[more.end() :])
        except ValueError:
            continue
        return text[more.end() + at - 1 :]
    raise ValueError("no JSON")


def find_members(
    front: Text, back: Text, content: frozenset[str], names: t.Sequence[str]
) -> dict[str, t.Any]:
    """Get an object's members before its content, and the last ones from a name on.

    :param names: The first is searched in all of ``back``, the others near its end.
    """
    first = names[0]
    members = _joined(front, back, content, first)
    if members is None:
        members = head(front, content)
        if first not in members:
            members.update(tail(back, first) or {})
    near: Text | None = None
    for name in names[1:]:
        if name not in members:
            if near is None:
                near = back if len(back) <= _NEAR else back[-_NEAR:]
            members.update(tail(near, name) or {})
    return members


def _joined(
    front: Text, back: Text, content: frozenset[str], name: str
) -> dict[str, t.Any] | None:
    """Parse both ends as one object without what is between them: this works mostly.

    If the ends had different depths, there would be a bracket too few or too many, or
    the name would not be at the top level.
    """
    found = _any_of(content).search(front, 0, _FIRST) if content else None
    if found is None:
        return None
    quoted = _quoted(name)
    at = back.rfind(quoted)
    # If the name also precedes the content, the cut may go through its value.
    if at < 0 or front.find(quoted, 0, found.start()) >= 0:
        return None
    try:
        text = (front[: found.start()] + back[at:]).decode()
        members, end = _value(text)
    except _DAMAGE:
        return None
    if name not in members or (end < len(text) and not text[end:].isspace()):
        return None
    found_members: dict[str, t.Any] = members
    return found_members


def members_in_envelope(
    front: Text, back: Text, envelope: str, content: frozenset[str], name: str
) -> dict[str, t.Any]:
    """Do the same where the content is inside the member ``envelope``."""
    members = head(front, frozenset((envelope,)))
    at = front.find(_quoted(envelope))
    opening = front.find(b"{", at)
    body = head(front[opening:], content) if 0 <= at < opening else {}
    body.update(tail(back, name, depth=2) or {})
    return {**members, envelope: body}
