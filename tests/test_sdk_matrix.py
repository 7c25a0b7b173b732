"""The table of SDKs says what a run of the matrix recorded."""

from __future__ import annotations

import typing as t

from tools.sdk_matrix import page


def _line(scene: str, passed: bool = True, **more: t.Any) -> dict[str, t.Any]:
    return {
        "package": "together",
        "version": "3.1",
        "asynchronous": False,
        "scene": scene,
        "passed": passed,
        **more,
    }


def test_a_scene_that_fails_is_not_a_yes() -> None:
    found = page(
        [
            _line("plain"),
            _line("plain", passed=False, asynchronous=True),
            _line("401"),
            _line("plain", package="agno", version=""),
        ]
    )
    assert found.startswith("SDKs that were tried\n====")
    assert "2 packages were called" in found
    rows = found.partition("      - Retried\n")[2]
    assert rows == (
        "    * - ``agno``\n      -\n      - sync\n      - yes\n"
        + "      - \u2013\n" * 4
        + "    * - ``together``\n      - 3.1\n      - sync, async\n      - no\n"
        + "      - \u2013\n" * 2
        + "      - yes\n      - \u2013\n"
    )
