"""Reads OpenAI's answers with images, transcripts and speech."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import inner
from .dialect import items
from .dialect import Notes
from .dialect import Object
from .openai import CHAT
from .openai import conditions
from .openai import read
from .openai import with_svgs
from .openai_usage import COUNTED
from .openai_usage import usage


def read_images(notes: Notes, document: Object) -> None:
    """Take notes of images. Models before gpt-image are billed per image, not by token."""
    read(notes, document)
    svg = inner(document, "svg_usage") or inner(notes.usage, "svg_usage")
    if svg:
        notes.extra["svg_usage"] = svg
    if COUNTED & notes.usage.keys():
        notes.units.pop("image", None)
        return
    count = len(items(document.get("data")))
    if count:
        notes.units["image"] = Decimal(count)


def image_usage_by_model(notes: Notes) -> dict[str, Usage]:
    """Separate the usage of the model that drew SVGs, which the images' usage excludes."""
    svg = notes.extra.get("svg_usage")
    images, model = usage(notes), notes.model or notes.request_model
    if svg is None or images is None or model is None:
        return {}
    return with_svgs(notes, {model: images}, [svg])


def image_request(document: Object) -> dict[str, t.Any]:
    """Note the size and the quality of images, which their price depends on."""
    return {name: document.get(name) for name in ("size", "quality")}


def image_conditions(notes: Notes) -> frozenset[str]:
    """Flag the size and the quality of images that are billed by the image."""
    if COUNTED & notes.usage.keys():
        return frozenset()
    return conditions(**{name: notes.request.get(name) for name in ("size", "quality")})


def speech_request(document: Object) -> dict[str, t.Any]:
    """Note how many characters are to be spoken, which some models bill."""
    text = document.get("input")
    return {"characters": len(text)} if isinstance(text, str) else {}


def speech_usage(notes: Notes) -> Usage | None:
    """Get the tokens that a stream reports, or else the characters of the request.

    The audio itself has no usage: https://platform.openai.com/docs/pricing (TTS).
    """
    characters = notes.request.get("characters")
    if characters and COUNTED.isdisjoint(notes.usage):
        return Usage(units={"character": Decimal(characters)})
    return usage(notes)


def skim_images(notes: Notes, ends: bytes) -> None:
    """Take the number of images in an answer or event that is too long to keep."""
    count = notes.tally or len(_IMAGE.findall(ends))
    if count:
        notes.units["image"] = Decimal(count)


_IMAGE: t.Final = re.compile(rb'"(?:b64_json|url)"\s*:\s*"')


def read_audio(notes: Notes, document: Object) -> None:
    """Take notes of a transcript, which is billed by token or by second."""
    read(notes, document)
    seconds = notes.amount(
        notes.usage.get("seconds", notes.usage.get("prompt_audio_seconds"))
    )
    if seconds is None and not (COUNTED & notes.usage.keys()):
        seconds = notes.amount(document.get("duration"))
    if seconds:
        notes.units["audio_second"] = seconds


IMAGES: t.Final = dataclasses.replace(
    CHAT,
    read=read_images,
    content=frozenset(),
    tail=("usage",),
    envelope="",
    skim=skim_images,
    tally=_IMAGE,
    usage_by_model=image_usage_by_model,
    price_flags=image_conditions,
    request=image_request,
    request_if=(b"",),
)

AUDIO: t.Final = dataclasses.replace(
    CHAT,
    read=read_audio,
    content=frozenset(),
    tail=("usage", "duration", "model"),
    envelope="",
)

SPEECH: t.Final = dataclasses.replace(
    AUDIO, usage=speech_usage, request=speech_request, request_if=(b"",)
)
