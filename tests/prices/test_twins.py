"""Prices that have to agree with another row, and lists in another currency."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.prices.sources import genai_prices
from flask_llm_cost.prices.sources import litellm
from flask_llm_cost.prices.sources import Sheet
from flask_llm_cost.prices.sources.bedrock_regions import price_regionally
from tools.conflicts import Corrections
from tools.twins import in_yuan
from tools.twins import outdated

NONE = Corrections({}, (), {})


def exact(rates: dict[str, t.Any]) -> dict[str, t.Any]:
    return dict(json.loads(json.dumps(rates), parse_float=Decimal, parse_int=Decimal))


# https://github.com/BerriAI/litellm/issues/42679: $3 and $15 are the global price of Claude
# Sonnet 4.6, $3.30 and $16.50 the regional one, by AWS's Price List API.
@pytest.mark.parametrize(
    "plain",
    [
        "anthropic.claude-sonnet-4-6",
        "anthropic.claude-sonnet-4-6-v1:0",
        "anthropic.claude-sonnet-4-6@20260217",
        "claude-sonnet-4-6-20260217-v1:0",
    ],
)
def test_a_plain_name_of_bedrock_costs_as_in_one_region(plain: str) -> None:
    multipliers = {"multipliers": {"region.endpoint": 1.1}}
    prices = {
        f"bedrock/{plain}": {
            "input": 3,
            "output": 15,
            "cache_read": 0.3,
            "batch_input": 1.5,
            "web_search": 0.01,
            **multipliers,
        },
        "bedrock/us.anthropic.claude-sonnet-4-6-20260217-v1:0": {
            "input": 3.3,
            "output": 16.5,
            "cache_read": 0.33,
        },
        "bedrock/global.anthropic.claude-sonnet-4-6": {"input": 3, "output": 15},
        "bedrock/claude_platform/claude-sonnet-4-6": {"input": 3, "output": 15},
    }
    models = {name: [exact(rates)] for name, rates in prices.items()}
    replaced = [*price_regionally(models)]
    price = models[f"bedrock/{plain}"][0]
    assert (price["input"], price["output"]) == (Decimal("3.3"), Decimal("16.5"))
    assert (price["cache_read"], price["batch_input"]) == (
        Decimal("0.33"),
        Decimal("1.65"),
    )
    assert price["web_search"] == Decimal("0.01")
    # The surcharge is in the price, not on top of it.
    assert "multipliers" not in price
    assert (f"bedrock/{plain}", "input", Decimal(3), Decimal("3.3")) in replaced
    assert models["bedrock/global.anthropic.claude-sonnet-4-6"][0]["input"] == 3
    assert models["bedrock/claude_platform/claude-sonnet-4-6"][0]["input"] == 3
    assert not [*price_regionally(models)]


@pytest.mark.parametrize(
    "profile",
    [
        {"input": 3, "output": 15},
        {"input": 6, "output": 30},
        {"input": 3.3, "output": 15},
    ],
)
def test_only_a_surcharge_on_everything_is_one(profile: dict[str, t.Any]) -> None:
    models = {
        "bedrock/meta.m": [exact({"input": 3, "output": 15})],
        "bedrock/us.meta.m": [exact(profile)],
    }
    assert not [*price_regionally(models)]
    assert models["bedrock/meta.m"][0]["input"] == 3


def test_a_sync_has_that_price_too() -> None:
    claude = {"litellm_provider": "bedrock_converse", "output_cost_per_token": 1.5e-05}
    regional = {
        "litellm_provider": "bedrock_converse",
        "output_cost_per_token": 1.65e-05,
    }
    name = "anthropic.claude-sonnet-4-6"
    sheet = read(
        {
            name: {**claude, "input_cost_per_token": 3e-06},
            f"us.{name}": {**regional, "input_cost_per_token": 3.3e-06},
            f"global.{name}": {**claude, "input_cost_per_token": 3e-06},
        }
    )
    rates = {key: prices[0]["input"] for key, prices in sheet.models.items()}
    assert rates == {
        f"bedrock/{name}": Decimal("3.3"),
        f"bedrock/us.{name}": Decimal("3.3"),
        f"bedrock/global.{name}": 3,
    }


PAGE = "https://api-docs.deepseek.com/quick_start/pricing"


def row(source: str | None = PAGE, **fields: object) -> dict[str, object]:
    rates = {"input_cost_per_token": 3e-07, "output_cost_per_token": 1.2e-06}
    return {"litellm_provider": "deepseek", "source": source, **rates, **fields}


def read(document: dict[str, dict[str, object]]) -> Sheet:
    return litellm.read(json.loads(json.dumps(document), parse_float=Decimal))


def test_a_flat_price_beside_prices_by_the_hour_is_old() -> None:
    hours = {"windows": [{"hours_utc": "16:30-00:30"}], "input_cost_per_token": 1.5e-07}
    sheet = read(
        {
            "deepseek-v9": row(off_peak_pricing=hours),
            "deepseek-old": row(),
            "deepseek-other": row("https://example.com"),
            "deepseek-bare": row(None),
        }
    )
    (conflict,) = outdated(sheet, NONE)
    assert (conflict.model, conflict.rule) == ("deepseek/deepseek-old", "old")
    assert sorted(sheet.models) == [
        "deepseek/deepseek-bare",
        "deepseek/deepseek-other",
        "deepseek/deepseek-v9",
    ]


def test_a_correction_precedes_that_rule() -> None:
    hours = {"windows": [{"hours_utc": "16:30-00:30"}], "input_cost_per_token": 1.5e-07}
    sheet = read({"deepseek-v9": row(off_peak_pricing=hours), "deepseek-old": row()})
    known = Corrections({"deepseek/deepseek-old": {}}, (), {})
    assert not [*outdated(sheet, known)]
    assert "deepseek/deepseek-old" in sheet.models


@pytest.mark.parametrize(
    ("page", "currency"),
    [
        ("https://docs.bigmodel.cn/cn/guide/start/pricing", "CNY"),
        ("https://www.volcengine.com/docs/82379/1544106", "CNY"),
        ("https://cloud.tencent.com/document/product/1823/130055", "CNY"),
        ("https://help.aliyun.com/zh/model-studio/models", "CNY"),
        ("https://platform.moonshot.cn/docs/pricing/chat", "CNY"),
        ("https://www.tencentcloud.com/document/product/1300/78937", None),
        ("https://www.alibabacloud.com/help/en/model-studio/models", None),
        ("https://docs.z.ai/guides/overview/pricing", None),
        ("https://example.com/a.cn/", None),
        (None, None),
    ],
)
def test_what_a_page_in_china_lists_is_in_yuan(
    page: str | None, currency: str | None
) -> None:
    sheet = read({"deepseek/m": row(page)})
    assert sheet.currencies.get("deepseek/m") == currency
    assert ("deepseek/m" in sheet.models) == (currency is None)
    model = {"id": "m", "prices": {"input_mtok": 1, "output_mtok": 2}}
    pages = None if page is None else [page]
    provider = {"id": "deepseek", "pricing_urls": pages, "models": [model]}
    past = genai_prices.read([provider])
    assert ("deepseek/m" in past.models) == (currency is None)


@pytest.mark.parametrize(
    ("factor", "listed"), [("1", True), ("2.5", True), ("7.1", False), ("12", True)]
)
def test_what_costs_seven_times_as_much_in_china_is_in_yuan(
    factor: str, listed: bool
) -> None:
    usual = {"input": Decimal("0.6"), "output": Decimal("2.2")}
    its = {key: rate * Decimal(factor) for key, rate in usual.items()}
    models = {
        "zai/glm-9": [its],
        "novita/zai-org/GLM-9": [usual],
        "together/zai-org/glm-9": [usual],
        "zai/glm-unknown": [its],
    }
    conflicts = [*in_yuan(models)]
    assert ("zai/glm-9" in models) == listed
    assert [each.model for each in conflicts] == ([] if listed else ["zai/glm-9"])
    assert "zai/glm-unknown" in models
