"""Which members of a JSON document matter, without parsing its content?

A body of 1 MB is read in the time of one of 2 KB: its first members one by one, until
one that holds content, and its last ones from ``"usage"`` on. Both are exact. In valid
JSON the bytes ``"usage"`` are always a whole string token, since a quote inside of a
string is escaped; and what follows it parses as the rest of an object, whose depth
shows in how many brackets are still open.
"""

from __future__ import annotations

import functools
import json
import re
import typing as t

Text: t.TypeAlias = bytes | bytearray

_DECODER: t.Final = json.JSONDecoder()
_value: t.Final[t.Callable[..., tuple[t.Any, int]]] = _DECODER.raw_decode
_COLON: t.Final = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_NEXT: t.Final = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_OPEN: t.Final = re.compile(r"\ufeff?[ \t\r\n]*\{[ \t\r\n]*")
_CLOSE: t.Final = re.compile(r"[ \t\r\n]*[}\]]")

_TRIES: t.Final = 8
"""How many places of one name are looked at from the end."""
_FIRST: t.Final = 4096
_NEAR: t.Final = 16 * 1024
_DAMAGE: t.Final = (ValueError, RecursionError)
"""What the standard library raises for damaged, cut or absurdly nested JSON."""


def parse(text: Text) -> t.Any:
    """Decoded JSON, or ``None`` if it is none: damaged, cut off, absurdly nested."""
    try:
        return json.loads(text)
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


def head(data: Text, heavy: frozenset[str]) -> dict[str, t.Any]:
    """The first members of an object, up to one that is heavy or cut off."""
    start = data if len(data) <= _FIRST else data[:_FIRST]
    found = _any_of(heavy).search(start) if heavy else None
    if found is not None:
        # What stands before a member parses as an object only if that is not a deeper one.
        light = start[: found.start()].rstrip(b", \t\r\n") + b"}"
        try:
            members, _ = _value(light.decode())
        except _DAMAGE:
            members = None
        if isinstance(members, dict):
            return members
    members, cut = _walk(start, heavy)
    # A long member (instructions, error texts) may stand before the heavy one.
    if cut and len(data) > _FIRST:
        members, _ = _walk(data, heavy)
    return members


def _walk(data: Text, heavy: frozenset[str]) -> tuple[dict[str, t.Any], bool]:
    text = data.decode("utf-8", "replace")
    members: dict[str, t.Any] = {}
    found = _OPEN.match(text)
    try:
        while found is not None and text[found.end()] == '"':
            key, at = _value(text, found.end())
            if key in heavy:
                return members, False
            colon = _COLON.match(text, at)
            if colon is None:
                break
            value, at = _value(text, colon.end())
            found = _NEXT.match(text, at)
            if found is None and _CLOSE.match(text, at) is None:
                break  # a number that ends with the text may be cut
            members[key] = value
            if found is None:
                return members, False
    except (*_DAMAGE, IndexError):
        pass
    return members, True


def tail(data: Text, name: str, depth: int = 1) -> dict[str, t.Any] | None:
    """The last members of the object that is open at this depth, from a name on.

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
    """Read ``"name": value, ...`` and require so many closing brackets after it."""
    try:
        members, at = _value("{" + text)
        text = text[at - 1 :]
        for _ in range(depth - 1):
            text = _outer(text)
    except _DAMAGE:
        return None
    return members if not text or text.isspace() else None


def _outer(text: str) -> str:
    """What follows the object or list in which the read one stood."""
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
    front: Text, back: Text, heavy: frozenset[str], names: t.Sequence[str]
) -> dict[str, t.Any]:
    """An object's light members: the first ones, and the last ones from a name on.

    :param names: The first is looked for in all of ``back``, the others near its end.
    """
    first = names[0]
    members = _joined(front, back, heavy, first)
    if members is None:
        members = head(front, heavy)
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
    front: Text, back: Text, heavy: frozenset[str], name: str
) -> dict[str, t.Any] | None:
    """Both ends as one object, what is between them left out: mostly it is one.

    If the ends were of two depths, there would be a bracket too few or too many, or the
    name would not be at the top.
    """
    found = _any_of(heavy).search(front, 0, _FIRST) if heavy else None
    if found is None:
        return None
    quoted = _quoted(name)
    at = back.rfind(quoted)
    # If it stands before the cut as well, the cut may go through the member of that name.
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
    front: Text, back: Text, envelope: str, heavy: frozenset[str], name: str
) -> dict[str, t.Any]:
    """The same of an object with its light members in an object inside."""
    members = head(front, frozenset((envelope,)))
    at = front.find(_quoted(envelope))
    opening = front.find(b"{", at)
    body = head(front[opening:], heavy) if 0 <= at < opening else {}
    body.update(tail(back, name, depth=2) or {})
    return {**members, envelope: body}
