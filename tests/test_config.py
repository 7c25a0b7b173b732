"""Settings are strict: an error names the key, the value and a fix."""

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
from flask_llm_cost.checks import INSTRUMENTS
from flask_llm_cost.config import PREFIX
from flask_llm_cost.config import Settings
from flask_llm_cost.errors import ConfigError

KEYS = [PREFIX + f.name.upper() for f in fields(Settings)]


def read(key: str, value: object) -> t.Any:
    """The setting that a config with one key gives."""
    settings = Settings.read({PREFIX + key: value})
    return getattr(settings, key.lower())


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("ENABLED", "yes", "True or False"),
        ("ENABLED", 1, "True or False"),
        ("STORAGE", "postgres", "'database', 'jsonl', 'log' or a callable"),
        ("LOG_LEVEL", "LOUD", "a logging level, such as 'INFO'"),
        ("LOG_LEVEL", True, "a logging level"),
        ("BIND_KEY", "", "a non-empty string"),
        ("BILL_SCOPES", {"proj_1": "proj_1"}, "has the key 'proj_1'"),
        ("BILL_SCOPES", {"project=sk-proj-1": "proj_1"}, "parts of a call's scope"),
        ("BILL_SCOPES", {"project=a  key=b": "proj_1"}, '"*" for all other calls'),
        ("ENGINE_OPTIONS", ["pool_size"], "a mapping with string keys"),
        ("ENGINE_OPTIONS", {1: 2}, "a mapping with string keys"),
        ("WRITE", "async", "one of 'spool', 'sync'"),
        ("SPOOL_DIR", 7, "a non-empty string"),
        ("SPOOL_DIR", "a\0b", "without a NUL"),
        ("TIMEZONE", "Mars/Olympus", "an IANA time zone"),
        ("TIMEZONE", "../UTC", "an IANA time zone"),
        ("TIMEZONE", dt.UTC, "an IANA time zone"),
        ("WEEK_START", "Monday", "one of 'monday', 'sunday'"),
        ("DEFAULT_TAGS", "chat", "a mapping of tags, or a callable"),
        ("ROLLUP_TAGS", "feature", "a list of tag keys"),
        ("ROLLUP_TAGS", ["a tag"], "letters, digits"),
        ("ROLLUP_TAGS", iter(["feature"]), "a list of tag keys"),
        ("MAX_TAGS", -1, "an integer from 0 to 1000"),
        ("MAX_TAG_BYTES", 2048, "an integer from 0 to 1024"),
        ("REDACTED_TAG_KEYS", None, "a list of tag keys"),
        ("SESSION_NAMES", "names", "a callable"),
        ("INSTRUMENT", "urllib", "one of requests, httpx"),
        ("INSTRUMENT", 3, "True, False, or a list"),
        ("INSTRUMENT", {"httpx": False}, "True, False, or a list"),
        ("PRICE_SOURCES", {"litellm": None}, "a non-empty string"),
        ("PROVIDER_HOSTS", {"https://llm.example.com": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"llm.example.com/v1": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"localhost:eighty": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"[::1": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"a b": "openai"}, "host or host:port"),
        ("PROVIDER_HOSTS", {"*": "openai"}, "all hosts below a name"),
        ("PROVIDER_HOSTS", {"a.*.test": "openai"}, "all hosts below a name"),
        ("PROVIDER_HOSTS", {"*.*.test": "openai"}, "all hosts below a name"),
        ("PROVIDER_HOSTS", {"*.a.test/v1": "openai"}, "all hosts below a name"),
        ("PROVIDER_HOSTS", {"a.test": "x", "A.test": "y"}, "each host once"),
        ("MODEL_ALIASES", {"a": ""}, "a non-empty string"),
        ("MONTHLY_BUDGET", "ten", "a number from 0 to 1e12"),
        ("MONTHLY_BUDGET", -1, "a number from 0 to 1e12"),
        ("DAILY_BUDGET", float("nan"), "a number from 0 to 1e12"),
        ("CALL_BUDGET", "Infinity", "a number from 0 to 1e12"),
        ("CALL_BUDGET", "1e999999999", "a number from 0 to 1e12"),
        ("CALL_BUDGET", False, "a number from 0 to 1e12"),
        ("BUDGETS", {"name": "all"}, "a list of mappings"),
        ("BUDGETS", ["all"], "a mapping with string keys"),
        ("BUDGET_BEHAVIOR", "stop", "one of 'notify', 'raise', 'block'"),
        ("ON_STORAGE_ERROR", "die", "one of 'ignore', 'warn', 'raise'"),
        ("PER_PAGE", 30, "25, 50, 100 or 200"),
        ("PER_PAGE", 25.0, "25, 50, 100 or 200"),
    ],
)
def test_an_invalid_value_is_reported_with_its_key_and_a_hint(
    key: str, value: object, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(key, value)
    message = str(caught.value)
    assert PREFIX + key in message
    assert hint in message
    if isinstance(value, str):
        assert repr(value) in message


@pytest.mark.parametrize("key", ["MAX_TAGS", "PER_PAGE", "MONTHLY_BUDGET"])
def test_a_value_that_cannot_be_shown_is_reported_by_type(key: str) -> None:
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
        ("ENGINE_OPTIONS", "connect_args=hunter2"),
        ("ENGINE_OPTIONS", [("password", "hunter2")]),
        ("ENGINE_OPTIONS", {1: "hunter2"}),
        ("PRICE_SOURCES", "https://me:hunter2@prices.example.com/x.json"),
        ("PRICE_SOURCES", {"litellm": b"https://me:hunter2@prices.example.com"}),
    ],
)
def test_an_invalid_secret_is_not_shown(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=PREFIX + key) as caught:
        read(key, value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["DATABASE_URI", "READ_DATABASE_URI"])
