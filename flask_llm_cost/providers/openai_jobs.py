"""Reads OpenAI's jobs and stored objects, which are not answers of a model.

Videos, containers, vector stores, fine-tuning jobs, evaluations and graders. Sources: the
openai SDK's types ``Video``, ``ContainerCreateResponse``, ``VectorStore``,
``FineTuningJob``, ``RunRetrieveResponse`` and ``GraderRunResponse``, and
https://platform.openai.com/docs/pricing.
"""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

from ..call import Usage
from . import openai
from . import openai_usage
from .dialect import add_part
from .dialect import batch_dialect
from .dialect import inner
from .dialect import items
from .dialect import Notes
from .dialect import Object

# Videos


def read_video(notes: Notes, document: Object) -> None:
    """Take notes of a video that was ordered: its order has all that it is billed by."""
    seconds = notes.amount(document.get("seconds", notes.request.get("seconds")))
    _read_video(notes, document, seconds)


def read_extension(notes: Notes, document: Object) -> None:
    """Take notes of an extension. The answer's seconds are those of the whole video."""
    seconds = notes.amount(notes.request.get("seconds"))
    if seconds is None:
        notes.flags.add("unread_usage")
    _read_video(notes, document, seconds)


def _read_video(notes: Notes, document: Object, seconds: Decimal | None) -> None:
    openai.read(notes, document)
    notes.extra["size"] = document.get("size", notes.request.get("size"))
    if seconds and document.get("status") != "failed":
        notes.units["video_second"] = seconds


def video_request(document: Object) -> dict[str, t.Any]:
    """Note the length and the size of a video, which answers may not repeat."""
    return {name: document.get(name) for name in ("seconds", "size")}


def video_conditions(notes: Notes) -> frozenset[str]:
    """Flag the size of a video, which its price depends on."""
    return openai.conditions(size=notes.extra.get("size"))


def read_batch(notes: Notes, document: Object) -> None:
    """Take notes of an answer in a batch's output, which may be a video."""
    reader = read_video if document.get("object") == "video" else openai.read
    reader(notes, document)


# Containers and vector stores


def read_container(notes: Notes, document: Object) -> None:
    """Take notes of a new container. It is billed by the time that it runs."""
    name = document.get("id")
    notes.identify(model="container", response_id=name)
    notes.flags.add("session_fee")
    notes.units["code_interpreter"] = Decimal(1)
    if isinstance(name, str):
        notes.containers.add(name)


def read_search(notes: Notes, document: Object) -> None:
    """Take notes of a search in a vector store, which is billed by the call."""
    notes.identify(model=_STORE, response_id=None)
    notes.units["file_search"] = Decimal(1)


def read_store(notes: Notes, document: Object) -> None:
    """Take notes of files that are stored. They are billed by size and day."""
    notes.identify(model=_STORE, response_id=document.get("id"))
    notes.flags.add("session_fee")


_STORE: t.Final = "vector-store"
"""Stands for the model, which searching and storing do not have."""


# Jobs: the first look at one that has ended is the call.


def read_training(notes: Notes, document: Object) -> None:
    """Take notes of a fine-tuning job. One that was cancelled is billed for its part."""
    if document.get("status") not in ("succeeded", "cancelled"):
        return
    notes.identify(model=document.get("model"), response_id=document.get("id"))
    notes.date(document.get("created_at"))
    notes.background = True
    notes.merge({"trained_tokens": document.get("trained_tokens")})
    if inner(document, "method").get("type") == "reinforcement":
        # Billed by the hour: https://platform.openai.com/docs/pricing (fine-tuning).
        notes.flags.add("session_fee")


def training_usage(notes: Notes) -> Usage | None:
    """Get the tokens that were trained on, in all epochs."""
    trained = notes.count(notes.usage.get("trained_tokens"))
    if trained:
        return Usage(other_tokens={"input_training": trained})
    return Usage() if "session_fee" in notes.flags else None


def read_evaluation(notes: Notes, document: Object) -> None:
    """Take notes of a run of an evaluation. It lists the usage of each model."""
    if document.get("status") not in ("completed", "failed", "canceled"):
        return
    notes.identify(model=document.get("model"), response_id=document.get("id"))
    notes.date(document.get("created_at"))
    notes.background = True
    notes.extra["models"] = [
        (used.get("model_name"), used)
        for used in items(document.get("per_model_usage"))
        if isinstance(used, dict)
    ]


def read_grading(notes: Notes, document: Object) -> None:
    """Take notes of a grader's answer. A grader with a model reports its tokens."""
    by_model = inner(document, "model_grader_token_usage_per_model")
    details = inner(document, "metadata")
    notes.identify(model=details.get("sampled_model_name"), response_id=None)
    notes.extra["models"] = list(by_model.items())
    if details.get("token_usage") and not by_model:
        notes.flags.add("unread_usage")


def models_usage(notes: Notes) -> Usage | None:
    """Get the sum of what all models used."""
    total: dict[str, Usage] = {}
    for used in models_usage_by_model(notes).values():
        add_part(total, "", used, notes.flags)
    return total.get("", Usage() if notes.flags else None)


def models_usage_by_model(notes: Notes) -> dict[str, Usage]:
    """Get the usage by model."""
    parts: dict[str, Usage] = {}
    for name, seen in notes.extra.get("models", []):
        counts = seen if isinstance(seen, dict) else {}
        used = openai_usage.usage(Notes(usage=dict(counts), flags=notes.flags))
        if used is None or not isinstance(name, str) or not name:
            # A grader may report a total, which does not say at which rate it is billed.
            notes.flags.add("unread_usage")
        else:
            add_part(parts, name, used, notes.flags)
    return parts


_JOB: t.Final = dataclasses.replace(
    openai.CHAT, content=frozenset(("data",)), parse_whole_if=(b"",), envelope=""
)

VIDEO: t.Final = dataclasses.replace(
    _JOB,
    read=read_video,
    request=video_request,
    request_if=(b"",),
    price_flags=video_conditions,
)

EXTENSION: t.Final = dataclasses.replace(VIDEO, read=read_extension)

BATCH: t.Final = batch_dialect(
    dataclasses.replace(openai.CHAT, read=read_batch, price_flags=video_conditions),
    openai.batch_results,
)

CONTAINER: t.Final = dataclasses.replace(_JOB, read=read_container)

SEARCH: t.Final = dataclasses.replace(_JOB, read=read_search)

STORE: t.Final = dataclasses.replace(_JOB, read=read_store, usage=lambda notes: Usage())

TRAINING: t.Final = dataclasses.replace(_JOB, read=read_training, usage=training_usage)

EVALUATION: t.Final = dataclasses.replace(
    _JOB,
    read=read_evaluation,
    usage=models_usage,
    usage_by_model=models_usage_by_model,
)

GRADING: t.Final = dataclasses.replace(EVALUATION, read=read_grading)
