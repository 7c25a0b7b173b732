"""Print the calls of llm_cost_tracker's table as lines for ``flask llm-cost calls import``."""

import datetime as dt
import decimal
import json
import sys

import sqlalchemy as sa

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.event_id import derive_event_id
from flask_llm_cost.jsonl import encode


def call_of(row):
    started_at = row["tracked_at"]
    if isinstance(started_at, str):  # SQLite
        started_at = dt.datetime.fromisoformat(started_at)
    if started_at.tzinfo is None:  # Rails stores UTC
        started_at = started_at.replace(tzinfo=dt.UTC)
    started_at = started_at.replace(microsecond=started_at.microsecond // 1000 * 1000)
    tags = row["tags"] or {}
    tags = json.loads(tags) if isinstance(tags, str) else tags
    return Call(
        event_id=derive_event_id(started_at, f"llm_cost_tracker:{row['id']}"),
        started_at=started_at,
        provider=row["provider"],
        model=row["model"],
        usage=usage_of(row),
        usage_source="unknown" if row["usage_source"] == "unknown" else "response",
        cost=cost_of(row),
        latency_ms=row["latency_ms"],
        stream=bool(row["stream"]),
        response_id=row.get("provider_response_id"),
        tags={key: str(value) for key, value in tags.items()},
    )


def usage_of(row):
    if row["usage_source"] == "unknown":  # its counts are zeros
        return None
    return Usage(
        input_tokens=row["input_tokens"],
        cache_read_tokens=row.get("cache_read_input_tokens") or 0,
        cache_write_tokens=row.get("cache_write_input_tokens") or 0,
        output_tokens=row["output_tokens"],
    )


def cost_of(row):
    if row["total_cost"] is None:
        return None
    total = decimal.Decimal(str(row["total_cost"]))
    part = Part(decimal.Decimal(1), total, total)
    return Cost(total, {"reported": part}, "file", price_key="llm_cost_tracker")


def main(url):
    engine = sa.create_engine(url)
    table = sa.Table("llm_api_calls", sa.MetaData(), autoload_with=engine)
    with engine.connect().execution_options(yield_per=1000) as connection:
        for row in connection.execute(sa.select(table).order_by(table.c.id)):
            sys.stdout.buffer.write(encode(call_of(dict(row._mapping))))


if __name__ == "__main__":
    main(sys.argv[1])
