"""OpenAI's jobs and stored things: videos, containers, vector stores, training, grading.

The answers have the form of the openai SDK's types (3.57), which they are built from.
"""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.quote import Quote
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route
from tests.providers.test_polls import fetch

OPENAI = "https://api.openai.com/v1"


def ask(
    path: str, answer: object, request: object = None, method: str = "POST"
) -> Reading:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    reading = read_exchange(
        method=method,
        url=f"{OPENAI}/{path}",
        request_body=body,
        status=200,
        headers={},
        body=json.dumps(answer).encode(),
    )
    assert reading is not None
    return reading


def quoted(reading: Reading) -> Quote:
    return PriceBook.bundled().quote(
        reading.provider,
        reading.model or "unknown",
        reading.usage,
        service_tier=reading.service_tier,
        flags=reading.flags,
    )


# Videos


def video(**members: t.Any) -> dict[str, t.Any]:
    return {
        "id": "video_1",
        "object": "video",
        "created_at": 1771881670,
        "model": "sora-2-pro",
        "status": "queued",
        "progress": 0,
        "prompt": "a cat",
        "seconds": "8",
        "size": "1024x1792",
        **members,
    }


@pytest.mark.parametrize("path", ["videos", "videos/edits", "videos/video_0/remix"])
def test_an_ordered_video_is_billed_by_second_and_size(path: str) -> None:
    reading = ask(path, video(), {"prompt": "a cat"})
    assert reading.usage == Usage(units={"video_second": Decimal(8)})
    assert (reading.model, reading.response_id) == ("sora-2-pro", "video_1")
    assert (reading.operation, reading.flags) == ("videos", {"size.1024x1792"})
    cost = quoted(reading).cost
    assert cost is not None
    assert cost.complete
    assert cost.total_usd == 4  # 8 x $0.50


def test_a_smaller_video_costs_less() -> None:
    cost = quoted(ask("videos", video(size="720x1280", model="sora-2"))).cost
    assert cost is not None
    assert cost.total_usd == Decimal("0.8")  # 8 x $0.10


def test_polls_for_a_video_are_not_calls() -> None:
    assert route("GET", f"{OPENAI}/videos/video_1") is None
    assert route("GET", f"{OPENAI}/videos/video_1/content") is None


def test_a_video_that_failed_at_once_is_not_billed() -> None:
    assert ask("videos", video(status="failed")).usage is None


def test_an_extension_is_billed_without_the_video_that_it_extends() -> None:
    request = {"prompt": "x", "seconds": "4", "video": {"id": "video_0"}}
    reading = ask("videos/extensions", video(seconds="12"), request)
    assert reading.usage == Usage(units={"video_second": Decimal(4)})


def test_an_extension_of_unknown_length_is_flagged() -> None:
    reading = ask("videos/extensions", video(seconds="12"))
    assert reading.usage is None
    assert "unread_usage" in reading.flags


def test_a_form_has_the_length_of_an_extension() -> None:
    form = (
        b'--x\r\nContent-Disposition: form-data; name="seconds"\r\n\r\n12\r\n'
        b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
        b"\x00\r\n--x--\r\n"
    )
    reading = ask("videos/extensions", video(seconds="20"), form)
    assert reading.usage == Usage(units={"video_second": Decimal(12)})


def test_a_video_of_a_batch_is_a_call_in_batch_mode() -> None:
    line = {
        "id": "batch_req_1",
        "response": {"status_code": 200, "body": video(status="completed")},
    }
    exchange = fetch(f"{OPENAI}/files/file-1/content", line)
    exchange.reading(ended=True)
    (reading,) = exchange.take_results()
    assert reading.usage == Usage(units={"video_second": Decimal(8)})
    assert reading.service_tier == "batch"
    assert "size.1024x1792" in reading.flags


# Containers


def response(*output: dict[str, t.Any], **members: t.Any) -> dict[str, t.Any]:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    return {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5.5",
        "output": [*output],
        "usage": usage,
        **members,
    }


def ran(container: str | None, **members: t.Any) -> dict[str, t.Any]:
    found = {"type": "code_interpreter_call", "status": "completed"}
    return {**found, "container_id": container, **members}


