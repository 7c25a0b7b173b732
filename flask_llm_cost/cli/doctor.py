"""``doctor``: what keeps calls from being captured, priced and stored."""

from __future__ import annotations

import datetime as dt
import errno
import os
import tempfile
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from ..errors import LlmCostError
from ..errors import SetupRequired
from ..errors import StorageError
from ..query.storage import queued_calls
from .findings import Finding
from .findings import show
from .findings import Status
from .text import count
from .text import fit

if t.TYPE_CHECKING:
    from ..query.host import Host

_TRIAL_BYTES: t.Final = 4096

_STUCK: t.Final = dt.timedelta(minutes=1)
"""Calls that wait for longer are not written by anyone."""

_UNROLLED: t.Final = dt.timedelta(hours=2)
"""Hours that are over for longer should be added up."""

ALONE: t.Final = "flask_llm_cost"
"""The import name of the app that commands make where there is none."""


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
)
@with_appcontext
def doctor(form: str) -> None:
    """Check what keeps calls from being captured, priced and stored.

    Looks at the settings, the database and its tables, the spool, the prices and the last
    call. It writes nothing but a small file beside the spool, which it deletes at once.
    Ends with 1 if there is an error; a warning is none.
    """
    host: Host = current_app.extensions["llm_cost"]
    show((found for check in CHECKS for found in check(host)), form)


def configuration(host: Host) -> Iterator[Finding]:
    """Is anything captured at all, and where does it go?"""
    settings = host.settings
    if not settings.enabled:
        yield Finding(
            "warn",
            "configuration",
            "LLM_COST_ENABLED is False: nothing is captured.",
        )
    elif settings.storage not in ("database", "jsonl"):
        where = settings.storage if isinstance(settings.storage, str) else "a callable"
        yield Finding(
            "warn",
            "configuration",
            f"LLM_COST_STORAGE is {where}: calls do not reach the ledger.",
        )
    else:
        yield Finding(
            "ok",
            "configuration",
            f"capture is on, writing by {settings.write}, days of {settings.timezone}.",
        )


def database(host: Host) -> Iterator[Finding]:
    """Can the ledger be reached, and are its tables those of this version?"""
    from ..query.health import ledger_timezone

    ledger = host.ledger
    try:
        with ledger.reading() as connection:
            zone = ledger_timezone(connection)
    except SetupRequired as error:
        yield Finding("ok", "database", f"{ledger.label} can be reached.")
        yield Finding.failed("schema", error)
    except StorageError as error:
        yield Finding.failed("database", error)
    else:
        yield Finding("ok", "database", f"{ledger.label} can be reached.")
        if ledger.schema is not None:
            yield Finding("ok", "schema", f"version {ledger.schema.current()}.")
        if zone not in (None, str(host.settings.timezone)):
            yield Finding(
                "error",
                "timezone",
                f"the ledger's days are those of {zone}, and LLM_COST_TIMEZONE is"
                f" {host.settings.timezone}: run `flask llm-cost ledger rezone`, or set"
                " it back.",
            )


def columns(host: Host) -> Iterator[Finding]:
    """Has each table the columns that its version says it has?"""
    from ..query.health import missing_columns

    try:
        with host.ledger.reading(fresh=True) as connection:
            missing = missing_columns(connection)
    except StorageError:
        return  # said by database() already
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        yield Finding(
            "error",
            "columns",
            f"the database lacks {', '.join(missing[:5])}{more}, though its version is"
            " that of this package: something else changed the tables. Put them back from"
            " a backup; `flask llm-cost db sql` prints what they were made with.",
        )


def replica(host: Host) -> Iterator[Finding]:
    """Is the replica that pages ask as new as the ledger?"""
    copy = host.ledger.replica
    if copy is None:
        return
    behind = copy.lag()
    if behind is not None:
        late = behind > dt.timedelta(minutes=1)
        yield Finding(
            "warn" if late else "ok",
            "replica",
            f"its latest call is {behind.total_seconds():,.0f} s older than the ledger's.",
        )
    else:
        yield Finding(
            "warn",
            "replica",
            "it cannot be said whether it is behind: the ledger is empty, or it or the"
            " replica cannot be asked.",
        )