@pytest.mark.parametrize(
    ("scheme", "hint"),
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
def test_an_asynchronous_or_unknown_driver_is_rejected(
    key: str, scheme: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{PREFIX}{key} ") as caught:
        read(key, f"{scheme}://me:hunter2@db/ledger")
    assert hint in str(caught.value)
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
def test_a_synchronous_driver_is_accepted(uri: str) -> None:
    assert read("DATABASE_URI", uri) == read("READ_DATABASE_URI", uri) == uri


def test_bind_key_and_database_uri_exclude_each_other() -> None:
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
def test_a_folder_setting_rejects_a_file(
    tmp_path: Path, key: str, relative: bool
) -> None:
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
def test_a_misspelled_key_suggests_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"^{wrong} is not .* Did you mean {right}"):
        Settings.read({wrong: 1})


def test_a_key_unlike_any_other_has_no_suggestion() -> None:
    with pytest.raises(ConfigError, match="LLM_COST_QQQQ .* See the docs"):
        Settings.read({"LLM_COST_QQQQ": 1})


def test_other_keys_are_ignored() -> None:
    config = {"SECRET_KEY": "x", "LLM_COSTS": 1, "LLM_ENABLED": 2}
    assert Settings.read(config).enabled is True


@pytest.mark.parametrize(
    ("key", "value", "setting"),
    [
        ("LOG_LEVEL", "debug", logging.DEBUG),
        ("SPOOL_DIR", "/var/spool/llm", Path("/var/spool/llm")),
        ("TIMEZONE", "UTC", dt.UTC),
        ("ROLLUP_TAGS", ["feature", "tenant", "feature"], ("feature", "tenant")),
        ("INSTRUMENT", True, INSTRUMENTS),
        ("INSTRUMENT", "requests", ("requests",)),
        ("PROVIDER_HOSTS", {"[::1]:8000": "openai"}, {"[::1]:8000": "openai"}),
        ("PROVIDER_HOSTS", {"LLM.Example.com": "vllm"}, {"llm.example.com": "vllm"}),
        ("MONTHLY_BUDGET", 0.1, Decimal("0.1")),
        ("MONTHLY_BUDGET", "250", Decimal(250)),
        ("MONTHLY_BUDGET", None, None),
        ("MONTHLY_BUDGET", 0, Decimal(0)),
    ],
)
def test_a_valid_value_is_converted(key: str, value: object, setting: object) -> None:
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
