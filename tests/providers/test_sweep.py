"""Variants of an exchange that mean the same are read the same."""

from __future__ import annotations

import random
import typing as t
from collections.abc import Callable
from urllib.parse import urlsplit
from urllib.parse import urlunsplit

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.finished import whole_reading
from tests.corpus import body_of
from tests.corpus import load
from tests.corpus import request_of
from tests.corpus import Row
from tests.corpus import SHARED

from .test_corpus import ENCODINGS
from .test_corpus import hosts

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="no ../shared")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    expected = {row["id"] for row in load("expected")}
    return [row for row in load("traffic") if row["id"] in expected]


def read(row: Row, **changes: t.Any) -> Reading | None:
    exchange: dict[str, t.Any] = {
        "method": row["method"],
        "url": row["url"],
        "request_body": request_of(row),
        "status": row["status"],
        "headers": row["response_headers"],
        "body": body_of(row),
        "hosts": hosts(row),
    }
    return read_exchange(**(exchange | changes))


def _parts(url: str, **changes: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**changes))


def _shouted(row: Row) -> dict[str, t.Any]:
    parts = urlsplit(row["url"])
    return {"url": _parts(row["url"], scheme="HTTPS", netloc=parts.netloc.upper())}


def _with_port(row: Row) -> dict[str, t.Any]:
    parts = urlsplit(row["url"])
    if parts.port is not None:
        return {}
    port = {"https": 443, "http": 80}.get(parts.scheme, 443)
    return {"url": _parts(row["url"], netloc=f"{parts.netloc}:{port}")}


def _with_user(row: Row) -> dict[str, t.Any]:
    parts = urlsplit(row["url"])
    return {"url": _parts(row["url"], netloc=f"user:pass@{parts.netloc}")}


def _other_scheme(row: Row) -> dict[str, t.Any]:
    parts = urlsplit(row["url"])
    if parts.scheme not in ("http", "https"):
        return {}
    other = "http" if parts.scheme == "https" else "https"
    return {"url": _parts(row["url"], scheme=other)}


def _with_slash(row: Row) -> dict[str, t.Any]:
    return {"url": _parts(row["url"], path=urlsplit(row["url"]).path + "/")}


def _with_query(row: Row) -> dict[str, t.Any]:
    query = urlsplit(row["url"]).query
    return {"url": _parts(row["url"], query=f"{query}&trace=a%2Fb".lstrip("&"))}


def _behind_a_prefix(row: Row) -> dict[str, t.Any]:
    """The request as sent to the app's own gateway, which forwards everything."""
    found = route(row["method"], row["url"], hosts=hosts(row))
    if found is None or found.model is not None:
        return {}
    where = {"gate.internal:8443": found.provider}
    path = "/llm/proxy" + urlsplit(row["url"]).path
    url = _parts(row["url"], netloc="gate.internal:8443", path=path)
    return {"url": url, "hosts": where}


def _loud_headers(row: Row) -> dict[str, t.Any]:
    return {"headers": {k.upper(): v for k, v in row["response_headers"].items()}}


def _other_type(row: Row) -> dict[str, t.Any]:
    return {"headers": {**_quiet(row), "content-type": "text/plain"}}


def _quiet(row: Row) -> dict[str, str]:
    return {k.lower(): v for k, v in row["response_headers"].items()}


def _quiet_method(row: Row) -> dict[str, t.Any]:
    return {"method": row["method"].lower()}


def _with_mark(row: Row) -> dict[str, t.Any]:
    return {"body": b"\xef\xbb\xbf" + body_of(row)}


def _with_blanks(row: Row) -> dict[str, t.Any]:
    body = row["response_body"]
    return {"body": f"\n {body}\n\n".encode()} if body.startswith("{") else {}


def _other_ends(row: Row) -> dict[str, t.Any]:
    body = row["response_body"]
    sent = body.startswith(("data:", "event:", ":")) and row["body_encoding"] == "text"
    if not sent or "\r" in body:
        return {}
    return {"body": body.replace("\n", "\r\n").encode()}


def _old_ends(row: Row) -> dict[str, t.Any]:
    changed = _other_ends(row)
    return {"body": changed["body"].replace(b"\r\n", b"\r")} if changed else {}


def _with_comments(row: Row) -> dict[str, t.Any]:
    changed = _other_ends(row)
    if not changed:
        return {}
    body = changed["body"].replace(b"\r\n", b"\n").replace(b"\n\n", b"\n\n: ping\n\n")
    return {"body": b": hello\n\n" + body}


VARIANTS: dict[str, Callable[[Row], dict[str, t.Any]]] = {
    "host in capitals": _shouted,
    "port of the scheme": _with_port,
    "user and password": _with_user,
    "the other scheme": _other_scheme,
    "a slash at the end": _with_slash,
    "one more parameter": _with_query,
    "a gateway": _behind_a_prefix,
    "headers in capitals": _loud_headers,
    "another content type": _other_type,
    "method in small letters": _quiet_method,
    "a byte order mark": _with_mark,
    "blanks around": _with_blanks,
    "CRLF": _other_ends,
    "CR": _old_ends,
    "comments between": _with_comments,
}

_SAME_OF_HOST = ("region.",)
"""Flags derived from the host, which a gateway does not have."""


def _essence(reading: Reading | None, variant: str) -> object:
    if reading is None or variant != "a gateway":
        return reading
    flags = {f for f in reading.flags if not f.startswith(_SAME_OF_HOST)}
    return (reading.usage, reading.model, reading.response_id, flags)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_read_the_same(rows: list[Row], variant: str) -> None:
    wrong, changed = [], 0
    for row in rows:
        changes = VARIANTS[variant](row)
        if not changes:
            continue
        changed += 1
        before, after = read(row), read(row, **changes)
        if _essence(before, variant) != _essence(after, variant):
            wrong.append((row["id"], before, after))
    assert changed > 100
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e != "identity"])
def test_an_encoded_body_is_read_the_same(rows: list[Row], encoding: str) -> None:
    """Each row is cut into pieces of some size; test_corpus tries all sizes."""
    pick, wrong = random.Random(encoding), []
    for row in rows:
        found = route(row["method"], row["url"], hosts=hosts(row))
        if found is None:
            continue
        exchange = Exchange(found, request_body=request_of(row))
        spelled = pick.choice([encoding, encoding.upper(), f" {encoding} "])
        exchange.begin_response(
            row["status"], {**row["response_headers"], "Content-Encoding": spelled}
        )
        body = ENCODINGS[encoding](body_of(row))
        size = pick.choice([37, 1000, 50_000])
        for at in range(0, len(body), size):
            exchange.feed(body[at : at + size], decoded=False)
        if whole_reading(exchange) != read(row):
            wrong.append(row["id"])
    assert not wrong
