"""Take screenshots of every page: ``python docs/screenshots.py [--docs]``.

A headless Chromium (its path is in ``LLM_COST_TEST_CHROMIUM``) shows the demo's calls, an
empty ledger and an unavailable one, at several widths, light and dark. The screenshots for
review go to ``screenshots/``. ``--docs`` also updates those of the docs, reduced to 256
colors, which makes them a third as large. They are reproducible on one machine, except for
latencies, call IDs and the date of the prices.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import pathlib
import tempfile
import typing as t
from collections.abc import Iterator

from flask import Flask
from PIL import Image
from playwright.sync_api import Browser
from playwright.sync_api import sync_playwright

from flask_llm_cost.cli import demo
from flask_llm_cost.cli.demo.provider import serve_app
from flask_llm_cost.cli.demo.traffic import plan
from flask_llm_cost.extension import make_app

ROOT: t.Final = pathlib.Path(__file__).resolve().parents[1]

NOW: t.Final = dt.datetime(2026, 11, 18, 14, 40, tzinfo=dt.UTC)

ARGS: t.Final = ("--no-sandbox", "--disable-gpu", "--force-color-profile=srgb")

PAGES: t.Final = {
    "overview": "/",
    "overview-day": "/?from=2026-11-18&to=2026-11-18",
    "explore": "/?group=model&grain=week",
    "models": "/models",
    "model": "/models/page?provider=openai&model=gpt-5-2025-08-07",
    "calls": "/calls",
    "calls-filtered": "/calls?tag=feature:chat&outcome=ok&sort=expensive&per=25",
    "tags": "/tags",
    "tag": "/tags/feature",
    "sessions": "/sessions",
    "budgets": "/budgets",
    "bills": "/bills",
    "statements": "/statements",
    "savings": "/savings",
    "prices": "/prices",
    "prices-search": "/prices?q=sonnet",
    "quality": "/data-quality",
    "wrong": "/calls?from=2026-13-01&per=7",
    "missing": "/calls/nothing",
}

DOCS: t.Final = (
    ("overview", "/", 1280, "light", 1180),
    ("overview-dark", "/", 1280, "dark", 820),
    ("calls", PAGES["calls-filtered"], 1280, "light", 820),
    ("call", "CALL", 1280, "light", 1000),
    ("budgets", "/budgets", 1280, "light", 980),
    ("quality", "/data-quality", 1280, "light", 820),
    ("statements", "/statements?key=feature", 1280, "light", 820),
    ("savings", "/savings", 1280, "light", 820),
    ("statements", "/statements?key=tenant&month=2026-11", 1280, "light", 820),
    ("savings", "/savings", 1280, "light", 820),
    ("phone", "/", 390, "light", 844),
)
"""Name, page, width, color scheme and height of the screenshots in the docs."""


@contextlib.contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an app on a free loopback port."""
    with serve_app(app) as url:
        yield f"{url}{demo.MOUNT}"
    app.extensions["llm_cost"].close()


@contextlib.contextmanager
def full(folder: str, calls: int) -> Iterator[str]:
    """Serve the demo's calls."""
    app = demo.demo_app(make_app, folder, calls)
    state = app.extensions["llm_cost"]
    state.clock = lambda: NOW
    state.ledger.schema.upgrade()
    demo.send(app, plan(calls, NOW))
    if not state.extension.flush(60):
        raise SystemExit("Some calls are still queued.")
    with served(app) as address:
        yield address


@contextlib.contextmanager
def bare(folder: str, **config: t.Any) -> Iterator[str]:
    """Serve an app without calls, or without a database."""
    app = make_app(config, folder)
    llm_cost = app.extensions["llm_cost"].extension
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix=demo.MOUNT)
    with served(app) as address:
        yield address


def shoot(
    browser: Browser,
    url: str,
    file: pathlib.Path,
    *,
    width: int,
    scheme: t.Literal["light", "dark"],
    height: int | None = None,
) -> None:
    """Take one screenshot, of the whole page unless a height is given."""
    context = browser.new_context(
        viewport={"width": width, "height": height or 900}, color_scheme=scheme
    )
    page = context.new_page()
    page.goto(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file, full_page=height is None)
    context.close()


def shrink(file: pathlib.Path) -> None:
    """Reduce a screenshot to a palette of 256 colors."""
    with Image.open(file) as picture:
        # Dithering would add noise to plain colors, which is large and ugly.
        few = picture.convert("RGB").quantize(
            colors=256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    few.save(file, optimize=True)


def most_expensive_call(browser: Browser, address: str) -> str:
    """The path of the most expensive Anthropic call."""
    page = browser.new_page()
    page.goto(f"{address}/calls?sort=expensive&provider=anthropic")
    href = page.locator("tbody th a").first.get_attribute("href") or ""
    page.close()
    return href.removeprefix(demo.MOUNT)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument(
        "--only", default="", help="only pages whose names start with this"
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[1280, 390])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "screenshots")
    options = parser.parse_args()
    binary = os.environ.get("LLM_COST_TEST_CHROMIUM")
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        browser = enter(sync_playwright()).chromium.launch(
            executable_path=binary, args=list(ARGS)
        )
        stack.callback(browser.close)
        address = enter(full(enter(tempfile.TemporaryDirectory()), options.calls))
        empty = enter(bare(enter(tempfile.TemporaryDirectory())))
        down = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
        broken = enter(
            bare(enter(tempfile.TemporaryDirectory()), LLM_COST_DATABASE_URI=down)
        )
        call = most_expensive_call(browser, address)
        pages = {name: address + path for name, path in PAGES.items()}
        pages |= {"call": address + call, "empty": f"{empty}/", "down": f"{broken}/"}
        pages |= {
            "empty-calls": f"{empty}/calls",
            "empty-budgets": f"{empty}/budgets",
            "empty-quality": f"{empty}/data-quality",
        }
        for name, url in pages.items():
            if not name.startswith(options.only):
                continue
            for width in options.widths:
                for scheme in t.get_args(t.Literal["light", "dark"]):
                    file = options.out / f"{name}-{width}-{scheme}.png"
                    shoot(browser, url, file, width=width, scheme=scheme)
        if options.docs:
            for name, path, width, scheme, height in DOCS:
                file = ROOT / "docs" / "images" / f"{name}.png"
                shoot(
                    browser,
                    address + (call if path == "CALL" else path),
                    file,
                    width=width,
                    scheme=t.cast(t.Any, scheme),
                    height=height,
                )
                shrink(file)


if __name__ == "__main__":
    main()
