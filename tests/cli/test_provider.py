"""The fake provider: a real server that answers in the providers' real formats."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import typing as t
from collections.abc import Iterator

import pytest
import requests

from flask_llm_cost.cli.demo.provider import serve
from flask_llm_cost.cli.demo.provider import serve_each

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello " * 40}]}
CLAUDE = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "hello " * 40}],
}
GEMINI = {"contents": [{"parts": [{"text": "hello " * 40}]}]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(pause=0) as url:
        yield url


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def events(response: requests.Response) -> list[t.Any]:
    lines = [line[6:] for line in response.text.splitlines() if line[:6] == "data: "]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_the_same_request_gets_the_same_answer(
    url: str, session: requests.Session
) -> None:
    first = session.post(f"{url}/v1/chat/completions", json=CHAT)
    assert (
        session.post(f"{url}/v1/chat/completions", json=CHAT).content == first.content
    )
    assert first.json()["model"] == "gpt-4o-2024-08-06"


def test_the_header_sets_exact_counts(url: str, session: requests.Session) -> None:
    usage = session.post(
        f"{url}/v1/chat/completions",
        json=CHAT,
        headers={"X-Loopback": "input=100 cached=1024 output=30 reasoning=10"},
    ).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (1124, 30)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 1024
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 10


def test_a_chat_stream_has_usage_only_when_asked(
    url: str, session: requests.Session
) -> None:
    plain = session.post(f"{url}/v1/chat/completions", json=CHAT | {"stream": True})
    asked = session.post(
        f"{url}/v1/chat/completions",
        json=CHAT | {"stream": True, "stream_options": {"include_usage": True}},
    )
    assert events(plain)[-1] == events(asked)[-1] == "[DONE]"
    assert all("usage" not in e for e in events(plain)[:-1])
    assert events(asked)[-2]["choices"] == []
    assert events(asked)[-2]["usage"]["completion_tokens"] > 0


def test_the_served_tier_is_reported(url: str, session: requests.Session) -> None:
    body = CHAT | {"service_tier": "flex"}
    answer = session.post(f"{url}/v1/chat/completions", json=body).json()
    assert answer["service_tier"] == "flex"


def test_a_responses_stream_ends_with_its_usage(
    url: str, session: requests.Session
) -> None:
    body = {"model": "gpt-5", "input": "hello", "stream": True}
    orders = {"X-Loopback": "output=30 reasoning=10"}
    said = events(session.post(f"{url}/v1/responses", json=body, headers=orders))
    assert [e["sequence_number"] for e in said] == list(range(len(said)))
    assert said[0]["type"] == "response.created"
    assert said[-1]["type"] == "response.completed"
    usage = said[-1]["response"]["usage"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 10}


def test_embeddings_have_vectors_and_no_output(
    url: str, session: requests.Session
) -> None:
    body = {"model": "text-embedding-3-small", "input": ["one", "two"]}
    answer = session.post(f"{url}/v1/embeddings", json=body).json()
    assert [len(v["embedding"]) for v in answer["data"]] == [1536, 1536]
    assert set(answer["usage"]) == {"prompt_tokens", "total_tokens"}


def test_anthropic_input_excludes_the_cache(
    url: str, session: requests.Session
) -> None:
    orders = "input=11 cached=22 write=33 write_1h=44 output=55"
    usage = session.post(
        f"{url}/v1/messages", json=CLAUDE, headers={"X-Loopback": orders}
    ).json()["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (11, 22)
    assert usage["cache_creation_input_tokens"] == 33 + 44
    assert usage["cache_creation"]["ephemeral_1h_input_tokens"] == 44


def test_an_anthropic_stream_counts_up(url: str, session: requests.Session) -> None:
    response = session.post(f"{url}/v1/messages", json=CLAUDE | {"stream": True})
    said = events(response)
    assert response.text.startswith("event: message_start\n")
    assert said[0]["message"]["usage"]["output_tokens"] == 1
    assert said[-2]["usage"]["output_tokens"] > 1
    assert said[-1] == {"type": "message_stop"}


def test_gemini_repeats_cumulative_usage(url: str, session: requests.Session) -> None:
    path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    said = events(session.post(f"{url}{path}?alt=sse", json=GEMINI))
    counts = [e["usageMetadata"]["candidatesTokenCount"] for e in said]
    assert counts == sorted(counts)
    assert counts[-1] > 0
    assert said[-1]["usageMetadata"]["totalTokenCount"] > counts[-1]
    assert {e["candidates"][0]["finishReason"] for e in said[:-1]} == {None}


def test_gemini_counts_thoughts_separately(url: str, session: requests.Session) -> None:
    usage = session.post(
        f"{url}/v1beta/models/gemini-2.5-pro:generateContent",
        json=GEMINI,
        headers={"X-Loopback": "input=5 cached=3 output=9 reasoning=4"},
    ).json()["usageMetadata"]
    assert usage["promptTokenCount"] == 8
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"]) == (5, 4)
    assert usage["totalTokenCount"] == 17


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_gzip_only_when_accepted(
    url: str, session: requests.Session, accepted: str
) -> None:
    response = session.post(
        f"{url}/v1/messages",
        json=CLAUDE | {"stream": True},
        headers={"Accept-Encoding": accepted},
    )
    assert response.headers.get("Content-Encoding", "identity") == accepted
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert events(response)[-1]["type"] == "message_stop"


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT), ("/v1/messages", CLAUDE)],
)
def test_a_model_name_selects_an_error(
    url: str, session: requests.Session, status: int, path: str, body: dict[str, t.Any]
) -> None:
    response = session.post(url + path, json=body | {"model": f"demo-{status}"})
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_a_header_selects_an_error(url: str, session: requests.Session) -> None:
    path = "/v1beta/models/gemini-2.5-pro:generateContent"
    response = session.post(
        url + path, json=GEMINI, headers={"X-Loopback": "status=429"}
    )
    assert response.status_code == 429
    assert response.json()["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_a_dropped_connection(url: str, session: requests.Session) -> None:
    with pytest.raises(requests.ConnectionError):
        session.post(f"{url}/v1/chat/completions", json=CHAT | {"model": "demo-drop"})


def test_a_stream_cut_midway(url: str, session: requests.Session) -> None:
    body = CLAUDE | {"stream": True, "model": "demo-cut"}
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.post(f"{url}/v1/messages", json=body)


def test_an_invalid_body_is_rejected(url: str, session: requests.Session) -> None:
    assert session.post(f"{url}/v1/messages", data=b"[1").status_code == 400
    assert session.post(f"{url}/v1/nothing", json={}).status_code == 404


def test_a_chunked_request_is_read(url: str, session: requests.Session) -> None:
    sent = json.dumps(CHAT).encode()
    response = session.post(
        f"{url}/v1/chat/completions", data=iter([sent[:20], sent[20:]])
    )
    assert response.json()["usage"]["prompt_tokens"] > 50


def test_each_provider_has_its_own_port() -> None:
    with serve_each() as urls:
        assert len(urls.hosts) == 3
        assert sorted(urls.hosts.values()) == ["anthropic", "gemini", "openai"]
        assert requests.get(urls.gemini, timeout=5).status_code == 404


def test_stopping_closes_the_port() -> None:
    with serve() as url, requests.Session() as session:
        session.post(f"{url}/v1/chat/completions", json=CHAT)
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_it_runs_standalone_and_exits_on_interrupt() -> None:
    command = [sys.executable, "-u", "-m", "flask_llm_cost.cli.demo.provider"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        response = requests.post(f"{url}/v1/chat/completions", json=CHAT, timeout=5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    assert response.status_code == 200


def test_a_port_in_use_is_a_clear_error() -> None:
    with serve() as url:
        port = url.rsplit(":", 1)[1]
        done = subprocess.run(
            [sys.executable, "-m", "flask_llm_cost.cli.demo.provider", "--port", port],
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
