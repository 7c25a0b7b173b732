"""The fields of a form that is sent with a file: what billing depends on, and no content."""

from __future__ import annotations

import pytest

from flask_llm_cost.capture.form import form
from flask_llm_cost.providers import read_exchange

ANSWER = b'{"text": "hi", "audio_duration_secs": 10.5}'


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ([], set()),
        ([("detect_speaker_roles", "false")], set()),
        ([("keyterms", "Dr. Private")], {"unread_usage"}),
        ([("transcript_edit", "private " * 100)], {"unread_usage"}),
    ],
)
def test_a_transcript_of_elevenlabs_is_read_from_its_form(
    fields: list[tuple[str, str]], flags: set[str]
) -> None:
    sent = form([("model_id", "scribe_v2"), ("prompt", "private"), *fields])
    assert b"rivate" not in sent
    reading = read_exchange(
        method="POST",
        url="https://api.elevenlabs.io/v1/speech-to-text",
        request_body=sent,
        status=200,
        headers={},
        body=ANSWER,
    )
    assert reading is not None
    assert (reading.model, reading.flags) == ("scribe_v2", flags)
