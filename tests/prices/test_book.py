from __future__ import annotations

import datetime as dt
import json
import logging
import os
import threading
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost import PriceFileError
from flask_llm_cost import Usage
from flask_llm_cost.prices import book as book_module
from flask_llm_cost.prices import layers as layers_module
from flask_llm_cost.prices import lookup as lookup_module
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import make_layer
from flask_llm_cost.prices.names import served_mode

ONE = Usage(input_tokens=1_000_000)
RATE = {"input": 1}


def layers(
    overrides: t.Any = None,
    file: t.Any = None,
    bundled: t.Any = None,
    aliases: dict[str, str] | None = None,
) -> PriceBook:
    return PriceBook(
        [
            make_layer("override", overrides or {}, "overrides"),
            make_layer("file", file or {}, "file"),
            make_layer("bundled", bundled or {}, "bundled"),
        ],
        aliases=aliases,
    )


def key(book: PriceBook, provider: str, model: str, **options: t.Any) -> str | None:
    found = book.find(provider, model, **options)
    return None if found is None else found.key


# Names


def test_a_key_with_a_provider_precedes_one_without() -> None:
    book = layers({"m": RATE, "groq/m": RATE})
    assert key(book, "groq", "m") == "groq/m"
    assert key(book, "other", "m") == "m"


def test_overrides_precede_the_file_and_the_file_precedes_the_bundled() -> None:
    book = layers(
        {"a": RATE}, {"a": RATE, "b": RATE}, {"a": RATE, "b": RATE, "c": RATE}
    )
    sources = [book.find("x", name) for name in "abc"]
    assert [found and found.source for found in sources] == [
        "override",
        "file",
        "bundled",
    ]


def test_an_exact_name_precedes_a_snapshot_in_a_higher_layer() -> None:
    book = layers({"m": RATE}, None, {"m-2026-01-01": RATE})
    assert key(book, "x", "m-2026-01-01") == "m-2026-01-01"
    assert key(book, "x", "m-2026-02-02") == "m"


@pytest.mark.parametrize("suffix", ["-2026-01-31", "-20260131"])
def test_a_dated_snapshot_has_the_price_of_its_model(suffix: str) -> None:
    found = layers({"openai/m": RATE}).find("openai", f"m{suffix}")
    assert found is not None
    assert (found.key, found.matched_by) == ("openai/m", "snapshot")


@pytest.mark.parametrize("model", ["m-0613", "m-mini", "m-latest", "m.5", "M", ""])
def test_no_other_name_matches_the_model(model: str) -> None:
    assert key(layers({"openai/m": RATE}), "openai", model) is None


def test_a_gateway_has_the_price_of_the_model_behind_it() -> None:
    book = layers(None, None, {"gpt-4o": RATE})
    assert key(book, "gateway", "openrouter/openai/gpt-4o") == "gpt-4o"


def test_a_path_before_the_name_does_not_hide_it() -> None:
    book = layers({"gemini/gemini-x": RATE})
    assert key(book, "gemini", "models/gemini-x") == "gemini/gemini-x"


def test_providers_match_in_any_case_and_models_exactly() -> None:
    book = layers({"OpenAI/GPT": RATE, "google/gem": RATE})
    assert key(book, "openai", "GPT") == "OpenAI/GPT"
    assert key(book, "OPENAI", "gpt") is None
    assert key(book, "gemini", "gem") == "google/gem"


def test_two_spellings_of_one_model_are_an_error() -> None:
    with pytest.raises(PriceFileError, match=r"same model; keep one"):
        layers({"OpenAI/m": RATE, "openai/m": RATE})


def test_a_free_variant_is_free() -> None:
    cost = layers({"gpt-4o": RATE}).cost("openrouter", "openai/gpt-4o:free", ONE)
    assert cost is not None
    assert (cost.total_usd, cost.complete) == (0, True)


@pytest.mark.parametrize("provider", ["openai", "groq", "llm.example.com"])
def test_a_name_is_free_at_openrouter_only(provider: str) -> None:
    assert layers({}).cost(provider, "a:free", ONE) is None
    assert PriceBook.bundled().cost(provider, "a:free", ONE) is None


def test_a_priced_free_variant_costs_what_it_says() -> None:
    book = layers({"openrouter/a:free": RATE})
    assert key(book, "openrouter", "a:free") == "openrouter/a:free"