def shell(environment: dict[str, t.Any]) -> dict[str, t.Any]:
    action = {"commands": ["ls"]}
    return {"type": "shell_call", "action": action, "environment": environment}


def test_a_container_that_ran_code_is_named_and_counted_once() -> None:
    reading = ask("responses", response(ran("cntr_1"), ran("cntr_1"), ran("cntr_2")))
    assert reading.usage is not None
    assert reading.usage.units == {"code_interpreter": 2}
    assert reading.containers == {"cntr_1", "cntr_2"}
    assert reading.flags == {"session_fee"}


def test_a_hosted_shell_runs_in_a_container_and_a_local_one_does_not() -> None:
    hosted = shell({"type": "container_reference", "container_id": "cntr_1"})
    reading = ask(
        "responses", response(hosted, ran("cntr_1"), shell({"type": "local"}))
    )
    assert reading.usage is not None
    assert reading.usage.units == {"code_interpreter": 1}
    assert reading.containers == {"cntr_1"}
    assert not ask("responses", response(shell({"type": "local"}))).flags


def test_a_created_container_has_a_fee_over_time() -> None:
    answer = {"id": "cntr_1", "object": "container", "memory_limit": "4g"}
    reading = ask("containers", answer, {"name": "x"})
    assert reading.usage == Usage(units={"code_interpreter": Decimal(1)})
    assert (reading.model, reading.response_id) == ("container", "cntr_1")
    assert (reading.containers, reading.flags) == ({"cntr_1"}, {"session_fee"})
    cost = quoted(reading).cost
    assert cost is not None
    assert not cost.complete


# Vector stores


def test_a_search_in_a_vector_store_is_billed_by_the_call() -> None:
    answer = {"object": "vector_store.search_results.page", "data": [{"file_id": "f"}]}
    reading = ask("vector_stores/vs_1/search", answer, {"query": "x"})
    assert reading.usage == Usage(units={"file_search": Decimal(1)})
    assert (reading.operation, reading.flags) == ("search", frozenset())
    cost = quoted(reading).cost
    assert cost is not None
    assert (cost.total_usd, cost.complete) == (Decimal("0.0025"), True)


@pytest.mark.parametrize("path", ["", "/vs_1/files", "/vs_1/file_batches"])
def test_storing_files_has_a_fee_over_time(path: str) -> None:
    answer = {"id": "vs_1", "usage_bytes": 123}
    reading = ask(f"vector_stores{path}", answer)
    assert (reading.usage, reading.flags) == (Usage(), {"session_fee"})
    assert reading.operation == "storage"
    cost = quoted(reading).cost
    assert cost is not None
    assert (cost.total_usd, cost.complete) == (0, False)


# Fine-tuning


def job(**members: t.Any) -> dict[str, t.Any]:
    return {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 1771881670,
        "model": "gpt-4o-mini-2024-07-18",
        "status": "succeeded",
        "trained_tokens": 5000,
        "method": {"type": "supervised"},
        **members,
    }


def poll(path: str, answer: dict[str, t.Any]) -> Reading:
    return fetch(f"{OPENAI}/{path}", answer).reading(ended=True)


@pytest.mark.parametrize("status", ["succeeded", "cancelled"])
def test_a_fine_tuning_job_is_billed_by_the_tokens_of_its_training(status: str) -> None:
    reading = poll("fine_tuning/jobs/ftjob-1", job(status=status))
    assert reading.usage == Usage(other_tokens={"input_training": 5000})
    assert (reading.model, reading.response_id) == ("gpt-4o-mini-2024-07-18", "ftjob-1")
    assert reading.created_at is not None
    assert reading.flags == frozenset()


