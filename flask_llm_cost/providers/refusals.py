"""Claude's refusals, which are billed only if they came after some output."""

from __future__ import annotations

from .dialect import items
from .dialect import Notes
from .dialect import Object


def note_refusal(notes: Notes, content: object, *places: Object) -> None:
    """Note whether an answer has content, and whether it ended with a refusal."""
    if items(content):
        notes.extra["wrote"] = True
    if any(place.get("stop_reason") == "refusal" for place in places):
        notes.extra["refused"] = True


def refused(notes: Notes) -> bool:
    """Whether a request was refused before any output, and so is not billed.

    The answer still counts its input. One that was refused later is billed like others.
    Sources: https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback,
    and https://docs.aws.amazon.com/bedrock/latest/userguide/ (model card of Claude Fable 5).
    """
    return "refused" in notes.extra and "wrote" not in notes.extra
