"""Settings are strict: a wrong one is named, with its value and the way out."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import hypothesis.strategies as st
import pytest
from flask import Flask
from hypothesis import given

from flask_llm_cost import LlmCost
from flask_llm_cost.config import PREFIX
from flask_llm_cost.config import Settings
from flask_llm_cost.errors import ConfigError

KEYS = [PREFIX + f.name.upper() for f in fields(Settings)]


def read(key: str, value: object) -> t.Any:
    """The setting that a config with one key gives."""
    settings = Settings.read({PREFIX + key: value})
    return getattr(settings, key.lower())


@pytest.mark.parametrize(
    ("key", "value", "way_out"),
    [
        ("ENABLED", "yes", "True or False"),
        ("ENABLED", 1, "True or False"),
        ("STORAGE", "postgres", "'database', 'jsonl', 'log' or a callable"),
        ("LOG_LEVEL", "LOUD", "a logging level, such as 'INFO'"),
        ("LOG_LEVEL", True, "a logging level"),
        ("BIND_KEY", "", "a text that is not empty"),
        ("ENGINE_OPTIONS", ["pool_size"], "a mapping with text keys"),
        ("ENGINE_OPTIONS", {1: 2}, "a mapping with text keys"),
        ("WRITE", "async", "one of 'spool', 'sync'"),
        ("SPOOL_DIR", 7, "a text that is not empty"),
        ("SPOOL_DIR", "a\0b", "without a NUL"),
        ("TIMEZONE", "Mars/Olympus", "an IANA time zone"),
        ("TIMEZONE", "../UTC", "an IANA time zone"),
        ("TIMEZONE", dt.UTC, "an IANA time zone"),
        ("WEEK_START", "Monday", "one of 'monday', 'sunday'"),
        ("DEFAULT_TAGS", "chat", "a mapping of tags, or a callable"),
        ("ROLLUP_TAGS", "feature", "a list of tag keys"),
        ("ROLLUP_TAGS", ["a tag"], "letters, digits"),
        ("ROLLUP_TAGS", iter(["feature"]), "a list of tag keys"),
        ("MAX_TAGS", -1, "a whole number from 0 to 1000"),
        ("MAX_TAG_BYTES", 2048, "a whole number from 0 to 1024"),
        ("REDACTED_TAG_KEYS", None, "a list of tag keys"),
        ("SESSION_NAMES", "names", "a callable"),
        ("INSTRUMENT", "urllib", "one of requests, httpx"),
        ("INSTRUMENT", 3, "True, False or names"),
        ("INSTRUMENT", {"httpx": False}, "True, False or names"),
        ("PRICE_SOURCES", {"litellm": None}, "a text that is not empty"),
        ("PROVIDER_HOSTS", {"https://llm.example.com": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"llm.example.com/v1": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"localhost:eighty": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"[::1": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"a b": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"a.test": "x", "A.test": "y"}, "each host once"),
        ("MODEL_ALIASES", {"a": ""}, "a text that is not empty"),
        ("MONTHLY_BUDGET", "ten", "a number of USD"),
        ("MONTHLY_BUDGET", -1, "a number of USD"),
        ("DAILY_BUDGET", float("nan"), "a number of USD"),
        ("CALL_BUDGET", "Infinity", "a number of USD"),
        ("CALL_BUDGET", "1e999999999", "a number of USD"),
        ("CALL_BUDGET", False, "a number of USD"),
        ("BUDGETS", {"name": "all"}, "a list of mappings"),
        ("BUDGETS", ["all"], "a mapping with text keys"),
        ("BUDGET_BEHAVIOR", "stop", "one of 'notify', 'raise', 'block'"),
        ("ON_STORAGE_ERROR", "die", "one of 'ignore', 'warn', 'raise'"),
        ("PER_PAGE", 30, "25, 50, 100 or 200"),
        ("PER_PAGE", 25.0, "25, 50, 100 or 200"),
    ],
)
def test_a_wrong_value_is_named_with_key_and_way_out(
    key: str, value: object, way_out: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(key, value)
    message = str(caught.value)
    assert PREFIX + key in message
    assert way_out in message
    if isinstance(value, str):
        assert repr(value) in message


@pytest.mark.parametrize("key", ["MAX_TAGS", "PER_PAGE", "MONTHLY_BUDGET"])
def test_a_value_that_cannot_be_shown_is_still_an_answer(key: str) -> None:
    with pytest.raises(ConfigError, match="not this int"):
        read(key, 10**5000)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATABASE_URI", "postgresql:me:hunter2@db/ledger"),
        ("DATABASE_URI", b"postgresql://me:hunter2@db/ledger"),
        ("READ_DATABASE_URI", "hunter2"),
        ("ALERT_WEBHOOK_URL", "ftp://hooks.example.com/hunter2"),
        ("ALERT_WEBHOOK_URL", "https://[hunter2"),
        ("ALERT_WEBHOOK_SECRET", b"hunter2"),
    ],
)
def test_a_wrong_secret_is_not_repeated(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=PREFIX + key) as caught:
        read(key, value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["DATABASE_URI", "READ_DATABASE_URI"])
@pytest.mark.parametrize(
    ("scheme", "way_out"),
    [
        ("postgres", '"postgresql+psycopg://"'),
        ("postgres+psycopg2", '"postgresql+psycopg://"'),
        ("postgresql+asyncpg", '"postgresql+psycopg://"'),
        ("PostgreSQL+asyncpg", '"postgresql+psycopg://"'),
        ("sqlite+aiosqlite", '"sqlite://"'),
        ("mysql+asyncmy", '"mysql+pymysql://"'),
        ("mariadb+aiomysql", '"mariadb+pymysql://"'),
    ],
)
def test_a_database_that_no_synchronous_driver_reaches_is_refused(
    key: str, scheme: str, way_out: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{PREFIX}{key} ") as caught:
        read(key, f"{scheme}://me:hunter2@db/ledger")
    assert way_out in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql+psycopg://x/y",
        "postgresql://x/y",
        "mysql+pymysql://x/y",
        "sqlite://",
    ],
)
def test_a_database_with_a_synchronous_driver_is_taken(uri: str) -> None:
    assert read("DATABASE_URI", uri) == read("READ_DATABASE_URI", uri) == uri


def test_a_ledger_is_in_a_bind_or_at_an_address_not_both() -> None:
    uri = "postgresql+psycopg://me:hunter2@db/ledger"
    config = {"LLM_COST_BIND_KEY": "costs", "LLM_COST_DATABASE_URI": uri}
    with pytest.raises(
        ConfigError, match="BIND_KEY is 'costs'.*DATABASE_URI"
    ) as caught:
        Settings.read(config)
    assert "hunter2" not in str(caught.value)
    assert Settings.read({**config, "LLM_COST_DATABASE_URI": None}).bind_key == "costs"


@pytest.mark.parametrize("key", ["SPOOL_DIR", "JSONL_DIR"])
@pytest.mark.parametrize("relative", [True, False])
def test_a_file_is_no_folder(tmp_path: Path, key: str, relative: bool) -> None:
    tmp_path.joinpath("taken").touch()
    tmp_path.joinpath("there").mkdir()
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config[PREFIX + key] = "taken" if relative else tmp_path / "taken"
    with pytest.raises(ConfigError, match=f"{key} must be .* a folder.*taken'"):
        LlmCost(app)
    for name in ("there", "not-yet"):
        app.config[PREFIX + key] = name if relative else tmp_path / name
        assert Settings.read(app.config, app.instance_path)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("LLM_COST_MONTLY_BUDGET", "LLM_COST_MONTHLY_BUDGET"),
        ("LLM_COST_TIME_ZONE", "LLM_COST_TIMEZONE"),
        ("LLM_COST_PRICE_FILE", "LLM_COST_PRICES_FILE"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"^{wrong} is not .* Did you mean {right}"):
        Settings.read({wrong: 1})


def test_a_key_like_no_other_suggests_none() -> None:
    with pytest.raises(ConfigError, match="LLM_COST_QQQQ .* listed in the docs"):
        Settings.read({"LLM_COST_QQQQ": 1})


def test_keys_of_others_are_let_alone() -> None:
    config = {"SECRET_KEY": "x", "LLM_COSTS": 1, "LLM_ENABLED": 2}
    assert Settings.read(config).enabled is True


@pytest.mark.parametrize(
    ("key", "value", "setting"),
    [
        ("LOG_LEVEL", "debug", logging.DEBUG),
        ("SPOOL_DIR", "/var/spool/llm", Path("/var/spool/llm")),
        ("TIMEZONE", "UTC", dt.UTC),
        ("ROLLUP_TAGS", ["feature", "tenant", "feature"], ("feature", "tenant")),
        ("INSTRUMENT", True, ("requests", "httpx", "httpx2", "aiohttp", "botocore")),
        ("INSTRUMENT", "requests", ("requests",)),
        ("PROVIDER_HOSTS", {"[::1]:8000": "openai"}, {"[::1]:8000": "openai"}),
        ("PROVIDER_HOSTS", {"LLM.Example.com": "vllm"}, {"llm.example.com": "vllm"}),
        ("MONTHLY_BUDGET", 0.1, Decimal("0.1")),
        ("MONTHLY_BUDGET", "250", Decimal(250)),
        ("MONTHLY_BUDGET", None, None),
        ("MONTHLY_BUDGET", 0, Decimal(0)),
    ],
)
def test_a_right_value_is_read_as_what_it_means(
    key: str, value: object, setting: object
) -> None:
    assert read(key, value) == setting


def test_a_zone_keeps_its_summer_time() -> None:
    summer = dt.datetime(2026, 7, 1, tzinfo=read("TIMEZONE", "Europe/Berlin"))
    assert summer.utcoffset() == dt.timedelta(hours=2)


def test_reading_sets_the_defaults_in_the_config() -> None:
    config: dict[str, t.Any] = {"LLM_COST_PER_PAGE": 25}
    settings = Settings.read(config)
    assert set(config) == set(KEYS)
    assert config["LLM_COST_PER_PAGE"] == settings.per_page == 25


def test_settings_of_two_apps_share_nothing() -> None:
    one, other = Settings.read({}), Settings.read({})
    assert one == other
    assert one.price_sources is not other.price_sources


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.builds(Path)
    | st.sampled_from([print, dict, Settings, iter(()), object()])
    | st.sampled_from(["UTC", "database", "requests", "http://[", "a://b", "1_000"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


def outcome(config: dict[str, t.Any]) -> Settings | str:
    try:
        return Settings.read(config)
    except ConfigError as error:
        return str(error)


@given(key=st.sampled_from(KEYS), value=anything)
def test_any_value_is_taken_or_a_config_error(key: str, value: object) -> None:
    config = {key: value}
    first = outcome(config)
    assert isinstance(first, Settings) or key in first
    assert outcome(config) == first


@given(key=st.text())
def test_any_unknown_key_is_a_config_error(key: str) -> None:
    with pytest.raises(ConfigError, match="is not a setting of Flask-LLM-Cost"):
        Settings.read({f"{PREFIX}?{key}": None})
