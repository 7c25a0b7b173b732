"""Calls of a JSONL file into the ledger: new ones in, others compared."""

from __future__ import annotations

import datetime as dt
import functools
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

if t.TYPE_CHECKING:
    from ..call import Call
    from ..query.host import Host

_BATCH: t.Final = 500


@dataclass(slots=True)
class Imported:
    """What became of the lines of a file."""

    new: int = 0
    same: int = 0
    """In the ledger already, exactly so."""
    different: list[str] = field(default_factory=list)
    """Ids of calls that the ledger has otherwise. They were left as they are."""
    bad: list[str] = field(default_factory=list)
    """Lines that are no calls, and why."""
    refused: list[str] = field(default_factory=list)
    """Ids of calls that are older than what was pruned, and why they were not taken."""
    back: int = 0
    """Calls that were pruned, and can be looked at again."""
    pruned_before: dt.datetime | None = None
    """Until when calls were pruned."""


def take_in(
    host: Host,
    lines: Iterable[bytes],
    *,
    dry_run: bool = False,
    raw_only: bool = False,
) -> Imported:
    """Import line by line. What the ledger has already stays as it is.

    :param dry_run: Only compare.
    :param raw_only: Take calls that were pruned, too: no sum changes by them.
    """
    done = Imported()
    settle = functools.partial(_settle, host, done, dry_run, raw_only)
    batch: dict[str, Call] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            call = _decode(line, host.settings.session_tag)
        except ValueError as error:
            done.bad.append(f"line {number}: {error}")
            continue
        if call.event_id in batch:
            _compare(done, batch[call.event_id], call)
        else:
            batch[call.event_id] = call
        if len(batch) >= _BATCH:
            settle(batch)
            batch = {}
    settle(batch)
    return done


def _decode(line: bytes, session_tag: str) -> Call:
    """A line of ours, or of Clacky's."""
    from .. import jsonl
    from ..files import clacky

    if clacky.is_clacky(line):
        return clacky.decode(line, session_tag)
    return jsonl.decode(line)


def _settle(
    host: Host, done: Imported, dry_run: bool, raw_only: bool, batch: dict[str, Call]
) -> None:
    from ..query.detail import call_detail
    from ..rollups.dirty_marks import horizon

    with host.ledger.reading(fresh=True) as connection:
        limit = done.pruned_before = horizon(connection)
        stored = {event_id: call_detail(connection, event_id) for event_id in batch}
    old = []
    for event_id, call in batch.items():
        there = stored[event_id]
        if there is not None:
            _compare(done, there.call, call)
            continue
        if limit is not None and call.started_at < limit:
            old.append(call)
            continue
        done.new += 1
        if not dry_run:
            host.ledger.append(call)
    if not dry_run:
        # What is in the file twice, far apart, must be found the second time.
        host.ledger.drain()
    _settle_old(host, done, dry_run, raw_only, old)


def _settle_old(
    host: Host, done: Imported, dry_run: bool, raw_only: bool, old: list[Call]
) -> None:
    if not raw_only:
        done.refused += [call.event_id for call in old]
    elif dry_run:
        done.back += len(old)
    elif old:
        stored = host.ledger.put_back(old)
        done.back += stored.new
        done.same += stored.duplicate  # another import was faster
        done.refused += [f"{call.event_id}: {why}" for call, why in stored.refused]


def _compare(done: Imported, there: Call, call: Call) -> None:
    if there == call:
        done.same += 1
    else:
        done.different.append(call.event_id)
