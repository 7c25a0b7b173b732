"""The paths of clouds, whose APIs are like OpenAI's in part."""

from __future__ import annotations

import dataclasses
import typing as t

from . import alibaba
from . import cloudflare
from . import minimax
from . import oci
from . import openai
from . import sagemaker
from .paths import GATEWAY
from .paths import OPENAI
from .paths import ordered
from .paths import Path

ZAI: t.Final = (
    Path(r".*(?<!/async)/chat/completions", openai.CHAT, "chat"),
    *ordered(r".*/async/chat/completions", openai.CHAT, results=r".*/async-result"),
    *GATEWAY,
)

VOLCENGINE: t.Final = (
    *ordered(r".*/contents/generations/tasks", openai.CHAT, operation="videos"),
    *GATEWAY,
)

WRITER: t.Final = (Path(r".*/v1/chat", openai.CHAT, "chat"), *OPENAI)

SNOWFLAKE: t.Final = (
    Path(r".*/cortex/inference:complete", openai.CHAT, "chat"),
    Path(r".*/cortex/inference:embed", openai.EMBEDDINGS, "embeddings"),
    *GATEWAY,
)

ALIBABA: t.Final = (
    Path(r".*/services/aigc/[a-z-]+/generation", alibaba.CHAT, "chat"),
    Path(r".*/chat/completions", alibaba.CHAT, "chat"),
    Path(r".*/responses", alibaba.RESPONSES, "responses"),
    Path(r".*/v1/messages", alibaba.MESSAGES, "chat"),
    Path(r".*/services/embeddings/.*", openai.EMBEDDINGS, "embeddings"),
    Path(r".*/services/rerank/.*", openai.EMBEDDINGS, "rerank"),
    *GATEWAY,
)

DATABRICKS: t.Final = (
    Path(r".*/serving-endpoints/(?P<model>[^/]+)/invocations", openai.CHAT, "chat"),
    *GATEWAY,
)


def _below(prefix: str, api: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return an API's paths below a prefix, of a host that serves other things, too."""
    return tuple(
        dataclasses.replace(path, pattern=rf"(?=.*{prefix}){path.pattern}")
        for path in api
    )


CLOUDFLARE: t.Final = (
    Path(r".*/ai/run/(?P<model>@[^/]+/.+)", cloudflare.RUN, "chat"),
    *_below("/ai/v1/", OPENAI),
)

OCI: t.Final = (
    Path(r"(?!.*/agentEndpoints/).*/actions/chat", oci.CHAT, "chat"),
    Path(r".*/actions/embedText", oci.EMBEDDINGS, "embeddings"),
    *OPENAI,
)

MINIMAX: t.Final = (
    Path(r".*/text/chatcompletion_v2", openai.CHAT, "chat"),
    Path(r".*/t2a_v2", minimax.SPEECH, "speech"),
    Path(r".*/image_generation", minimax.IMAGES, "images"),
    *GATEWAY,
)

SAGEMAKER: t.Final = (
    Path(
        r".*/endpoints/(?P<model>[^/]+)/invocations(?:-response-stream)?",
        sagemaker.INVOKE,
        "chat",
        poll=True,
    ),
)
