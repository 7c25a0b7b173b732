"""Delete calls as if they had never been recorded."""

from __future__ import annotations

from collections.abc import Sequence

from ..budgets.counters import Counters
from ..db.engine import Engines
from ..db.statements import chunks
from ..db.writers import lock_calls
from ..event_id import event_time
from ..rollups.dirty_marks import mark_dirty
from ..rollups.lock import lock
from ..rollups.retention import delete_calls
from .revisions import changes_of
from .revisions import VALUES


def withdraw(
    engines: Engines, event_ids: Sequence[str], counters: Counters | None = None
) -> int:
    """Delete calls, and subtract them from rollups and budgets.

    :param counters: Those of the budgets that the calls count in, if there are any.
    :return: The number of calls that were found.
    """
    engines.prepare()
    deleted = 0
    with engines.explained():
        for some in chunks(sorted((event_time(each), each) for each in event_ids)):
            with engines.writing().begin() as connection:
                lock(connection)
                rows = {
                    (row.started_at, row.event_id): row._asdict()
                    for row in lock_calls(connection, some, *VALUES)
                }
                if rows:
                    changed = changes_of(connection, rows, None)
                    delete_calls(connection, sorted(rows))
                    mark_dirty(connection, (moment for moment, _ in rows))
                    if counters is not None:
                        counters.change(connection, changed)
            deleted += len(rows)
    return deleted