def test_the_only_model_of_that_name_lends_its_price() -> None:
    cost = layers({"upstream/m": RATE}).cost("gateway", "m", ONE)
    assert cost is not None
    assert cost.flags == {"borrowed_price"}


def test_an_ambiguous_name_finds_nothing() -> None:
    book = layers({"one/m": RATE, "two/m": RATE}, None, {"three/m": RATE})
    assert key(book, "groq", "m") is None


@pytest.mark.parametrize("provider", ["ollama", "openrouter", "my-gateway"])
def test_gateways_and_ollama_borrow_nothing_from_the_bundled_book(
    provider: str,
) -> None:
    book = layers(None, None, {"groq/m": RATE})
    assert key(book, provider, "m") is None
    assert key(book, "together", "m") == "groq/m"


@pytest.mark.parametrize("reseller", ["aiml", "azure", "openrouter/openai"])
def test_a_reseller_does_not_lend_its_bundled_price_to_the_maker(
    reseller: str,
) -> None:
    entries = {f"{reseller}/draw-3": RATE}
    assert key(layers(None, None, entries), "openai", "draw-3") is None
    assert key(layers(None, None, entries), "openai", "draw-3-2026-01-01") is None
    # A price of your own is your decision.
    assert key(layers(None, entries), "openai", "draw-3") == f"{reseller}/draw-3"


def test_google_has_one_price_list_for_two_platforms() -> None:
    book = layers(None, None, {"vertex/veo": RATE, "azure/sora": RATE})
    assert key(book, "gemini", "veo") == "vertex/veo"
    assert key(book, "gemini", "sora") is None


@pytest.mark.parametrize("alias", ["azure/mine", "mine", "AZURE/mine"])
def test_an_alias_is_priced_as_its_model(alias: str) -> None:
    book = layers(None, None, {"azure/gpt": RATE}, {alias: "azure/gpt-2026-01-01"})
    found = book.find("azure", "mine")
    assert found is not None
    assert (found.key, found.matched_by) == ("azure/gpt", "alias")


def test_an_alias_without_a_provider_stays_with_the_callers() -> None:
    book = layers({"azure/gpt": RATE, "openai/gpt": RATE}, aliases={"mine": "gpt"})
    assert key(book, "azure", "mine") == "azure/gpt"


# Dates


def test_a_dated_entry_is_valid_from_its_first_instant() -> None:
    entry = [{"input": 1}, {"valid_from": "2026-07-01", "input": 2}]
    book = layers({"m": entry})
    first = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    before = book.cost("x", "m", ONE, at=first - dt.timedelta(milliseconds=1))
    after = book.cost("x", "m", ONE, at=first)
    assert before is not None
    assert after is not None
    assert (before.total_usd, before.valid_from) == (1, None)
    assert (after.total_usd, after.valid_from) == (2, first)


def test_before_its_first_date_an_entry_falls_through_to_the_next_layer() -> None:
    book = layers({"m": {"valid_from": "2026-07-01", "input": 2}}, None, {"m": RATE})
    early = dt.datetime(2026, 6, 30, tzinfo=dt.UTC)
    assert [c and c.source for c in (book.cost("x", "m", ONE, at=early),)] == [
        "bundled"
    ]
    assert [c and c.source for c in (book.cost("x", "m", ONE),)] == ["override"]


def test_before_the_first_date_of_any_layer_there_is_no_price() -> None:
    book = layers({"m": {"valid_from": "2026-07-01", "input": 2}})
    early = dt.datetime(2026, 6, 30, tzinfo=dt.UTC)
    assert book.cost("x", "m", ONE, at=early) is None
    assert book.cost("x", "m", ONE) is not None


def test_a_naive_time_means_utc() -> None:
    book = layers({"m": [{"input": 1}, {"valid_from": "2026-07-01", "input": 2}]})
    naive = dt.datetime(2026, 7, 1)  # noqa: DTZ001
    cost = book.cost("x", "m", ONE, at=naive)
    assert cost is not None
    assert cost.total_usd == 2


def test_a_future_price_is_not_in_force() -> None:
    book = layers({"m": [{"input": 1}, {"valid_from": "2999-01-01", "input": 9}]})
    cost = book.cost("x", "m", ONE)
    assert cost is not None
    assert cost.total_usd == 1


# Discounts


