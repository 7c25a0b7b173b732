"""Calls of a JSONL file into the ledger: new ones are recorded, others compared."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

from .. import jsonl
from ..call import Call
from ..files import clacky
from ..rollups.horizon import horizon
from .detail import call_detail

if t.TYPE_CHECKING:
    from ..storage import Storage

_BATCH: t.Final = 500


@dataclass(slots=True)
class Imported:
    """What became of the lines of a file."""

    new: int = 0
    same: int = 0
    """Already in the ledger, with the same values."""
    different: list[str] = field(default_factory=list)
    """Ids of calls that are in the ledger with other values. They were not changed."""
    invalid: list[str] = field(default_factory=list)
    """Lines that are not calls, and why."""
    refused: list[str] = field(default_factory=list)
    """Ids of calls that are older than what was pruned, and why they were refused."""
    restored: int = 0
    """Calls that had been pruned, and can be read again."""
    pruned_before: dt.datetime | None = None
    """Calls before this were pruned."""


def import_calls(
    ledger: Storage,
    lines: Iterable[bytes],
    *,
    session_tag: str,
    dry_run: bool = False,
    raw_only: bool = False,
) -> Imported:
    """Import line by line. Calls that are in the ledger already are not changed.

    :param lines: Of :mod:`.jsonl`, or of Clacky's BillingStore.
    :param session_tag: The tag for the sessions of the latter.
    :param dry_run: Only compare.
    :param raw_only: Also take calls that were pruned; no total changes by them.
    """
    run = _Import(ledger, dry_run, raw_only)
    batch: dict[str, Call] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            call = _decode(line, session_tag)
        except ValueError as error:
            run.done.invalid.append(f"line {number}: {error}")
            continue
        if call.event_id in batch:
            run.compare(batch[call.event_id], call)
        else:
            batch[call.event_id] = call
        if len(batch) >= _BATCH:
            run.settle(batch)
            batch = {}
    run.settle(batch)
    return run.done


def _decode(line: bytes, session_tag: str) -> Call:
    if clacky.is_clacky(line):
        return clacky.decode(line, session_tag)
    return jsonl.decode(line)


@dataclass(frozen=True, slots=True)
class _Import:
    ledger: Storage
    dry_run: bool
    raw_only: bool
    done: Imported = field(default_factory=Imported)

    def settle(self, batch: dict[str, Call]) -> None:
        """Record the calls that are new."""
        done = self.done
        with self.ledger.reading(fresh=True) as connection:
            limit = done.pruned_before = horizon(connection)
            stored = {each: call_detail(connection, each) for each in batch}
        pruned: list[Call] = []
        for event_id, call in batch.items():
            known = stored[event_id]
            if known is not None:
                self.compare(known.call, call)
            elif limit is not None and call.started_at < limit:
                pruned.append(call)
            else:
                done.new += 1
                if not self.dry_run:
                    self.ledger.append(call)
        if not self.dry_run and self.ledger.queue is not None:
            # What is in the file twice, far apart, must be found the second time.
            self.ledger.queue.drain()
        self._settle_pruned(pruned)

    def _settle_pruned(self, calls: list[Call]) -> None:
        done, restore = self.done, self.ledger.restore
        if not self.raw_only or restore is None:
            done.refused += [call.event_id for call in calls]
        elif self.dry_run:
            done.restored += len(calls)
        elif calls:
            stored = restore(calls)
            done.restored += stored.new
            done.same += stored.duplicate  # another import was faster
            done.refused += [f"{call.event_id}: {why}" for call, why in stored.rejected]

    def compare(self, known: Call, call: Call) -> None:
        """Count a call that is there already."""
        if known == call:
            self.done.same += 1
        else:
            self.done.different.append(call.event_id)