def test_a_rate_for_training_prices_a_job(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    rates = {"input": 0.15, "output": 0.6, "input_training": 3}
    path.write_text(json.dumps({"models": {"openai/gpt-4o-mini-2024-07-18": rates}}))
    reading = poll("fine_tuning/jobs/ftjob-1", job())
    assert quoted(reading).cost is None
    cost = PriceBook.load(path).cost("openai", reading.model or "", reading.usage)
    assert cost is not None
    assert (cost.total_usd, cost.complete) == (Decimal("0.015"), True)  # 5,000 x $3/1M


@pytest.mark.parametrize("status", ["running", "queued", "failed"])
def test_a_job_that_is_not_billed_has_no_usage(status: str) -> None:
    reading = poll("fine_tuning/jobs/ftjob-1", job(status=status))
    assert reading.usage is None


def test_reinforcement_is_billed_by_the_hour() -> None:
    answer = job(trained_tokens=None, method={"type": "reinforcement"})
    reading = poll("fine_tuning/jobs/ftjob-1", answer)
    assert (reading.usage, reading.flags) == (Usage(), {"session_fee"})


@pytest.mark.parametrize(
    ("model", "flags"),
    [("gpt-4o-mini-2024-07-18.ft-0e208cf33a", {"session_fee"}), ("gpt-4o-mini", set())],
)
def test_a_fine_tuned_model_on_azure_has_a_fee_over_time(
    model: str, flags: set[str]
) -> None:
    answer = {"model": model, "choices": [], "usage": {"prompt_tokens": 3}}
    reading = read_exchange(
        method="POST",
        url="https://x.openai.azure.com/openai/deployments/d/embeddings",
        request_body=None,
        status=200,
        headers={},
        body=json.dumps(answer).encode(),
    )
    assert reading is not None
    assert reading.flags == flags


# Evaluations and graders


def used(model: str, prompt: int, **members: t.Any) -> dict[str, t.Any]:
    return {
        "model_name": model,
        "invocation_count": 3,
        "prompt_tokens": prompt,
        "completion_tokens": 2,
        "cached_tokens": 4,
        "total_tokens": prompt + 2,
        **members,
    }


def run(*models: dict[str, t.Any], **members: t.Any) -> dict[str, t.Any]:
    return {
        "id": "evalrun_1",
        "object": "eval.run",
        "created_at": 1771881670,
        "model": "gpt-4.1",
        "status": "completed",
        "per_model_usage": [*models],
        **members,
    }


def test_a_run_of_an_evaluation_is_billed_by_model() -> None:
    answer = run(used("gpt-4.1", 10), used("o3-mini", 20))
    reading = poll("evals/eval_1/runs/evalrun_1", answer)
    assert reading.usage_by_model == {
        "gpt-4.1": Usage(input_tokens=6, cache_read_tokens=4, output_tokens=2),
        "o3-mini": Usage(input_tokens=16, cache_read_tokens=4, output_tokens=2),
    }
    assert reading.usage is not None
    assert reading.usage.total_tokens == 34
    assert (reading.response_id, reading.flags) == ("evalrun_1", frozenset())


def test_a_run_that_goes_on_has_no_usage() -> None:
    answer = run(used("gpt-4.1", 10), status="in_progress")
    assert poll("evals/eval_1/runs/evalrun_1", answer).usage is None


def test_a_grader_reports_the_tokens_of_its_model() -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    answer = {
        "metadata": {"sampled_model_name": "o3-mini", "token_usage": 12},
        "model_grader_token_usage_per_model": {"o3-mini": counts},
    }
    reading = ask("fine_tuning/alpha/graders/run", answer)
    assert reading.usage_by_model == {
        "o3-mini": Usage(input_tokens=10, output_tokens=2)
    }
    assert reading.model == "o3-mini"
    assert not reading.flags


@pytest.mark.parametrize("by_model", [{}, {"o3-mini": 12}])
def test_a_graders_total_is_flagged(by_model: dict[str, t.Any]) -> None:
    answer = {
        "metadata": {"sampled_model_name": "o3-mini", "token_usage": 12},
        "model_grader_token_usage_per_model": by_model,
    }
    reading = ask("fine_tuning/alpha/graders/run", answer)
    assert (reading.usage, reading.flags) == (Usage(), {"unread_usage"})


def test_a_grader_without_a_model_is_free() -> None:
    answer = {"metadata": {"token_usage": None}, "reward": 1.0}
    reading = ask("fine_tuning/alpha/graders/run", answer)
    assert (reading.usage, reading.flags) == (None, frozenset())