def test_a_negotiated_discount_applies_to_every_price_of_the_provider() -> None:
    book = layers(
        {"openai/*": {"multiplier": "0.9"}}, None, {"openai/m": RATE, "n": RATE}
    )
    cost = book.cost("OpenAI", "m", ONE)
    assert cost is not None
    assert (cost.total_usd, cost.parts["input"].rate) == (
        Decimal("0.9"),
        Decimal("0.9"),
    )
    other = book.cost("groq", "n", ONE)
    assert other is not None
    assert other.total_usd == 1


def test_a_discount_may_begin_on_a_day() -> None:
    discount = {"multiplier": "0.5", "valid_from": "2026-07-01"}
    book = layers({"openai/*": [discount]}, None, {"openai/m": RATE})
    early = dt.datetime(2026, 6, 30, tzinfo=dt.UTC)
    costs = [book.cost("openai", "m", ONE, at=at) for at in (early, None)]
    assert [c and c.total_usd for c in costs] == [1, Decimal("0.5")]


def test_a_price_of_a_higher_layer_is_not_discounted() -> None:
    book = layers({"openai/m": RATE}, {"openai/*": {"multiplier": "0.5"}})
    cost = book.cost("openai", "m", ONE)
    assert cost is not None
    assert cost.total_usd == 1


def test_a_provider_may_have_fees_for_all_its_models() -> None:
    fees = {"openai/*": {"file_search": "0.0025", "web_search": 9}}
    book = layers(fees, None, {"openai/m": {"input": 1, "web_search": "0.01"}})
    units = {"file_search": Decimal(2), "web_search": Decimal(1)}
    cost = book.cost("openai", "m", Usage(units=units))
    assert cost is not None
    assert (cost.total_usd, cost.complete) == (Decimal("0.015"), True)


def test_a_fine_tuned_model_is_priced_as_its_base_model() -> None:
    book = layers({"openai/ft:gpt-x": RATE})
    assert key(book, "openai", "ft:gpt-x:my-org::abc123") == "openai/ft:gpt-x"


def test_a_provider_may_have_one_price_for_every_other_model() -> None:
    book = layers({"ollama/*": {"input": 0, "output": 0}}, None, {"ollama/big": RATE})
    costs = [book.cost("ollama", name, ONE) for name in ("qwen3", "big")]
    assert [cost and cost.total_usd for cost in costs] == [0, 1]
    assert book.cost("groq", "qwen3", ONE) is None


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        ("openai", "davinci:2023-07-21-v2", "openai/davinci"),
        ("vertex", "claude-x@20250929", "vertex/claude-x"),
        ("vertex", "claude-x@default", "vertex/claude-x"),
        ("gemini", "gemini-x-001", "gemini/gemini-x"),
        ("bedrock", "arn:aws:bedrock:eu:1:inference-profile/x.y", "bedrock/x.y"),
    ],
)
def test_other_spellings_of_versions_are_known(
    provider: str, model: str, name: str
) -> None:
    assert key(layers({name: RATE}), provider, model) == name


# Service tiers and what providers report


@pytest.mark.parametrize(
    ("provider", "tier", "mode"),
    [
        ("openai", "default", None),
        ("openai", "auto", None),
        ("openai", "flex", "flex"),
        ("openai", "priority", "priority"),
        ("openai", "scale", "scale"),
        ("anthropic", "standard", None),
        ("anthropic", "batch", "batch"),
        ("anthropic", "fast", "fast"),
        ("anthropic", "priority", "reserved"),
        ("vertex", "ON_DEMAND", None),
        ("vertex", "ON_DEMAND_FLEX", "flex"),
        ("vertex", "ON_DEMAND_PRIORITY", "priority"),
        ("gemini", "PROVISIONED_THROUGHPUT", "provisioned"),
        ("bedrock", "reserved", "reserved"),
        ("groq", "on_demand", None),
    ],
)
def test_a_served_tier_selects_a_mode(
    provider: str, tier: str, mode: str | None
) -> None:
    assert served_mode(provider, tier) == (mode, frozenset())


@pytest.mark.parametrize("tier", ["turbo", 5, b"flex", ["flex"]])
def test_an_unknown_tier_is_flagged_and_priced_standard(tier: t.Any) -> None:
    cost = layers({"m": RATE}).quote("openai", "m", ONE, service_tier=tier).cost
    assert cost is not None
    assert (cost.mode, cost.total_usd, cost.flags) == (None, 1, {"unknown_tier"})


def test_the_callers_mode_precedes_the_served_tier() -> None:
    book = layers({"m": {"input": 1, "batch_input": "0.5", "flex_input": 3}})
    cost = book.quote("x", "m", ONE, mode="batch", service_tier="flex").cost
    assert cost is not None
    assert cost.mode == "batch"


