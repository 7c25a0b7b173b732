"""Reads models on SageMaker that answer like OpenAI. Their endpoints are billed by the hour.

Most endpoints are not language models, so an answer is a call only if it has usage and an
id. Source:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import openai
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    openai.read(notes, document)
    notes.background = True
    notes.flags.add("session_fee")


INVOKE: t.Final = dataclasses.replace(openai.CHAT, read=read)
