"""What a browser measures: no table is cut off, no control is too small to hit."""

from __future__ import annotations

import itertools
import math
import re
import typing as t
from pathlib import Path

import pytest

import flask_llm_cost.web

from .browsing import SMALL
from .browsing import varied
from .browsing import WIDER
from .conftest import MakeSite
from .test_browser import browser as browser
from .test_browser import serve as serve
from .test_browser import Visit

if t.TYPE_CHECKING:
    from flask import Flask
    from playwright.sync_api import Browser

PATHS = (
    "/",
    "/?from=2026-09-20",
    "/?provider=openai&tag=feature:agent",
    "/models",
    "/calls",
    "/tags",
    "/tags/tenant",
    "/sessions",
    "/budgets",
    "/bills",
    "/prices",
    "/data-quality",
)

BUDGETS = [
    {"name": "everything", "limit_usd": "300", "period": "month"},
    {"name": "each", "limit_usd": "5", "period": "day", "tags": {"tenant": "*"}},
]


def test_no_page_is_cut_off_at_any_width(
    browser: Browser, make_site: MakeSite, serve: t.Callable[[Flask], str]
) -> None:
    app = make_site(
        LLM_COST_ROLLUP_TAGS=("feature", "tenant"), LLM_COST_BUDGETS=BUDGETS
    )
    varied(app)
    address = serve(app)
    wrong = {}
    for width in (390, 768, 1280, 1920):
        visit = Visit(browser, width)
        for path in PATHS:
            visit.goto(address + path)
            if found := visit.page.evaluate(SMALL) + visit.page.evaluate(WIDER):
                wrong[width, path] = found
    assert not wrong
    spend = Visit(browser, 1280)
    spend.goto(f"{address}/models")
    column = spend.page.locator("tbody td.num:last-child").first.bounding_box()
    assert column is not None
    assert column["x"] + column["width"] <= 1280
    forced = Visit(browser, 1280)
    forced.page.emulate_media(forced_colors="active")
    forced.goto(f"{address}/")
    style = "e => getComputedStyle(e).borderTopWidth"
    assert forced.page.locator(".presets [aria-current]").evaluate(style) == "2px"
    assert forced.page.locator(".presets a").first.evaluate(style) == "0px"


FOCUSED = """() => {
    const at = document.activeElement, box = at.getBoundingClientRect();
    const style = getComputedStyle(at);
    return {
        page: at === document.body,
        name: at.outerHTML.slice(0, 120),
        ring: parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none"
            || at.matches(".slot, [type=date]"),
        seen: box.width > 0 && box.height > 0 && box.bottom > 0
            && box.top < innerHeight && box.left < innerWidth && box.right > 0,
    };
}"""
"""What has the focus. A bar of a chart and the parts of a date show it themselves."""


@pytest.mark.parametrize("forced", ["none", "active"])
def test_the_keyboard_sees_each_stop(
    browser: Browser,
    make_site: MakeSite,
    serve: t.Callable[[Flask], str],
    forced: t.Literal["none", "active"],
) -> None:
    app = make_site(LLM_COST_BUDGETS=BUDGETS)
    varied(app, days=9)
    address = serve(app)
    visit = Visit(browser, 1280)
    visit.page.emulate_media(forced_colors=forced)
    for path in ("/", "/budgets", "/calls?per=25"):
        visit.goto(address + path)
        stops = 0
        for _ in range(60):
            visit.page.keyboard.press("Tab")
            at = visit.page.evaluate(FOCUSED)
            if at["page"]:
                break
            stops += 1
            assert at["ring"], (path, at["name"])
            assert at["seen"], (path, at["name"])
        assert stops > 10


SEES: t.Final = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
}
"""Machado, Oliveira and Fernandes (2009), severity 1.0."""


def _lab(color: str, eye: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in values
    ]
    r, g, b = (
        min(1.0, max(0.0, sum(w * c for w, c in zip(row, linear, strict=True))))
        for row in eye
    )

    def f(part: float) -> float:
        return part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116

    x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047)
    y = f(0.2126 * r + 0.7152 * g + 0.0722 * b)
    z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


CSS: t.Final = (
    Path(flask_llm_cost.web.__file__).parent / "static/pages.css"
).read_text("utf-8")


@pytest.mark.parametrize("eye", SEES)
@pytest.mark.parametrize("prefix", ["--c-", "--s"])
@pytest.mark.parametrize("scheme", [0, 1])
def test_colors_differ_for_every_eye(eye: str, prefix: str, scheme: int) -> None:
    # A CIE76 distance of 15 is plain to see.
    names = re.findall(rf"({prefix}[a-z0-9-]+): (#[0-9a-f]{{6}});", CSS)
    half = len(names) // 2
    colors = {
        name: value
        for name, value in names[scheme * half : (scheme + 1) * half]
        if name not in ("--soft", "--shadow")
    }
    assert len(colors) >= 5
    for one, other in itertools.combinations(colors, 2):
        apart = math.dist(_lab(colors[one], SEES[eye]), _lab(colors[other], SEES[eye]))
        assert apart > 15, (one, other, apart)
