"""Reads what Gemini and Vertex AI bill by other units: images, videos, caches, embeddings.

Sources: https://ai.google.dev/gemini-api/docs/pricing,
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/imagen-api,
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/veo-video-generation,
https://cloud.google.com/vertex-ai/generative-ai/docs/context-cache/context-cache-overview,
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/multimodal-embeddings-api.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage

# Images, and the clips of Lyria, which prices call images, too

_MADE: t.Final = ("bytesBase64Encoded", "gcsUri", "audioContent")


def read_images(notes: Notes, document: Object) -> None:
    """Count the images of an answer. Those that were filtered are not billed."""
    made = [
        image
        for image in items(document.get("predictions"))
        if isinstance(image, dict) and any(name in image for name in _MADE)
    ]
    if made:
        notes.units["image"] = Decimal(len(made))


def skim_images(notes: Notes, ends: bytes) -> None:
    """Take the number of images in an answer that is too long to keep."""
    if notes.tally:
        notes.units["image"] = Decimal(notes.tally)


IMAGES: t.Final = Dialect(
    read=read_images,
    usage=units_usage,
    parse_whole_if=(b"",),
    skim=skim_images,
    tally=re.compile(b'"(?:%s)"' % "|".join(_MADE).encode()),
)


# Videos

_SECONDS: t.Final = Decimal(8)
"""How long Veo's videos are by default."""

_EXTENSION: t.Final = Decimal(7)
"""By how many seconds Veo extends a video."""

_RESOLUTION: t.Final = "720p"
"""Veo's default, whose rate is the model's plain one."""


def video_request(document: Object) -> dict[str, t.Any]:
    """Note how many seconds of video a request asks for, and of which kind.

    The answer is the name of an operation. What it ends with has neither the seconds nor
    the resolution.
    """
    asked = inner(document, "parameters")
    instances = items(document.get("instances"))
    return {
        "seconds": asked.get("durationSeconds"),
        "count": asked.get("sampleCount", asked.get("numberOfVideos")),
        "resolution": asked.get("resolution"),
        "silent": asked.get("generateAudio") is False,
        "extends": any(inner({"": each}, "").get("video") for each in instances),
    }


def read_video(notes: Notes, document: Object) -> None:
    """Take notes of the operation that makes the videos, which are billed from here on."""
    name = document.get("name")
    if not isinstance(name, str):
        return
    notes.identify(model=None, response_id=name.rpartition("/")[2])
    asked = notes.request
    if asked.get("extends"):
        # Whether the seconds of the video that is extended or edited are billed again is
        # not documented.
        notes.flags.add("unread_usage")
    default = _EXTENSION if asked.get("extends") else _SECONDS
    seconds = notes.amount(asked.get("seconds")) or default
    count = notes.count(asked.get("count")) or 1
    notes.units["video_second"] = seconds * count


def video_conditions(notes: Notes) -> frozenset[str]:
    """Flag the resolution, and a video without sound, which costs less on Vertex AI."""
    found = {"audio.off"} if notes.request.get("silent") else set()
    resolution = str(notes.request.get("resolution") or _RESOLUTION).lower()
    if resolution != _RESOLUTION and _CONDITION.fullmatch(resolution):
        found.add(f"resolution.{resolution}")
    return frozenset(found)


_CONDITION: t.Final = re.compile(r"[a-z0-9x.-]{1,20}")

VIDEOS: t.Final = Dialect(
    read=read_video,
    usage=units_usage,
    parse_whole_if=(b"",),
    price_flags=video_conditions,
    request=video_request,
)


# Caches


def read_cache(notes: Notes, document: Object) -> None:
    """Take notes of a cache of content, whose storage is billed by the hour."""
    name, model = document.get("name"), document.get("model")
    notes.identify(
        model=model.rpartition("/")[2] if isinstance(model, str) else None,
        response_id=name,
    )
    if notes.merge(document.get("usageMetadata")):
        notes.flags.add("session_fee")


def cache_usage(notes: Notes) -> Usage | None:
    """Get the tokens that were written, which are billed like input.

    An answer does not list them by modality.
    """
    total = notes.usage.get("totalTokenCount")
    return None if total is None else Usage(cache_write_tokens=notes.count(total))


def renewal_usage(notes: Notes) -> Usage | None:
    """Get no tokens: a cache that lives longer is not written again."""
    return Usage() if notes.usage else None


CACHES: t.Final = Dialect(read=read_cache, usage=cache_usage, parse_whole_if=(b"",))

RENEWALS: t.Final = dataclasses.replace(CACHES, usage=renewal_usage)


# Multimodal embeddings

_PLAIN_INTERVAL: t.Final = 15
"""Video that is embedded more often than every 15 seconds has a higher rate."""


def embedding_request(document: Object) -> dict[str, t.Any]:
    """Note how many characters and images are to be embedded, which no answer says."""
    characters = images = 0
    finely = False
    for each in items(document.get("instances")):
        instance = inner({"": each}, "")
        text, video = instance.get("text"), inner(instance, "video")
        # White space is not billed.
        characters += len("".join(text.split())) if isinstance(text, str) else 0
        images += bool(instance.get("image"))
        interval = inner(video, "videoSegmentConfig").get("intervalSec")
        finely |= isinstance(interval, int) and interval < _PLAIN_INTERVAL
    return {"character": characters, "input_image_piece": images, "finely": finely}


def read_embedding(notes: Notes, document: Object) -> None:
    """Take notes of what was embedded. Of videos, the answer has the seconds."""
    if "predictions" not in document:
        return
    seconds = sum(
        notes.count(part.get("endOffsetSec")) - notes.count(part.get("startOffsetSec"))
        for prediction in items(document["predictions"])
        for part in items(inner({"": prediction}, "").get("videoEmbeddings"))
        if isinstance(part, dict)
    )
    counts = {**notes.request, "input_video_second": seconds}
    if counts.pop("finely", False):
        notes.flags.add("unread_usage")
    notes.units = {unit: Decimal(n) for unit, n in counts.items() if n > 0}


EMBEDDINGS: t.Final = Dialect(
    read=read_embedding,
    usage=units_usage,
    parse_whole_if=(b"",),
    request=embedding_request,
)
