"""``doctor``: finds out why calls are not captured, priced or stored."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from ..budgets import read_budgets
from ..errors import LlmCostError
from ..errors import SetupRequired
from ..errors import StorageError
from .findings import Finding
from .findings import show
from .gaps import saturated
from .gaps import unrecorded
from .gaps import without_cost
from .queued import lost
from .queued import other_databases
from .queued import rejected
from .queued import spool
from .surroundings import files
from .surroundings import migrations
from .surroundings import network
from .surroundings import standalone
from .surroundings import standard_library
from .text import count
from .text import listed
from .text import text_or_json

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..query.filters import CallFilter
    from ..query.host import Host

_OVERDUE: t.Final = dt.timedelta(hours=2)
"""The rollups of an hour should be built this long after its end."""

_T = t.TypeVar("_T")


@click.command()
@text_or_json
@with_appcontext
def doctor(form: str) -> None:
    """Find out why calls are not captured, priced or stored.

    Checks the settings, the installed clients, the database and its tables, the spool, the
    prices, the last call, rollups and tags. Writes only a small file next to the spool,
    which is deleted at once. Exits with status 1 on any error; warnings alone exit 0.
    """
    host: Host = current_app.extensions["llm_cost"]
    show((found for check in CHECKS for found in check(host)), form)


def configuration(host: Host) -> Iterator[Finding]:
    """Check that calls are captured and reach the ledger."""
    settings = host.settings
    if not settings.enabled:
        message = "LLM_COST_ENABLED is False: nothing is captured."
        yield Finding("warn", "configuration", message)
    elif settings.storage not in ("database", "jsonl"):
        where = settings.storage if isinstance(settings.storage, str) else "a callable"
        message = f"LLM_COST_STORAGE is {where}: calls do not reach the ledger."
        yield Finding("warn", "configuration", message)
    else:
        yield Finding(
            "ok",
            "configuration",
            f"capture is enabled, write mode {settings.write}, time zone"
            f" {settings.timezone}.",
        )
    if settings.storage != "database" and read_budgets(settings):
        yield Finding(
            "warn",
            "budgets",
            "budgets are counted only in a database. With another LLM_COST_STORAGE, each"
            " call is checked on its own.",
        )


def clients(host: Host) -> Iterator[Finding]:
    """Check that the calls of installed SDKs are captured."""
    from ..capture.clients import unsupported
    from ..capture.clients import ways
    from ..query.aggregate import breakdown
    from .installed import look

    # A standalone command has no app that could create a client.
    if not host.settings.enabled or standalone():
        return
    month = _last_30_days(host)
    groups = _read(host, lambda connection: breakdown(connection, month, "provider"))
    seen = {group.key[0] for group in groups or ()}
    yield from look(ways(), seen, unsupported())


def database(host: Host) -> Iterator[Finding]:
    """Check that the ledger can be reached, and its schema and time zone."""
    from ..query.health import ledger_timezone

    ledger = host.ledger
    problem = zone = None
    try:
        with ledger.reading() as connection:
            zone = ledger_timezone(connection)
    except SetupRequired as error:
        problem = error
    except StorageError as error:
        yield Finding.failed("database", error)
        return
    yield Finding("ok", "database", f"{ledger.label} can be reached.")
    if problem is not None:
        yield Finding.failed("schema", problem)
    elif ledger.schema is not None:
        yield Finding("ok", "schema", f"version {ledger.schema.current()}.")
    if zone not in (None, str(host.settings.timezone)):
        yield Finding(
            "error",
            "timezone",
            f"the ledger uses the time zone {zone}, but LLM_COST_TIMEZONE is"
            f" {host.settings.timezone}. Run `flask llm-cost ledger rezone`, or change the"
            " setting back.",
        )


def columns(host: Host) -> Iterator[Finding]:
    """Check that the tables have all columns of their version."""
    from ..query.health import missing_columns

    missing = _read(host, missing_columns, fresh=True)
    if missing:
        yield Finding(
            "error",
            "columns",
            f"the database has no {listed(missing)}, although its schema version is"
            " current. Something else changed the tables: restore them from a backup."
            " `flask llm-cost db sql` prints their definition.",
        )


def replica(host: Host) -> Iterator[Finding]:
    """Check that the replica that pages read is up to date."""
    if host.ledger.replica is None:
        return
    lag = host.ledger.replica.lag()
    if lag is None:
        yield Finding(
            "warn",
            "replica",
            "its lag is unknown: the ledger is empty, or one of the two cannot be"
            " reached.",
        )
        return
    yield Finding(
        "warn" if lag > dt.timedelta(minutes=1) else "ok",
        "replica",
        f"its latest call is {lag.total_seconds():,.0f} s older than the ledger's.",
    )


def partitions(host: Host) -> Iterator[Finding]:
    """Check that a partitioned table of calls has a partition for the next month."""
    from ..query.health import partition_health

    found = _read(host, partition_health, fresh=True)
    if found is None:
        return
    if found.interrupted:
        yield Finding(
            "error",
            "partitions",
            "the setup did not finish, and calls of later months are rejected. Run `flask"
            " llm-cost partition` again.",
        )
    if not found.count or found.end is None:
        return
    message = f"{found.count}, the last month ends {found.end:%Y-%m-%d}."
    if (found.end - host.clock()).days >= 31:
        yield Finding("ok", "partitions", message)
        return
    # Later calls would be stored, but could not be dropped month by month.
    hint = "Run `flask llm-cost partition`, and schedule it monthly."
    yield Finding("warn", "partitions", f"{message} {hint}")


def prices(host: Host) -> Iterator[Finding]:
    """Check the price book and its age."""
    try:
        updated = host.book.updated_at
    except LlmCostError as error:
        yield Finding.failed("prices", error)
        return
    if host.book.problem is not None:
        yield Finding.failed("prices", LlmCostError(host.book.problem))
    if not host.book.stale(host.clock()):
        yield Finding("ok", "prices", f"updated {updated}.")
        return
    age = (
        "of unknown age" if updated is None else f"updated {updated}, over 30 days ago"
    )
    yield Finding(
        "warn",
        "prices",
        f"{age}. Install a newer version of Flask-LLM-Cost, or add changed prices to"
        " LLM_COST_PRICES_FILE.",
    )


def calls(host: Host) -> Iterator[Finding]:
    """Report the last call, and why recent calls have no cost."""
    from ..calendar import END
    from ..query.aggregate import totals
    from ..query.filters import CallFilter
    from ..query.listing import top_calls
    from ..query.quality import gaps

    every, month = CallFilter(end=END), _last_30_days(host)
    last = _read(host, lambda c: top_calls(c, every, sort="recent", limit=1))
    found = _read(host, lambda c: gaps(c, month))
    if last is None or found is None:
        return
    if not last:
        captured = host.settings.instrument
        hint = (
            f"These clients are captured: {', '.join(captured)}. Make a call"
            if captured
            else "Call LlmCost(app, instrument=True), or mount llm_cost.adapter() on the"
            " session that calls the LLM"
        )
        yield Finding("warn", "calls", f"none yet. {hint}.")
        return
    at = last[0].started_at.astimezone(host.settings.timezone)
    yield Finding("ok", "calls", f"the last one was sent at {at:%Y-%m-%d %H:%M:%S %Z}.")
    yield from without_cost(found, " in the last 30 days")
    if (whole := _read(host, lambda c: totals(c, month))) is not None:
        yield from saturated(whole)


def unlisted_hosts(host: Host) -> Iterator[Finding]:
    """Report unlisted hosts whose calls were seen, but not recorded."""
    from ..query.unlisted import unlisted

    found = _read(host, lambda c: unlisted(c, host.settings, host.clock()))
    if found is not None:
        yield from unrecorded(found)


def rollups(host: Host) -> Iterator[Finding]:
    """Check that rollups are up to date."""
    from ..query.health import dirty_hours

    if host.ledger.rollups is None:
        return
    dirty = _read(host, dirty_hours, fresh=True)
    if dirty is None:
        return
    limit = host.clock() - _OVERDUE - dt.timedelta(hours=1)
    overdue = [start for start in dirty if start < limit]
    if not overdue:
        yield Finding("ok", "rollups", "up to date.")
        return
    first = min(overdue).astimezone(host.settings.timezone)
    yield Finding(
        "warn",
        "rollups",
        f"{count(len(overdue), 'hour')} not aggregated yet, the first"
        f" {first:%Y-%m-%d %H:%M %Z}. Pages are correct, but slower. The app updates"
        " rollups once a minute while it runs. If this persists, its log has the reason"
        " (logger flask_llm_cost).",
    )


def tags(host: Host) -> Iterator[Finding]:
    """Check for tags with too many values."""
    from ..query.health import tag_overflows
    from ..query.tags import variety

    found = _read(host, variety)
    if found is not None and found.unique:
        yield Finding(
            "warn",
            "tags",
            f"{count(found.calls, 'call')} have {found.sets:,} different sets of tags; the"
            f" tag {found.key} alone has {found.values:,} values. Each set is stored once,"
            " so a tag that is unique per call makes the ledger several times larger, and"
            " tag pages slow. Use the tag trace_id, which has its own column, or remove the"
            " tag.",
        )
    for tag in _read(host, tag_overflows) or ():
        yield Finding(
            "warn",
            "tags",
            f"{tag.key} had more than {tag.limit:,} values in a day, and has not been"
            f" aggregated since {tag.since:%Y-%m-%d}. Remove it from LLM_COST_ROLLUP_TAGS"
            f" and run `flask llm-cost tags forget {tag.key}`.",
        )


CHECKS: t.Final[tuple[Callable[[Host], Iterator[Finding]], ...]] = (
    configuration,
    clients,
    standard_library,
    database,
    columns,
    files,
    migrations,
    replica,
    partitions,
    spool,
    other_databases,
    network,
    rejected,
    lost,
    prices,
    calls,
    unlisted_hosts,
    rollups,
    tags,
)


def _read(
    host: Host, question: Callable[[sa.Connection], _T], *, fresh: bool = False
) -> _T | None:
    """Query the ledger; ``None`` if it cannot be read, which :func:`database` reports."""
    try:
        with host.ledger.reading(fresh=fresh) as connection:
            return question(connection)
    except StorageError:
        return None


def _last_30_days(host: Host) -> CallFilter:
    from ..query.filters import CallFilter

    return CallFilter(start=host.clock() - dt.timedelta(days=30))
