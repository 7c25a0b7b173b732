"""Reads exchanges that have finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..call import Reading
from ..call import Usage
from .dialect import add_part
from .exchange import Exchange
from .paths import NOT_A_CALL
from .routes import route


def read_exchange(
    *,
    method: str,
    url: str,
    request_body: bytes | None,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    hosts: Mapping[str, str] | None = None,
) -> Reading | None:
    """Read one finished exchange.

    A file of batch results holds many calls: read it with :meth:`Exchange.take_results`.
    The log of a session does, too, but its turns are summed here.

    :param headers: The response's headers.
    :param body: The response's body, with its content encoding undone.
    :param hosts: As in ``LLM_COST_PROVIDER_HOSTS``.
    :return: ``None`` if the URL is not an LLM call.
    """
    found = route(method, url, hosts=hosts)
    if found is None or found.operation in ("batch", NOT_A_CALL):
        return None
    exchange = Exchange(found, request_body=request_body)
    exchange.begin_response(status, headers)
    exchange.feed(body, decoded=True)
    return whole_reading(exchange)


def whole_reading(exchange: Exchange) -> Reading:
    """Get the reading of an exchange that has ended, with all turns of a session.

    ``usage`` is that of the session's own model. ``usage_by_model`` also has that of others.
    """
    last = exchange.reading(ended=True)
    turns = exchange.take_results()
    if not turns:
        return last
    answers = [*turns, last]
    own = [each for each in answers if each.operation == exchange.route.operation]
    flags: set[str] = set().union(*(each.flags for each in answers))
    total = _sum_by_name([("", each.usage) for each in own], flags).get("")
    used = [pair for each in answers for pair in _used(each)]
    parts = _sum_by_name(used, flags)
    return dataclasses.replace(
        own[-1] if own else last,
        usage=total,
        usage_by_model=parts if len(parts) > 1 else {},
        flags=frozenset(flags),
    )


def _used(answer: Reading) -> list[tuple[str, Usage | None]]:
    """List what an answer used, by model."""
    parts = answer.usage_by_model
    return [*parts.items()] if parts else [(answer.model or "", answer.usage)]


def _sum_by_name(
    parts: list[tuple[str, Usage | None]], flags: set[str]
) -> dict[str, Usage]:
    sums: dict[str, Usage] = {}
    for name, part in parts:
        if part is not None:
            add_part(sums, name, part, flags)
    return sums