def partitions(host: Host) -> Iterator[Finding]:
    """Where the table of calls has partitions: has the next month one?"""
    from ..query.health import partition_health

    try:
        with host.ledger.reading(fresh=True) as connection:
            found = partition_health(connection)
    except StorageError:
        return  # said by database() already
    if found.interrupted:
        yield Finding(
            "error",
            "partitions",
            "setting them up broke off, and calls of later months are refused: run"
            " `flask llm-cost partition` again.",
        )
    end = found.end
    if not found.count or end is None:
        return
    # Nothing is lost then, but what lies together is not dropped month by month.
    ahead = (end - host.clock()).days
    status: Status = "warn" if ahead < 31 else "ok"
    hint = ": run `flask llm-cost partition`, and have it run monthly" * (ahead < 31)
    yield Finding(
        status,
        "partitions",
        f"{found.count}, the last month ends {end:%Y-%m-%d}{hint}.",
    )


def spool(host: Host) -> Iterator[Finding]:
    """Can calls be taken down, and are they written on?"""
    files = host.settings.storage == "jsonl"
    if host.settings.write != "spool" and not files:
        yield Finding("ok", "spool", "not used: calls are written at once.")
        return
    folder = host.ledger.folder
    try:
        _try_to_write(folder)
        queue, waiting = host.ledger.queue, queued_calls(host.ledger)
        since = None if queue is None else queue.since()
    except OSError as error:
        otherwise = "" if files else " if the database is away"
        yield Finding(
            "error",
            "spool",
            f"{folder} cannot be written ({error.strerror or error}): calls are"
            f" lost{otherwise}. Make room, make it writable, or set"
            f" LLM_COST_{'JSONL' if files else 'SPOOL'}_DIR.",
        )
        return
    if not waiting or since is None:
        yield Finding("ok", "spool", f"{folder} can be written, nothing waits.")
        return
    # By the files' own clock, and not by the app's.
    age = max(dt.datetime.now(dt.UTC) - since, dt.timedelta())
    told = f"{count(waiting, 'call')} in {folder} not written yet"
    if age < _STUCK:
        yield Finding("ok", "spool", f"{told}, which takes a moment.")
    else:
        yield Finding(
            "warn",
            "spool",
            f"{told}, the oldest for {age.total_seconds() / 60:,.0f} min. Run"
            " `flask llm-cost drain` and see what it says.",
        )


def aside(host: Host) -> Iterator[Finding]:
    """Are there lines that cannot be stored?"""
    queue = host.ledger.queue
    if queue is None:
        return
    try:
        files = queue.rejected()
        lines = sum(len(path.read_bytes().splitlines()) for path in files)
    except OSError as error:
        yield Finding("error", "set aside", f"cannot be read: {error}.")
        return
    if files:
        yield Finding(
            "warn",
            "set aside",
            f"{count(lines, 'line')} could not be stored: see {files[0]}"
            + (f" and {count(len(files) - 1, 'more file')}" if files[1:] else "")
            + ". `flask llm-cost ledger requeue` tries them again.",
        )


def lost(host: Host) -> Iterator[Finding]:
    """Did this process lose calls?"""
    if host.ledger.lost:
        yield Finding(
            "error",
            "lost",
            f"{count(host.ledger.lost, 'call')} of this process could neither be taken"
            " down nor be stored. The app's log has the reasons, on logger"
            " flask_llm_cost.",
        )


