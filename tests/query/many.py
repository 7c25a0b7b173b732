"""Many calls of a year, made by the database itself: fast, and the same each time."""

from __future__ import annotations

import datetime as dt
import typing as t

import sqlalchemy as sa

from flask_llm_cost.calendar import utc_ms

END: t.Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SETS: t.Final = 20_000
_MODELS: t.Final = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4"),
    ("anthropic", "claude-haiku-4"),
    ("gemini", "gemini-2.5-pro"),
    ("mistral", "mistral-large"),
)


def _numbers(dialect: str, first: int, last: int) -> str:
    """A table with a column ``i`` of these numbers."""
    if dialect == "postgresql":
        return f"(SELECT i FROM generate_series({first}::bigint, {last}) AS g(i)) AS numbers"
    if dialect == "sqlite":
        return (
            f"(WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n"
            f" WHERE i < {last}) SELECT i FROM n) AS numbers"
        )
    return f"(SELECT seq AS i FROM seq_{first}_to_{last}) AS numbers"


def _event_id(dialect: str, ms: str) -> str:
    if dialect == "postgresql":
        return (
            f"CAST(lpad(to_hex(({ms})::bigint), 12, '0') || '7000' || '8000'"
            " || lpad(to_hex(i), 12, '0') AS uuid)"
        )
    if dialect == "sqlite":
        return f"printf('%012x70008000%012x', {ms}, i)"
    high, low = f"LPAD(LOWER(HEX({ms})), 12, '0')", "LPAD(LOWER(HEX(i)), 12, '0')"
    return f"CONCAT(LEFT({high}, 8), '-', RIGHT({high}, 4), '-7000-8000-', {low})"


def _case(number: str, values: t.Sequence[str]) -> str:
    whens = " ".join(f"WHEN {n} THEN '{value}'" for n, value in enumerate(values))
    return f"CASE {number} {whens} END"


def _text(dialect: str, *parts: str) -> str:
    if dialect in ("postgresql", "sqlite"):
        return " || ".join(p if p[0] == "'" else f"CAST({p} AS TEXT)" for p in parts)
    return f"CONCAT({', '.join(parts)})"


def fill(
    engine: sa.Engine, count: int, *, days: int = 365, batch: int = 500_000
) -> None:
    """Put so many calls of the year's last days into an empty ledger, and mark their hours."""
    name = engine.dialect.name
    with engine.begin() as connection:
        for statement in _tags(name):
            _run(connection, statement)
    for first in range(0, count, batch):
        with engine.begin() as connection:
            last = min(first + batch, count) - 1
            _run(connection, _calls(name, count, days, first, last))
    with engine.begin() as connection:
        _run(
            connection,
            "INSERT INTO llm_cost_dirty_marks (id, hour) SELECT DISTINCT"
            " started_at - started_at % 3600000, started_at - started_at % 3600000"
            " FROM llm_cost_calls",
        )
        if name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
        elif name != "sqlite":
            connection.exec_driver_sql("ANALYZE TABLE llm_cost_calls")


def _run(connection: sa.Connection, statement: str) -> None:
    if connection.dialect.name != "sqlite":
        statement = statement.replace("%", "%%")  # as those drivers write it
    connection.exec_driver_sql(statement)


def _tags(dialect: str) -> t.Iterator[str]:
    values = {"feature": ("f", 5), "tenant": ("t", 40), "user": ("u", 997)}
    numbers = _numbers(dialect, 1, SETS)
    parts = ["'{'"]
    for n, (key, (prefix, size)) in enumerate(values.items()):
        comma = "," if n else ""
        parts += [f"""'{comma}"{key}":"{prefix}'""", f"(i % {size})", "'\"'"]
    text = _text(dialect, *parts, "'}'")
    yield (
        "INSERT INTO llm_cost_tag_sets (id, tags, seen_at)"
        f" SELECT i, {text}, {utc_ms(END)} FROM {numbers}"
    )
    column = "key" if dialect in ("postgresql", "sqlite") else "`key`"
    for key, (prefix, size) in values.items():
        value = _text(dialect, f"'{prefix}'", f"(i % {size})")
        yield (
            f"INSERT INTO llm_cost_tag_values (tag_set_id, {column}, value)"
            f" SELECT i, '{key}', {value} FROM {numbers}"
        )


def _calls(dialect: str, count: int, days: int, first: int, last: int) -> str:
    begin = END - dt.timedelta(days=days)
    step = (utc_ms(END) - utc_ms(begin)) // count
    ms = f"{utc_ms(begin)} + CAST(i AS {_bigint(dialect)}) * {step}"
    model = f"((i * 7) % {len(_MODELS)})"
    stream = (
        "(i % 3) = 0"
        if dialect == "postgresql"
        else "CASE i % 3 WHEN 0 THEN 1 ELSE 0 END"
    )
    yes = "TRUE" if dialect == "postgresql" else "1"
    known = "(i % 50) <> 0"
    columns = {
        "started_at": ms,
        "event_id": _event_id(dialect, ms),
        "provider": _case(model, [provider for provider, _ in _MODELS]),
        "model": _case(model, [name for _, name in _MODELS]),
        "operation": "'chat'",
        "stream": stream,
        "usage_source": "'response'",
        "outcome": "'ok'",
        "http_status": "200",
        "response_id": _text(dialect, "'resp_'", "i"),
        "latency_ms": "(i % 9001) + 80",
        **dict.fromkeys(
            (
                "input_audio_tokens",
                "input_image_tokens",
                "cache_write_tokens",
                "cache_write_1h_tokens",
                "output_audio_tokens",
                "output_image_tokens",
                "other_tokens",
                "reasoning_tokens",
            ),
            "0",
        ),
        "input_tokens": "(i % 1999) + 10",
        "cache_read_tokens": "(i % 5) * 100",
        "output_tokens": "(i % 499) + 1",
        "total_input_tokens": "(i % 1999) + 10 + (i % 5) * 100",
        "total_output_tokens": "(i % 499) + 1",
        "cost_total": f"CASE WHEN {known} THEN ((i % 1999) + 10) * 2500000 END",
        "cost_input": f"CASE WHEN {known} THEN ((i % 1999) + 10) * 2500000 END",
        **{
            name: f"CASE WHEN {known} THEN 0 END"
            for name in (
                "cost_cache_read",
                "cost_cache_write",
                "cost_output",
                "cost_units",
            )
        },
        "cost_source": f"CASE WHEN {known} THEN 'bundled' END",
        "cost_complete": f"CASE WHEN {known} THEN {yes} END",
        "tag_set_id": f"CASE WHEN (i % 10) <> 0 THEN (i % {SETS}) + 1 END",
        "flags": "''",
    }
    return (
        f"INSERT INTO llm_cost_calls ({', '.join(columns)})"
        f" SELECT {', '.join(columns.values())} FROM {_numbers(dialect, first, last)}"
    )


def _bigint(dialect: str) -> str:
    return "BIGINT" if dialect in ("postgresql", "sqlite") else "SIGNED"
