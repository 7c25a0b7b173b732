from __future__ import annotations

import datetime as dt
import gzip
import json
import subprocess
import sys
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost import Cost
from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.entry import read_entry
from flask_llm_cost.prices.layers import BUNDLED
from tools import bundle_prices
from tools.conflicts import REPORT

SHARED = Path(__file__).resolve().parents[3] / "shared"
NOVEMBER = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.bundled()


@pytest.fixture
def shared() -> Path:
    if not SHARED.exists():
        pytest.skip("no ../shared")
    return SHARED


GOLDEN: dict[str, tuple[str, str, Usage, str | None, str]] = {
    "A": (
        "anthropic",
        "claude-sonnet-4-5",
        Usage(
            input_tokens=1_000,
            cache_read_tokens=50_000,
            cache_write_tokens=10_000,
            cache_write_1h_tokens=20_000,
            output_tokens=2_000,
        ),
        None,
        "0.2055",
    ),
    "B": (
        "gemini",
        "gemini-2.5-pro",
        Usage(input_tokens=150_000, cache_read_tokens=100_000, output_tokens=5_000),
        None,
        "0.4750",
    ),
    "C": (
        "openai",
        "gpt-5-mini",
        Usage(input_tokens=1_000, cache_read_tokens=1_000, output_tokens=500),
        "flex",
        "0.0006375",
    ),
    "C2": (
        "openai",
        "gpt-5-mini",
        Usage(input_tokens=1_000, cache_read_tokens=1_000, output_tokens=500),
        None,
        "0.001275",
    ),
    "D": (
        "anthropic",
        "claude-sonnet-4-5",
        Usage(input_tokens=10_000, output_tokens=500, units={"web_search": Decimal(3)}),
        None,
        "0.0675",
    ),
    "E": (
        "openai",
        "gpt-4o-audio-preview",
        Usage(input_tokens=110, output_audio_tokens=482),
        None,
        "0.038835",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_the_golden_cases_hold(book: PriceBook, case: str) -> None:
    provider, model, usage, mode, total = GOLDEN[case]
    cost = book.cost(provider, model, usage, at=NOVEMBER, mode=mode)
    assert cost is not None
    assert cost.total_usd == Decimal(total)
    assert cost.complete
    assert cost.flags == frozenset()


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "made-up-9"), ("azure", "my-deployment")]
)
def test_unknown_models_have_no_cost(
    book: PriceBook, provider: str, model: str
) -> None:
    assert book.cost(provider, model, Usage(input_tokens=1)) is None


def test_a_deployment_is_priced_by_its_alias() -> None:
    book = PriceBook.layered(aliases={"azure/my-deployment": "azure/gpt-4o"})
    cost = book.cost("azure", "my-deployment", Usage(input_tokens=1_000_000))
    assert cost is not None
    assert (cost.total_usd, cost.price_key) == (Decimal("2.5"), "azure/gpt-4o")


def test_a_price_cut_does_not_change_earlier_calls(book: PriceBook) -> None:
    usage = Usage(input_tokens=8, cache_write_tokens=4012, output_tokens=5)
    july = dt.datetime(2026, 7, 17, tzinfo=dt.UTC)
    then = book.cost("openai", "gpt-5.6-sol", usage, at=july)
    now = book.cost("openai", "gpt-5.6-sol", usage, at=NOVEMBER)
    assert then is not None
    assert now is not None
    assert (then.total_usd, now.total_usd) == (Decimal("0.025265"), Decimal("0.020192"))


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-3-7-sonnet-20250219"),
        ("anthropic", "claude-opus-4-1"),
        ("openai", "o1-mini"),
        ("gemini", "gemini-1.5-flash"),
        ("gemini", "models/gemini-2.5-flash"),
        ("vertex", "publishers/google/models/gemini-2.5-flash"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "text-embedding-3-small"),
        ("OpenAI", "gpt-4o"),
        ("google", "gemini-2.5-pro"),
    ],
)
def test_retired_dated_and_foreign_spellings_are_known(
    book: PriceBook, provider: str, model: str
) -> None:
    assert book.cost(provider, model, Usage(input_tokens=10)) is not None


def test_tools_of_a_provider_have_their_fees(book: PriceBook) -> None:
    usage = Usage(input_tokens=1, units={"file_search": Decimal(2)})
    cost = book.cost("openai", "gpt-5-mini", usage, at=NOVEMBER)
    assert cost is not None
    assert cost.complete
    assert cost.parts["file_search"].amount_usd == Decimal("0.005")


