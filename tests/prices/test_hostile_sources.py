"""Price sources that attack: a clear error, within bounds, and the file stays."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import tracemalloc
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_llm_cost import PriceSyncError
from flask_llm_cost.prices.fetch import fetch
from flask_llm_cost.prices.sync import sync
from tests.conftest import MakeApp

from .test_sync import NOW

ENTRY: t.Final = (
    b'{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": %s,'
    b' "output_cost_per_token": 0.00001}'
)


class Hostile:
    """Answers every request with the same bytes, as it likes."""

    def __init__(self, answer: t.Callable[[socket.socket], object]) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/prices.json"
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client = self._server.accept()[0]
            except OSError:
                return
            with client:
                client.settimeout(30)
                try:
                    client.recv(65536)
                    self._answer(client)
                except OSError:
                    pass

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(30)


MakeHostile: t.TypeAlias = t.Callable[[t.Callable[[socket.socket], object]], Hostile]


@pytest.fixture
def hostile() -> Iterator[MakeHostile]:
    made: list[Hostile] = []

    def make(answer: t.Callable[[socket.socket], object]) -> Hostile:
        made.append(Hostile(answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


def head(more: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nConnection: close\r\n%s\r\n" % (status, more)


def says(body: bytes, more: bytes = b"") -> t.Callable[[socket.socket], object]:
    return lambda client: client.sendall(head(more) + body)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"openai/gpt-4o": {"input": 2.5, "output": 10}}}')
    return path


def nested(depth: int) -> bytes:
    return b'{"gpt-4o": ' + b"[" * depth + b"]" * depth + b"}"


BODIES: t.Final = {
    "deep": nested(100_000),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "many lists": b"[" + b"[]," * 3_000_000 + b"1]",
    "many values": b"[" + b"{}," * 2_000_000 + b"1]",
    "gzip bomb": gzip.compress(b" " * 200_000_000, 1),
    "nested gzip": gzip.compress(gzip.compress(b" " * 100_000_000, 1)),
    "html": b"<!doctype html><title>\x1b[2J</title>",
    "empty": b"",
    "not UTF-8": b'{"\xff\xfe": 1}',
    "scalar": b"1e999999",
    "escapes": b'"\\u001b[2J\\u009b31m"',
    "duplicate model": b'{"gpt-4o": %s, "gpt-4o": %s}' % (ENTRY % b"1", ENTRY % b"2"),
    "duplicate rate": b'{"gpt-4o": {"input_cost_per_token": 1,'
    b' "input_cost_per_token": 2}}',
    "duplicate with escapes": b'{"\\u001b]0;x\\u0007": 1, "\\u001b]0;x\\u0007": 2}',
    "many digits": b'{"gpt-4o": %s' % (b"9" * 5_000_000),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_hostile_body_is_a_clear_error_and_the_file_stays(
    kind: str, hostile: MakeHostile, file: Path
) -> None:
    before = file.read_bytes()
    source = hostile(says(BODIES[kind]))
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(PriceSyncError) as caught:
            sync(file, {"litellm": source.url}, now=NOW, timeout=20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("litellm ")
    assert len(str(caught.value)) < 500
    assert peak < 200_000_000
    assert time.monotonic() - started < 60
    assert file.read_bytes() == before
    assert not [p for p in file.parent.iterdir() if p.suffix == ".bak"]


@pytest.mark.parametrize(
    "rate",
    [
        *(
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"1e999999",
            b"-1e999999",
            b"-0.1",
            b'"x"',
        ),
        *(
            b'"NaN"',
            b'"-1"',
            b"9" * 4000,
            b"[]",
            b'"\\u001b[31m"',
            b"true",
            b"1e-999999",
        ),
    ],
)
def test_a_hostile_rate_changes_nothing(
    rate: bytes, hostile: MakeHostile, file: Path, make_app: MakeApp
) -> None:
    before = json.loads(file.read_text())["models"]
    source = hostile(says(b'{"gpt-4o": %s}' % (ENTRY % rate)))
    runner = make_app(LLM_COST_PRICES_FILE=str(file)).test_cli_runner()
    for command in (("sync",), ("check",), ("check", "--format", "json")):
        args = ["llm-cost", "prices", *command, "--source", f"litellm={source.url}"]
        done = runner.invoke(args=args)
        assert done.exit_code in (0, 1), done.exception
        assert all(c.isprintable() or c == "\n" for c in done.output), ascii(
            done.output
        )
    after = json.loads(file.read_text())["models"]["openai/gpt-4o"]
    assert after["input"] == before["openai/gpt-4o"]["input"]


KEYS: t.Final = ("\x1b[2J", "\x9b31m", "a\nb", "\u202e", "\x00", "\x7f", "a" * 100_000)


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_no_key_reaches_the_terminal_raw(
    key: str, hostile: MakeHostile, file: Path, make_app: MakeApp
) -> None:
    entry = json.loads(ENTRY % b"0.1")
    document = {
        key: entry,
        f"openai/{key}": entry | {"litellm_provider": key},
        "gpt-4o": entry | {key: 1, f"{key}_cost_per_token": 1, "source": key},
        "gpt-4o-mini": entry | {"input_cost_per_token": key, "mode": key},
    }
    body = json.dumps(document).encode()
    source = hostile(says(body, b"ETag: \x1b[31m\xc2\x9b\r\n"))
    runner = make_app(LLM_COST_PRICES_FILE=str(file)).test_cli_runner()
    for command in (
        ("sync", "--preview", "--add", "*"),
        ("sync", "--add", "*/*mini*", "--add", "*"),
        ("check", "--all"),
        ("check", "--all", "--format", "json"),
        ("sync", "--strict"),
    ):
        args = ["llm-cost", "prices", *command, "--source", f"litellm={source.url}"]
        done = runner.invoke(args=args)
        assert done.exit_code in (0, 1), done.exception
        assert all(c.isprintable() or c == "\n" for c in done.output), ascii(
            done.output
        )
    assert "\\u001b[31m" not in file.read_text()


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/",
        "data:application/json,{}",
        "http://127.0.0.1:{other}/x",
        "https://127.0.0.1:{other}/x",
        "https://localhost:{other}/x",
        "http://[::1]:{other}/x",
        "https://10.0.0.1/x",
        "https://192.168.1.1/x",
        "https://169.254.169.254/latest/meta-data",
        "http://169.254.169.254/latest/meta-data",
        "https://[fd00::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0/x",
        "http://example.com/\x1b[2J",
    ],
)
def test_a_redirect_leads_neither_to_files_nor_to_private_addresses(
    location: str, hostile: MakeHostile
) -> None:
    asked: list[bytes] = []
    other = hostile(lambda client: asked.append(b"reached"))
    to = location.replace("{other}", str(other.port)).encode()
    source = hostile(
        lambda client: client.sendall(head(b"Location: %s\r\n" % to, b"302 Found"))
    )
    answer = fetch("litellm", source.url, timeout=10)
    assert answer.sheet is None
    assert answer.error
    assert asked == []


def test_endless_redirects_end(hostile: MakeHostile) -> None:
    asked: list[int] = []

    def answer(client: socket.socket) -> None:
        asked.append(1)
        client.sendall(head(b"Location: /again%d\r\n" % len(asked), b"302 Found"))

    assert "redirect" in str(fetch("litellm", hostile(answer).url, timeout=10).error)
    assert len(asked) < 10


def test_the_body_of_a_redirect_is_not_read(hostile: MakeHostile) -> None:
    """Before, it was read to its end, in memory."""
    sent: list[int] = []

    def answer(client: socket.socket) -> None:
        if sent:
            client.sendall(head() + b"[]")
            return
        client.sendall(head(b"Location: /next\r\n", b"302 Found"))
        while len(sent) < 2000:
            client.sendall(b" " * 65536)
            sent.append(65536)

    assert fetch("litellm", hostile(answer).url, timeout=30).error
    assert sum(sent) < 30_000_000


def drip(data: bytes) -> t.Callable[[socket.socket], object]:
    def answer(client: socket.socket) -> None:
        until = time.monotonic() + 8
        client.sendall(data)
        while time.monotonic() < until:
            client.sendall(b" ")
            time.sleep(0.05)

    return answer


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        head(),
        head() + b"{",
        head(b"Content-Length: 9999999\r\n"),
    ],
    ids=["status", "headers", "body", "json", "promised"],
)
def test_a_source_that_drips_is_given_up(start: bytes, hostile: MakeHostile) -> None:
    """Before, one that dripped its headers was read for as long as it dripped."""
    source = hostile(drip(start))
    started = time.monotonic()
    answer = fetch("litellm", source.url, timeout=1)
    assert time.monotonic() - started < 6
    assert "timed out" in str(answer.error) or "too long" in str(answer.error)


def test_a_body_that_never_ends_is_given_up(hostile: MakeHostile) -> None:
    def answer(client: socket.socket) -> None:
        client.sendall(head(b"Transfer-Encoding: chunked\r\n"))
        while True:
            client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")

    found = fetch("litellm", hostile(answer).url, timeout=30)
    assert "more than 33,554,432 bytes" in str(found.error)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 503 \x1b[2J\x9b31m\r\n\r\n",
        b"\x1b[2J\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\x1b[2J\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_hostile_head_is_printed_in_plain_text(
    start: bytes, hostile: MakeHostile, file: Path, make_app: MakeApp
) -> None:
    before = file.read_bytes()
    source = hostile(lambda client: client.sendall(start))
    runner = make_app(LLM_COST_PRICES_FILE=str(file)).test_cli_runner()
    args = ["llm-cost", "prices", "sync", "--source", f"litellm={source.url}"]
    done = runner.invoke(args=args)
    if b"text/html" not in start and b": -1" not in start:
        assert done.exit_code == 1, done.output
        assert "Error: " in done.output
    assert all(c.isprintable() or c == "\n" for c in done.output), ascii(done.output)
    assert json.loads(file.read_bytes())["models"] == json.loads(before)["models"]