def test_reserved_capacity_without_a_rate_is_unknown() -> None:
    tier = "PROVISIONED_THROUGHPUT"
    cost, flags = layers({"m": RATE}).quote("vertex", "m", ONE, service_tier=tier)
    assert cost is None
    assert flags == {"unpriced", "prepaid"}


def test_reserved_capacity_with_a_rate_is_priced() -> None:
    book = layers({"m": {"input": 1, "provisioned_input": "0.2"}})
    cost = book.quote("vertex", "m", ONE, service_tier="PROVISIONED_THROUGHPUT").cost
    assert cost is not None
    assert cost.total_usd == Decimal("0.2")


def test_a_reported_cost_takes_precedence() -> None:
    reported = Decimal("0.25")
    cost = (
        layers({"m": RATE}).quote("openrouter", "m", ONE, reported_cost=reported).cost
    )
    assert cost is not None
    assert (cost.total_usd, cost.source) == (reported, "provider")
    assert cost.estimate_usd == 1
    assert list(cost.parts) == ["reported"]


def test_a_reported_cost_needs_no_price_and_no_usage() -> None:
    cost = layers().quote("xai", "new", None, reported_cost=Decimal("0.1")).cost
    assert cost is not None
    assert (cost.total_usd, cost.estimate_usd) == (Decimal("0.1"), None)


@pytest.mark.parametrize("reported", ["NaN", "-1", "Infinity"])
def test_an_invalid_reported_cost_is_ignored(reported: str) -> None:
    cost = (
        layers({"m": RATE}).quote("x", "m", ONE, reported_cost=Decimal(reported)).cost
    )
    assert cost is not None
    assert cost.source == "override"


def test_without_usage_or_a_reported_cost_there_is_no_cost() -> None:
    assert layers({"m": RATE}).quote("x", "m", None) == (None, {"unpriced"})