def test_a_fee_per_session_is_not_guessed(book: PriceBook) -> None:
    usage = Usage(input_tokens=1, units={"code_interpreter": Decimal(1)})
    cost = book.cost("openai", "gpt-5", usage, at=NOVEMBER)
    assert cost is not None
    assert not cost.complete


def test_every_entry_is_valid(book: PriceBook) -> None:
    models = json.loads(BUNDLED.read_bytes())["models"]
    notes: list[str] = []
    for key, value in models.items():
        assert read_entry(key, value, notes.append).prices, key
    assert notes == []
    assert len(models) > 4000


def test_the_file_is_small_and_dated(book: PriceBook) -> None:
    assert BUNDLED.stat().st_size < 1_500_000
    assert book.updated_at is not None
    assert book.stale(NOVEMBER + dt.timedelta(days=60))
    assert not book.stale(NOVEMBER)
    notices = book.metadata("bundled")["sources"]
    assert all("MIT License" in each["notice"] for each in notices.values())


def test_the_stored_copies_give_the_bundled_file(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices, made = shared / "prices", tmp_path / "bundled.json"
    arguments = ["--litellm", str(prices / "litellm.json.gz")]
    arguments += ["--genai", str(prices / "genai-prices.json.gz")]
    assert bundle_prices.main([*arguments, "--output", str(made)]) == 0
    assert made.read_bytes() == BUNDLED.read_bytes()
    assert (tmp_path / REPORT.name).read_bytes() == REPORT.read_bytes()
    assert "97.6 %" in capsys.readouterr().out


def test_a_new_copy_needs_its_version_and_date(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text("{}")
    (tmp_path / "g.json").write_text("[]")
    arguments = [
        "--litellm",
        str(tmp_path / "l.json"),
        "--genai",
        str(tmp_path / "g.json"),
    ]
    with pytest.raises(SystemExit, match=r"give --litellm-version and --litellm-date"):
        bundle_prices.main([*arguments, "--output", str(tmp_path / "b.json")])


def truths(shared: Path) -> list[dict[str, t.Any]]:
    with gzip.open(shared / "corpus" / "cost_truth.jsonl.gz", "rt") as lines:
        return [json.loads(line, parse_float=Decimal) for line in lines]


def priced(row: dict[str, t.Any], book: PriceBook) -> Cost | None:
    used = row["usage"]
    read, written = used.get("cache_read", 0), used.get("cache_write", 0)
    hour = used.get("cache_write_1h", 0)
    usage = Usage(
        input_tokens=used["input"] - read - written,
        cache_read_tokens=read,
        cache_write_tokens=written - hour,
        cache_write_1h_tokens=hour,
        output_tokens=used["output"],
        reasoning_tokens=used.get("reasoning", 0),
    )
    at = dt.datetime.fromisoformat(row["created"]) if "created" in row else None
    return book.cost(row["provider"], row["model"], usage, at=at)


def test_what_providers_billed_is_reproduced(book: PriceBook, shared: Path) -> None:
    rows = [row for row in truths(shared) if row.get("token_price_reproduces")]
    assert rows
    for row in rows:
        cost, billed = priced(row, book), Decimal(row["expected_cost_usd"])
        assert cost is not None, row["model"]
        assert abs(cost.total_usd - billed) <= billed * Decimal("0.005"), row["model"]


def test_what_was_published_is_reproduced_to_the_last_digit(shared: Path) -> None:
    rows = [row for row in truths(shared) if "unit_prices_per_mtok" in row]
    assert rows
    for row in rows:
        name = f"{row['provider']}/{row['model']}"
        book = PriceBook.layered(overrides={name: row["unit_prices_per_mtok"]})
        cost = priced(row, book)
        assert cost is not None
        assert cost.total_usd == Decimal(row["expected_cost_usd"])


def test_prices_load_no_framework_and_no_client() -> None:
    code = (
        "import sys; from flask_llm_cost import Usage;"
        "from flask_llm_cost.prices import PriceBook;"
        "assert PriceBook.bundled().cost('openai', 'gpt-4o', Usage(input_tokens=1));"
        "names = {name.partition('.')[0] for name in sys.modules};"
        "bad = names & {'flask', 'werkzeug', 'sqlalchemy', 'requests', 'urllib3', 'httpx',"
        " 'httpx2', 'http', 'aiohttp', 'yaml'};"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
