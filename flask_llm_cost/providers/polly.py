"""Reads Amazon Polly's speech, which is billed by the character.

Source: https://docs.aws.amazon.com/polly/latest/dg/API_SynthesizeSpeech.html.
"""

from __future__ import annotations

import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import Dialect
from .dialect import Notes
from .dialect import Object

_CHARACTERS: t.Final = "x-amzn-requestcharacters"


def request(document: Object) -> dict[str, t.Any]:
    """Note the engine, which the price depends on."""
    return {"engine": document.get("Engine") or "standard"}


def usage(notes: Notes) -> Usage | None:
    """Get the characters, which are in a header of the answer."""
    notes.identify(
        model=notes.request.get("engine"),
        response_id=notes.headers.get("x-amzn-requestid"),
    )
    characters = notes.count(notes.headers.get(_CHARACTERS))
    return Usage(units={"character": Decimal(characters)}) if characters else None


SPEECH: t.Final = Dialect(
    read=lambda notes, document: None,
    usage=usage,
    request=request,
    headers=frozenset((_CHARACTERS, "x-amzn-requestid")),
)
