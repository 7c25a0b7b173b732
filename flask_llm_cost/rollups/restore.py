"""Calls that were pruned come back, and nothing is counted twice.

What prune does to a call is undone in one transaction: its row is inserted, and what it
adds up to is taken out of the sums of what was pruned. So all totals stay as they are.
When it is pruned once more, it is added to them again.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from collections.abc import Sequence

import sqlalchemy as sa

from ..calendar import rollup_start
from ..calendar import utc_hour
from ..call import Call
from ..errors import StorageError
from . import tag_sums
from .dirty_marks import horizon
from .dropping import going
from .sums import add_up
from .sums import chunks
from .sums import NotThere
from .sums import take
from .sums import these


class PutBack:
    """What is done beside the insert, in the same transaction.

    :param turn: Lets no other change the sums until a transaction ends.
    :param zone: Whose hours and days they are of.
    """

    def __init__(self, turn: Callable[[sa.Connection], None], zone: dt.tzinfo) -> None:
        self._turn = turn
        self._zone = zone

    def begin(self, connection: sa.Connection) -> None:
        """To be first in the transaction."""
        self._turn(connection)

    def settle(self, connection: sa.Connection, calls: Sequence[Call]) -> None:
        """Take calls that were just inserted out of the sums of what was pruned.

        :raises NotThere: If one cannot be among those that were pruned.
        :raises StorageError: If their month is being dropped.
        """
        calls = sorted(calls, key=lambda call: (call.started_at, call.event_id))
        self._check(connection, calls)
        for start, found in itertools.groupby(calls, self._day):
            for some in chunks(list(found)):
                tag_sums.take_pruned(connection, start, *these(some))
        for start, found in itertools.groupby(calls, self._hour):
            for some in chunks(list(found)):
                take(connection, "pruned", start, add_up(connection, *these(some)))

    def _check(self, connection: sa.Connection, calls: Sequence[Call]) -> None:
        limit = horizon(connection)
        if limit is None or calls[-1].started_at >= limit:
            raise NotThere("it is of a time of which no call was pruned")
        time = going(connection)
        if time is not None and any(
            time.touches(utc_hour(call.started_at)) for call in calls
        ):
            raise StorageError(
                "The month of these calls is being dropped. If no `prune` is at work,"
                " one broke off: run it again, and then this."
            )

    def _day(self, call: Call) -> dt.datetime:
        return rollup_start("day", call.started_at, self._zone)

    def _hour(self, call: Call) -> dt.datetime:
        return rollup_start("hour", call.started_at, self._zone)
