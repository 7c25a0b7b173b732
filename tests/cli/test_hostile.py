"""Names are untrusted: no command prints control characters to a terminal."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.cli.conftest import NOW
from tests.cli.conftest import Run

NAME = "x\x1b[2J\x9b31m\r\n\u202e\u2066=1+1|\U0001f4b8" + "\u6f22" * 60


@pytest.mark.parametrize(
    "command",
    [
        ("report",),
        ("report", "--by", "model"),
        ("report", "--by", "tag:feature"),
        ("report", "--by", "session"),
        ("summary",),
        ("sessions",),
        ("daily",),
        ("doctor",),
        ("prices", "explain", "openai", NAME),
        ("prices", "list", NAME),
        ("prices", "check", "--offline"),
        ("prices", "explain", "--call", NAME),
        ("summary", "--model", NAME),
        ("report", "--by", f"tag:{NAME}"),
    ],
    ids=lambda command: " ".join(command)[:30].encode("ascii", "replace").decode(),
)
def test_no_control_character_is_printed(
    shop: Flask, run: Run, command: tuple[str, ...]
) -> None:
    llm_cost = shop.extensions["llm_cost"].extension
    with shop.app_context():
        llm_cost.track(
            provider="openai",
            model=NAME,
            input_tokens=7,
            at=NOW,
            tags={"feature": NAME, "session": NAME},
        )
    said = run(*command)
    assert said.exit_code in (0, 1, 2)
    text = (said.stdout + said.stderr).replace("\n", "")
    assert all(char.isprintable() for char in text), ascii(text)
