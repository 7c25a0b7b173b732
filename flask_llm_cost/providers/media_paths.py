"""The paths of APIs that make and read images, videos and speech."""

from __future__ import annotations

import typing as t

from . import assemblyai
from . import deepgram
from . import elevenlabs
from . import fal
from . import gladia
from . import polly
from . import replicate
from . import soniox
from . import studios
from . import twelvelabs
from .paths import OPENAI
from .paths import Path

REPLICATE: t.Final = (
    Path(
        r".*/v1/(?:(?:models|deployments)/[^/]+/[^/]+/)?predictions",
        replicate.PREDICTION,
        "predictions",
    ),
    Path(r".*/v1/predictions/[^/]+", replicate.PREDICTION, "predictions", method="GET"),
)

FAL: t.Final = (Path(r"/(?P<model>(?!.*/requests/)[^/]+/.+)", fal.ORDER, "images"),)

BLACK_FOREST: t.Final = (
    Path(r".*/v1/(?P<model>flux-[^/]+)", studios.PRICED, "images"),
)

STABILITY: t.Final = (
    Path(
        r".*/v2beta/stable-image/(?:generate|edit|upscale|control)/(?P<model>[^/]+)",
        studios.IMAGE,
        "images",
    ),
)

RUNWAY: t.Final = (
    Path(r".*/v1/(?:image|text|video)_to_video", studios.VIDEO, "videos"),
    Path(r".*/v1/text_to_image", studios.PICTURE, "images"),
)

# Speech

DEEPGRAM: t.Final = (
    Path(r".*/v1/listen", deepgram.LISTEN, "audio"),
    Path(r".*/v1/speak", deepgram.SPEAK, "speech"),
    Path(r".*/v[12]/listen", deepgram.LISTEN_LIVE, "audio", method="WS", stream=True),
    Path(r".*/v[12]/speak", deepgram.SPEAK_LIVE, "speech", method="WS", stream=True),
)

ELEVENLABS: t.Final = (
    Path(
        r".*/v1/text-to-speech/[^/]+(?:/stream)?(?:/with-timestamps)?",
        elevenlabs.SPEECH,
        "speech",
    ),
    Path(r".*/v1/speech-to-text", elevenlabs.TRANSCRIPT, "audio"),
    Path(
        r".*/v1/text-to-speech/[^/]+/(?:multi-)?stream-input",
        elevenlabs.SPEECH_LIVE,
        "speech",
        method="WS",
        stream=True,
    ),
)

ASSEMBLYAI: t.Final = (
    Path(r".*/v2/transcript", assemblyai.TRANSCRIPT, "audio"),
    Path(r".*/v2/transcript/[^/]+", assemblyai.TRANSCRIPT, "audio", method="GET"),
    Path(r".*/v3/ws", assemblyai.LIVE, "audio", method="WS", stream=True),
    *OPENAI,
)

GLADIA: t.Final = (
    Path(r".*/v2/(?:pre-recorded|transcription|live)", gladia.TRANSCRIPT, "audio"),
    Path(
        r".*/v2/(?:pre-recorded|transcription|live)/[^/]+",
        gladia.TRANSCRIPT,
        "audio",
        method="GET",
    ),
)

SONIOX: t.Final = (
    Path(r".*/v1/transcriptions", soniox.TRANSCRIPT, "audio"),
    Path(r".*/v1/transcriptions/[^/]+", soniox.TRANSCRIPT, "audio", method="GET"),
    Path(r".*/transcribe-websocket", soniox.LIVE, "audio", method="WS", stream=True),
)

POLLY: t.Final = (Path(r"/v1/speech", polly.SPEECH, "speech"),)

TWELVELABS: t.Final = (
    Path(r".*/v1\.\d/(?:analyze|generate)", twelvelabs.ANALYZE, "chat"),
)