# Files


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def later(path: Path) -> None:
    """Check the file on every use, as if a second had passed."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers_module, "_CHECK_EVERY_S", 0.0)


def test_a_file_may_have_metadata_or_only_models(tmp_path: Path) -> None:
    for document in ({"models": {"m": RATE}, "metadata": {}}, {"m": RATE}):
        book = PriceBook.load(write(tmp_path / "p.json", document))
        assert key(book, "x", "m") == "m"


def test_a_file_states_its_age(tmp_path: Path) -> None:
    document = {"metadata": {"updated_at": "2026-10-01"}, "models": {"m": RATE}}
    book = PriceBook.load(write(tmp_path / "p.json", document))
    assert book.updated_at == dt.date(2026, 10, 1)


def test_the_predecessors_rate_names_are_read(tmp_path: Path) -> None:
    rates = {"input": 2, "cached_input": 1, "cache_creation_input": 3, "output": 4}
    book = PriceBook.load(write(tmp_path / "p.json", {"m": rates}))
    usage = Usage(cache_read_tokens=1_000_000, cache_write_tokens=1_000_000)
    cost = book.cost("x", "m", usage)
    assert cost is not None
    assert (cost.total_usd, cost.flags) == (4, frozenset())


def test_yaml_is_read_without_a_float(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "p.yaml"
    path.write_text(
        "models:\n  m:\n    - input: 0.1\n    - {valid_from: 2026-07-01, input: 0.3}\n"
    )
    cost = PriceBook.load(path).cost("x", "m", ONE)
    assert cost is not None
    assert cost.parts["input"].rate == Decimal("0.3")


def test_a_rate_in_a_file_keeps_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"m": {"input": 0.10000000000000000555}}')
    found = PriceBook.load(path).find("x", "m")
    assert found is not None
    assert list(found.price.rates.values()) == [Decimal("0.10000000000000000555")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{oops", "is not valid JSON"),
        ("[1]", "must contain a mapping, not list"),
        ('{"m": {"input": -1}}', "m: input must be 0 or more, not -1"),
        ('{"m": {"input": NaN}}', "m: input must be a number, not nan"),
        ('{"m": {"input": "cheap"}}', "m: input must be a number, not 'cheap'"),
        ('{"m": {"input": null}}', "m: input must be a number, not None"),
        ('{"m": 3}', "m must be a mapping of rates, not 3"),
        ('{"m": []}', "m must have rates"),
        ('{"m": {"_notes": "mine"}}', "m has no rates; give it input and output"),
        ('{"m": {"valid_from": "2026-01-01"}}', "m has no rates; .* or remove it"),
        ('{"m": {"multipliers": {"region.us": 2}}}', "m has no rates"),
        ('{"m": [{"input": 1}, {"valid_from": "2026-01-01"}]}', "m has no rates"),
        ('{"x/*": {"_notes": "mine"}}', r"x/\* has no rates"),
        ('{"m": {"valid_from": "soon"}}', "valid_from must be a date such as"),
        ('{"m": [{"input": 1}, {"input": 2}]}', "give each its own valid_from"),
        ('{"m": {"windows": [{"input": 1}]}}', "a window must be a mapping with hours"),
        ('{"m": {"windows": [{"hours": "25:00-26:00"}]}}', "between 00:00 and 24:00"),
        ('{"m": {"windows": [{"hours": "1-2"}]}}', "must look like 16:30-00:30"),
        ('{"m": {"windows": 1}}', "windows must be a list"),
        ('{"m": {"multipliers": 2}}', "multipliers must map conditions"),
        ('{"x/m": {"multiplier": 0.9}}', "set it on x/"),
        ('{"m": {"units": 2}}', "units must map names"),
        ('{"models": 1}', "must map model names to rates"),
        ('{"models": {}, "metadata": 1}', "metadata must be a mapping"),
    ],
)
def test_an_invalid_file_is_an_error_that_names_the_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(PriceFileError, match=message) as caught:
        PriceBook.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(
        PriceFileError, match=r"none\.json cannot be read: No such file"
    ):
        PriceBook.layered(file=tmp_path / "none.json")


def test_an_invalid_override_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(PriceFileError, match=r"LLM_COST_PRICE_OVERRIDES: m: input"):
        PriceBook.layered({"m": {"input": "x"}})


def test_an_unknown_key_is_named_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        book = layers({"m": {"input": 1, "imput": 2, "_notes": "mine"}})
    assert [r.getMessage() for r in caplog.records] == [
        "overrides: m: 'imput' is not a known rate and is ignored."
    ]
    assert key(book, "x", "m") == "m"


def test_an_empty_entry_hides_no_other_price_and_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        book = PriceBook.layered({"openai/gpt-4o": {}})
    cost = book.cost("openai", "gpt-4o", ONE)
    assert cost is not None
    assert cost.source == "bundled"
    (record,) = caplog.records
    assert "LLM_COST_PRICE_OVERRIDES: openai/gpt-4o has no rates" in record.getMessage()
    assert "give it input and output in USD per 1M" in record.getMessage()


@pytest.mark.usefixtures("short_limit")
def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"m": {"input": 1}})
    book = PriceBook.layered(file=path)
    assert book.cost("x", "m", ONE) is not None
    write(path, {"m": {"input": 22}, "n": RATE})
    cost = book.cost("x", "m", ONE)
    assert cost is not None
    assert cost.total_usd == 22
    assert key(book, "x", "n") == "n"


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize("broken", ["{oops", '{"m": {"input": -1}}', None])
def test_a_broken_file_keeps_the_last_good_prices_and_logs_once(
    tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "p.json", {"m": {"input": 1}})
    book = PriceBook.load(path)
    path.unlink() if broken is None else path.write_text(broken)
    costs = [book.cost("x", "m", ONE) for _ in range(3)]
    assert [cost and cost.total_usd for cost in costs] == [1, 1, 1]
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "stay in force" in caplog.text
    write(path, {"m": {"input": 2222}})
    again = book.cost("x", "m", ONE)
    assert again is not None
    assert again.total_usd == 2222


def test_a_file_is_checked_at_most_once_a_second(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"m": {"input": 1}})
    book = PriceBook.load(path)
    write(path, {"m": {"input": 22}})
    later(path)
    cost = book.cost("x", "m", ONE)
    assert cost is not None
    assert cost.total_usd == 1


@pytest.mark.usefixtures("short_limit")
def test_a_reload_does_not_affect_other_threads(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"m": {"input": 1}})
    book = PriceBook.load(path)
    seen: set[Decimal | None] = set()

    def price() -> None:
        for _ in range(400):
            cost = book.cost("x", "m", ONE)
            seen.add(None if cost is None else cost.total_usd)

    threads = [threading.Thread(target=price) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        # Different lengths, because an inode may be reused within one tick of the clock.
        rate = 22 if number % 2 else 1
        fresh = write(tmp_path / "fresh.json", {"m": {"input": rate}})
        fresh.replace(path)
    for thread in threads:
        thread.join()
    assert seen <= {Decimal(1), Decimal(22)}
    last = book.cost("x", "m", ONE)
    assert last is not None
    assert last.total_usd == 22


def test_a_layer_that_was_overtaken_does_not_stay(tmp_path: Path) -> None:
    # One thread reads the file, another reads the next version and puts it in force, and
    # then the first puts its own in force.
    path = write(tmp_path / "p.json", {"m": {"input": 1}})
    file = layers_module.PriceFile(path)
    first = file.read()
    write(path, {"m": {"input": 22}})
    slow = file.changed(first)
    write(path, {"m": {"input": 333}})
    fast = file.changed(first)
    assert slow is not None
    assert fast is not None
    assert file.changed(fast) is None
    again = file.changed(slow)
    assert again is not None
    assert again.stamp == fast.stamp != slow.stamp


def test_a_problem_that_was_overtaken_does_not_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"m": {"input": 1}})
    file = layers_module.PriceFile(path)
    first = file.read()
    path.write_text("{oops")
    assert file.changed(first) is None
    assert file.problem is not None
    write(path, {"m": {"input": 22}})
    fixed = file.changed(first)
    assert fixed is not None
    assert file.problem is None
    # Another thread that read the broken version reports it only now.
    path.rename(tmp_path / "fixed.json")
    assert file.changed(fixed) is None
    assert file.problem is not None
    (tmp_path / "fixed.json").rename(path)
    assert file.changed(fixed) is None
    assert file.problem is None


def test_the_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "CACHE_SIZE", 10)
    monkeypatch.setattr(lookup_module, "CACHE_SIZE", 10)
    book = layers({"m": RATE})
    for number in range(100):
        assert book.cost("x", f"unknown-{number}", ONE) is None
    assert len(book._lookup._matches) <= 10
    assert len(book._latest) <= 10


# Untrustworthy files


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "p.json",
            '{"models": {"m": {"input": 1}, "m": {"input": 9}}}',
            "'m' is a duplicate key; keep one",
        ),
        (
            "p.json",
            '{"models": {"m": {"input": 1, "input": 9}}}',
            "'input' is a duplicate key; keep one",
        ),
        (
            "p.yaml",
            "models:\n  m: {input: 1}\n  m: {input: 9}\n",
            "'m' is a duplicate key; keep one",
        ),
        ("p.json", '{"models": {"m": {"input": 1e99999999999999999999}}}', "m: input"),
        ("p.json", '{"models": {"m": {"input": 1e-99999999999999999999}}}', "m: input"),
        (
            "p.json",
            '{"m": {"input": 1, "valid_from": "0001-01-01T00:00:00+14:00"}}',
            "between the years",
        ),
        (
            "p.json",
            '{"m": {"input": 1, "windows": [{"hours": "10:99-11:00", "input": 2}]}}',
            "10:99-11:00",
        ),
    ],
)
def test_a_file_with_duplicate_keys_or_impossible_dates_is_rejected(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(PriceFileError, match=reason):
        PriceBook.load(path)


def test_a_date_beyond_the_calendar_has_no_age(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(
        '{"metadata": {"updated_at": "0001-01-01T00:00+14:00"}, "models": {}}'
    )
    assert PriceBook.load(path).stale()


@pytest.mark.parametrize(
    ("older", "newer", "usage"),
    [
        ("cached_input", "cache_read_input", Usage(cache_read_tokens=1_000_000)),
        ("cache_read_input", "cache_read", Usage(cache_read_tokens=1_000_000)),
        (
            "cache_creation_input",
            "cache_write_input",
            Usage(cache_write_tokens=1_000_000),
        ),
    ],
)
def test_of_two_names_for_a_rate_the_newer_is_used_in_any_order(
    older: str, newer: str, usage: Usage, caplog: pytest.LogCaptureFixture
) -> None:
    for rates in ({older: 7, newer: 3}, {newer: 3, older: 7}):
        caplog.clear()
        cost = layers({"m": {"input": 1, **rates}}).cost("x", "m", usage)
        assert cost is not None
        assert cost.total_usd == 3
        assert (
            f"{older} and {newer} set the same rate to different values" in caplog.text
        )
    caplog.clear()
    layers({"m": {"input": 1, older: 3, newer: 3}})
    assert not caplog.text
