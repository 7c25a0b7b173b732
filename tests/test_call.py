from __future__ import annotations

import datetime as dt
import multiprocessing
import random
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.calendar import from_ms
from flask_llm_cost.calendar import utc_ms
from flask_llm_cost.call import OUTCOME_LABELS
from flask_llm_cost.call import OUTCOMES
from flask_llm_cost.call import Usage
from flask_llm_cost.call import USAGE_SOURCE_LABELS
from flask_llm_cost.call import USAGE_SOURCES
from flask_llm_cost.event_id import event_time
from flask_llm_cost.event_id import mint_event_id

moments = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(9999, 12, 31)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=dt.UTC)
)


@given(moments)
def test_an_event_id_is_a_uuid7_of_its_time(moment: dt.datetime) -> None:
    value = uuid.UUID(mint_event_id(moment))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert event_time(str(value)) == from_ms(utc_ms(moment)) <= moment


def test_event_ids_of_one_moment_differ_even_if_the_app_seeds_random() -> None:
    now = dt.datetime.now(dt.UTC)
    minted = set()
    for _ in range(1000):
        random.seed(1)
        minted.add(mint_event_id(now))
    assert len(minted) == 1000


def test_a_forked_child_mints_other_ids() -> None:
    context = multiprocessing.get_context("fork")
    now = dt.datetime.now(dt.UTC)
    with context.Pool(2, maxtasksperchild=1) as pool:
        minted = [pool.apply(mint_event_id, (now,)) for _ in range(4)]
    assert len({*minted, mint_event_id(now)}) == 5


def test_only_a_uuid7_has_a_time() -> None:
    with pytest.raises(ValueError, match="not a UUIDv7"):
        event_time(str(uuid.uuid4()))


counts = st.integers(0, 2**40)


@given(
    counts,
    counts,
    counts,
    counts,
    st.dictionaries(st.sampled_from(["input_video", "output_x"]), counts),
)
def test_totals_count_every_bucket_once(
    fresh: int, read: int, written: int, out: int, other: dict[str, int]
) -> None:
    usage = Usage(
        input_tokens=fresh,
        cache_read_tokens=read,
        cache_write_1h_tokens=written,
        output_tokens=out,
        other_tokens=other,
        reasoning_tokens=out,
    )
    assert usage.total_tokens == fresh + read + written + out + sum(other.values())
    assert usage.total_output_tokens == out + other.get("output_x", 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_tokens": -1}, "input_tokens must be a whole number >= 0 .*not -1"),
        ({"output_tokens": 1.0}, "output_tokens must be"),
        ({"output_tokens": True}, "output_tokens must be"),
        ({"other_tokens": {"video": 1}}, r"other_tokens\['video'\] must begin with"),
        ({"other_tokens": {"input_video": -1}}, r"other_tokens\['input_video'\]"),
        ({"units": {"page": 1}}, r"units\['page'\] must be a Decimal"),
        ({"units": {"page": Decimal("NaN")}}, r"units\['page'\] must be a Decimal"),
    ],
)
def test_an_invalid_count_is_rejected(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Usage(**wrong)  # type: ignore[arg-type]


def test_every_outcome_and_usage_source_has_a_label() -> None:
    assert tuple(OUTCOME_LABELS) == OUTCOMES
    assert tuple(USAGE_SOURCE_LABELS) == USAGE_SOURCES
