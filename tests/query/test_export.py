"""CSV for people: all columns, no cell a spreadsheet runs, nothing lost in quoting."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import json
import pathlib
import typing as t
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.query import export
from flask_llm_cost.query.export import COLUMNS
from flask_llm_cost.query.export import csv_line
from flask_llm_cost.query.export import csv_lines
from flask_llm_cost.query.export import safe
from flask_llm_cost.query.filters import CallFilter

from .samples import cost_of
from .samples import make_call
from .samples import Store

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"

AT = dt.datetime(2026, 11, 18, 14, 3, 22, 120_000, tzinfo=dt.UTC)
HOSTILE = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\uff1d1",
    "\u200b=1",
    'a "b", c',
    "a\rb\nc",
)


def a_call(at: dt.datetime = AT, **changes: t.Any) -> Call:
    usage = Usage(
        input_tokens=90,
        input_image_tokens=10,
        cache_read_tokens=1024,
        output_tokens=20,
        output_audio_tokens=10,
        other_tokens={"input_video": 3},
        reasoning_tokens=10,
    )
    values: dict[str, t.Any] = {
        "usage": usage,
        "cost": cost_of("0.001230000001"),
        "stream": True,
        "latency_ms": 840,
        "response_id": "chatcmpl-1",
        "tags": {"feature": "=1+1", "who": 'a "b"'},
        "flags": frozenset({"derived", "borrowed_price"}),
    }
    return make_call(at, **values | changes)


def several() -> list[Call]:
    """Calls with all that a cell may hold, the latest first."""
    found = [
        a_call(),
        a_call(
            usage=None, usage_source="missing", cost=None, response_id=None, tags={}
        ),
        a_call(stream=False, latency_ms=None, flags=frozenset()),
        a_call(tags={"who": "\u00e9\u4e16\U0001f600\\ \r\n,"}, trace_id=""),
    ]
    found += [
        a_call(
            provider=text,
            model=text,
            response_id=text,
            trace_id=text,
            scope=text,
            tags={text.strip() or "k": text},
        )
        for text in HOSTILE
    ]
    amounts = ("0", "1", "1000", "0.000000000001", "12.5", "9000000.100000000001")
    found += [a_call(cost=cost_of(usd)) for usd in amounts]
    found += [
        a_call(cost=cost_of("1", complete=False, more=more))
        for more in (None, *amounts)
    ]
    return [
        dataclasses.replace(call, started_at=at, event_id=mint_event_id(at))
        for number, call in enumerate(found)
        for at in [AT - dt.timedelta(milliseconds=20_999 * number)]
    ]


def spelled_out(call: Call) -> list[t.Any]:
    """The cells of a call, as slowly and plainly as they can be written."""
    usage = call.usage
    return [
        call.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        call.event_id,
        call.provider,
        call.model,
        call.operation,
        *(
            [None] * 8
            if usage is None
            else [
                usage.input_tokens
                + usage.input_audio_tokens
                + usage.input_image_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
                usage.cache_write_1h_tokens,
                usage.output_tokens
                + usage.output_audio_tokens
                + usage.output_image_tokens,
                sum(usage.other_tokens.values()),
                usage.reasoning_tokens,
                usage.total_input_tokens + usage.total_output_tokens,
            ]
        ),
        None if call.cost is None else call.cost.total_usd,
        None if call.cost is None else call.cost.ceiling_usd,
        None if call.cost is None else "yes" if call.cost.complete else "no",
        None if call.cost is None else call.cost.source,
        call.latency_ms,
        "yes" if call.stream else "no",
        call.usage_source,
        call.outcome,
        call.response_id,
        call.trace_id,
        call.scope,
        " ".join(sorted(call.flags)),
        json.dumps(
            dict(sorted(call.tags.items())), ensure_ascii=False, separators=(",", ":")
        ),
    ]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_row_has_every_column(sqlite: Store) -> None:
    call = a_call()
    sqlite.fill(call)
    head, line = read("".join(csv_lines(sqlite.reading, CallFilter())))
    assert head == list(COLUMNS)
    values = dict(zip(head, line, strict=True))
    assert values["started_at"] == "2026-11-18T14:03:22.120Z"
    assert values["event_id"] == call.event_id
    assert values["input_tokens"] == "100"
    assert values["total_tokens"] == "1157"
    assert values["cost_usd"] == "0.001230000001"
    assert values["ceiling_usd"] == "0.001230000001"
    assert values["complete"] == "yes"
    assert values["stream"] == "yes"
    assert values["flags"] == "borrowed_price derived"
    assert json.loads(values["tags"]) == call.tags


def test_every_byte_is_what_the_cells_spell_out(store: Store) -> None:
    found = several()
    store.fill(*found)
    lines = list(csv_lines(store.reading, CallFilter()))
    assert lines[0] == csv_line(COLUMNS)
    assert lines[1:] == [csv_line(spelled_out(call)) for call in found]


def test_declared_tags_have_columns_of_their_own(store: Store) -> None:
    at = AT + dt.timedelta(seconds=1)
    store.fill(make_call(AT, tags={"a": "=1", "b": 'x,"y"'}), make_call(at, tags={}))
    keys = ("b", "none", "a")
    head, bare, full = read("".join(csv_lines(store.reading, CallFilter(), keys)))
    assert head == [*COLUMNS, "tag.b", "tag.none", "tag.a"]
    assert bare[-4:] == ["{}", "", "", ""]
    assert full[-3:] == ['x,"y"', "", "'=1"]


def test_an_export_streams_every_row_the_latest_first(store: Store) -> None:
    found = [make_call(AT - dt.timedelta(seconds=n // 3)) for n in range(2100)]
    store.fill(*found)
    _, *rows = read("".join(csv_lines(store.reading, CallFilter())))
    order = sorted(found, key=lambda c: (c.started_at, c.event_id), reverse=True)
    assert [row[1] for row in rows] == [call.event_id for call in order]


def test_an_export_holds_no_connection_between_batches(sqlite: Store) -> None:
    sqlite.fill(*(make_call(AT - dt.timedelta(seconds=n)) for n in range(1500)))
    lines = csv_lines(sqlite.reading, CallFilter())
    for _ in range(1002):
        next(lines)
    assert sqlite.engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    assert len(list(lines)) == 499


def test_money_is_exact_and_never_in_exponents() -> None:
    assert csv_line([Decimal("1E-12")]) == "0.000000000001\n"
    assert csv_line([Decimal("0E-12")]) == "0\n"
    assert csv_line([Decimal(1000)]) == "1000\n"


@given(st.integers(-(2**63), 2**63 - 1))
def test_stored_money_is_written_as_the_decimal_is(pico: int) -> None:
    assert f"{export._usd(pico)}\n" == csv_line([Decimal(pico).scaleb(-12)])


@given(
    st.characters(codec="ascii", categories=["L", "N"]),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_what_begins_with_a_letter_begins_so_in_every_form(
    first: str, rest: str
) -> None:
    # Such a text is not composed at all: it must never have to be.
    plain = unicodedata.normalize("NFKC", first + rest)
    assert unicodedata.category(plain[0])[0] in "LN"
    assert safe(first + rest) == first + rest


def test_unknown_is_an_empty_cell_and_not_0() -> None:
    assert csv_line([None, 0, "x"]) == ",0,x\n"


@pytest.mark.parametrize(
    "text",
    [
        "=1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "  =1",
        "\u00a0=1",
        "\ufeff=1",
        "\u200b=1",
        "\uff1d1",
        "\ufe0f=1",
        "\u3164=1",
        "\0=1",
    ],
)
def test_what_a_spreadsheet_would_run_is_defused(text: str) -> None:
    assert safe(text) == "'" + text


@pytest.mark.parametrize("text", ["gpt-4o", "'=1", "a=1", "{}", "|cmd", "", "é"])
def test_plain_text_is_left_alone(text: str) -> None:
    assert safe(text) == text


def test_negative_numbers_are_no_formulas() -> None:
    assert csv_line([-1, Decimal("-0.5")]) == "-1,-0.5\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2))
def test_a_line_reads_back_as_it_was(texts: list[str]) -> None:
    kept = [text.replace("\0", "") for text in texts]
    assert read(csv_line(kept)) == [[safe(text) for text in kept]]


def _vectors() -> list[dict[str, t.Any]]:
    path = SHARED / "vectors" / "csv.json"
    if not path.exists():
        return []
    found: list[dict[str, t.Any]] = json.loads(path.read_text())["vectors"]
    return [v for v in found if v["kind"] == "cell"]


@pytest.mark.skipif(not SHARED.exists(), reason="no ../shared")
def test_cells_hold_as_recorded() -> None:
    for vector in _vectors():
        if "better" in vector:
            # Decided otherwise: "prefix when first char OR first non-space char is
            # dangerous", "strip all Unicode space/format characters before the test".
            assert safe(vector["cell"]) == "'" + vector["cell"], vector["id"]
        else:
            line = csv_line([vector["cell"]])
            assert line == vector["expected"]["line"], vector["id"]