def _try_to_write(folder: Path) -> None:
    """Write a small file there, or where the folder would be made, and delete it.

    The folder itself is not made: it would belong to whoever asks the doctor.

    :raises OSError: If that does not work.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    fd, name = tempfile.mkstemp(prefix=".llm-cost-doctor-", dir=there)
    try:
        # More than what is kept of a file for its name.
        if os.write(fd, bytes(_TRIAL_BYTES)) < _TRIAL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)
        os.unlink(name)


def prices(host: Host) -> Iterator[Finding]:
    """Is there a price book, and of when?"""
    try:
        updated = host.book.updated_at
    except LlmCostError as error:
        yield Finding.failed("prices", error)
        return
    if host.book.problem is not None:
        yield Finding.failed("prices", LlmCostError(host.book.problem))
    if not host.book.stale(host.clock()):
        yield Finding("ok", "prices", f"of {updated}.")
        return
    age = "of unknown age" if updated is None else f"of {updated}, over 30 days old"
    yield Finding(
        "warn",
        "prices",
        f"{age}: install a newer version of Flask-LLM-Cost, or set what changed in"
        " LLM_COST_PRICES_FILE.",
    )


def calls(host: Host) -> Iterator[Finding]:
    """When was the last call, and are the late ones priced?"""
    from ..calendar import END
    from ..query.filters import CallFilter
    from ..query.listing import top_calls
    from ..query.totals import breakdown
    from ..query.totals import sum_up

    now = host.clock()
    month = CallFilter(start=now - dt.timedelta(days=30))
    try:
        with host.ledger.reading() as connection:
            last = top_calls(connection, CallFilter(end=END), sort="recent", limit=1)
            models = breakdown(connection, month, "provider", "model")
    except StorageError:
        return  # said by database() already
    if not last:
        yield Finding(
            "warn",
            "calls",
            "none yet: mount llm_cost.adapter() on the session that calls the LLM.",
        )
        return
    at = last[0].started_at.astimezone(host.settings.timezone)
    yield Finding("ok", "calls", f"the last was sent at {at:%Y-%m-%d %H:%M:%S %Z}.")
    totals = sum_up(group.totals for group in models)
    if totals.unpriced:
        names = [
            fit("/".join(group.key), 60).rstrip()
            for group in models
            if group.totals.unpriced
        ]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield Finding(
            "warn",
            "pricing",
            f"{totals.unpriced:,} of {count(totals.calls, 'call')} in 30 days have no"
            f" price: {', '.join(names[:5])}{more}. See `prices explain`.",
        )


def sums(host: Host) -> Iterator[Finding]:
    """Are the hours that are over added up?"""
    from ..query.health import dirty_hours

    if host.ledger.rollups is None:
        return
    hour = dt.timedelta(hours=1)
    late = host.clock() - _UNROLLED - hour
    try:
        with host.ledger.reading(fresh=True) as connection:
            waiting = [start for start in dirty_hours(connection) if start < late]
    except StorageError:
        return  # said by database() already
    if not waiting:
        yield Finding("ok", "sums", "calls are added up by hour and day.")
        return
    first = min(waiting).astimezone(host.settings.timezone)
    yield Finding(
        "warn",
        "sums",
        f"{count(len(waiting), 'hour')}, the first {first:%Y-%m-%d %H:%M %Z}, not added up"
        " yet. Pages are right, but slower. The app does so once a minute while it runs; if"
        " that does not change, its log says why, on logger flask_llm_cost.",
    )


def clients(host: Host) -> Iterator[Finding]:
    """Is what the installed SDKs send captured?"""
    from ..capture.clients import ways
    from ..query.filters import CallFilter
    from ..query.totals import breakdown
    from .installed import look

    # Without an app (`python -m flask_llm_cost`) no one makes any client here.
    if not host.settings.enabled or current_app.import_name == ALONE:
        return
    month = CallFilter(start=host.clock() - dt.timedelta(days=30))
    seen: set[str] = set()
    try:
        with host.ledger.reading() as connection:
            seen = {group.key[0] for group in breakdown(connection, month, "provider")}
    except StorageError:
        pass  # said by database() already
    yield from look(ways(), seen)


def tags(host: Host) -> Iterator[Finding]:
    """Is there a tag that differs with each call?"""
    from ..query.health import tag_overflows
    from ..query.tags import variety

    try:
        with host.ledger.reading() as connection:
            found = variety(connection)
            overflows = tag_overflows(connection)
    except StorageError:
        return  # said by database() already
    if found.unique:
        yield Finding(
            "warn",
            "tags",
            f"{found.sets:,} sets of tags for {count(found.calls, 'call')}: the tag"
            f" {found.key} alone has {found.values:,} values. Sets are stored once each, so"
            " one for every call makes the ledger several times larger and tag pages slow."
            " Name the tag trace_id, which has a column of its own, or leave it out.",
        )
    for tag in overflows:
        yield Finding(
            "warn",
            "tags",
            f"{tag.key} has had over {tag.limit:,} values in a day, and is not aggregated"
            f" since {tag.since:%Y-%m-%d}. Remove it from LLM_COST_ROLLUP_TAGS and run"
            f" `flask llm-cost tags forget {tag.key}`.",
        )


CHECKS: t.Final[tuple[Callable[[Host], Iterator[Finding]], ...]] = (
    configuration,
    clients,
    database,
    columns,
    replica,
    partitions,
    spool,
    aside,
    lost,
    prices,
    calls,
    sums,
    tags,
)
