"""A real browser visits the pages: nothing is blocked, logged or cut off."""

from __future__ import annotations

import importlib.resources
import os
import threading
import typing as t
from collections.abc import Iterator

import pytest
from flask import Flask
from werkzeug.serving import make_server

from .conftest import a_call
from .conftest import MakeSite

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page
from playwright.sync_api import Request

ARGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
).split()

WIDTHS = (390, 1280)

ADDRESSES = (
    "/",
    "/?from=2026-11-18",
    "/?from=2025-01-01",
    "/models",
    "/models?sort=latency",
    "/calls",
    "/calls?tag=tenant:t1&outcome=ok&sort=slow&per=25",
    "/calls?sort=unknown_pricing",
    "/calls?provider=nobody",
    "/tags",
    "/tags/feature",
    "/sessions",
    "/budgets",
    "/prices",
    "/prices?q=sonnet-4-5",
    "/prices?q=no-such-model",
    "/data-quality",
    "/calls?from=x&per=7",
    "/calls/nothing",
    "/nothing",
)

AXE = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .filter(v => v.impact === "serious" || v.impact === "critical")
  .map(v => v.id + ": " + v.help + " " + v.nodes.map(n => n.html).join(" | "))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    binary = os.environ.get("LLM_COST_TEST_CHROMIUM")
    if not binary:
        pytest.skip("set LLM_COST_TEST_CHROMIUM to the path of a Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[t.Callable[[Flask], str]]:
    """Serve an app on a free port; returns the URL of its pages."""
    servers = []

    def start(app: Flask) -> str:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.port}/llm-costs"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def full(make_site: MakeSite, serve: t.Callable[[Flask], str]) -> str:
    app = make_site(
        LLM_COST_ROLLUP_TAGS=("feature", "tenant"), LLM_COST_MONTHLY_BUDGET="100"
    )
    ledger = app.extensions["llm_cost"].ledger
    for number in range(8):
        ledger.append(a_call(minutes=10 + 1440 * number, model="bulk", cost="3"))
    ledger.append(a_call(minutes=5, model="bulk", cost="99", tags={"tenant": "t9"}))
    ledger.append(a_call(usage=None, cost=None, outcome="interrupted", stream=True))
    for number in range(240):
        ledger.append(
            a_call(
                minutes=number * 300,
                model=f"a-model-with-a-rather-long-name-{number % 7}-20260101",
                provider=("openai", "anthropic", "gemini")[number % 3],
                cost=None if number % 11 == 0 else f"0.00{number}7",
                tags={
                    "feature": "chat" * (number % 9),
                    "tenant": f"t{number % 5}",
                    "session": f"talk-{number // 4}",
                },
                outcome="http_error" if number % 13 == 0 else "ok",
            )
        )
    assert ledger.flush(60)
    return serve(app)


class Visit:
    """One window, and everything that the browser complained about."""

    def __init__(self, browser: Browser, width: int) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900})
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("requestfailed", self._failed)
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation',"
            " e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
        )

    def _failed(self, request: Request) -> None:
        # A page is loaded before its icon is: the next page may abort that.
        if request.failure != "net::ERR_ABORTED" or not request.url.endswith(".svg"):
            self.complaints.append(request.url)

    def goto(self, url: str) -> None:
        response = self.page.goto(url)
        assert response is not None
        if response.status >= 400:
            # The browser logs the status itself.
            self.complaints[:] = [c for c in self.complaints if "status of" not in c]
        self.settled()

    def settled(self) -> None:
        """Nothing was blocked or logged, and the page is not wider than the window."""
        # A click returns when the next page starts loading, before it has a root element.
        self.page.wait_for_load_state()
        assert self.complaints == []
        width, window = self.page.evaluate(
            "[document.documentElement.scrollWidth, innerWidth]"
        )
        assert width <= window, f"{self.page.url} is {width} px wide"


def barriers(visit: Visit) -> list[str]:
    """The accessibility barriers that axe-core finds."""
    # Evaluated through the browser's own tools: the page's policy blocks all scripts.
    package = importlib.resources.files("axe_playwright_python")
    visit.page.evaluate((package / "axe.min.js").read_text("utf-8"))
    return t.cast("list[str]", visit.page.evaluate(AXE))


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_no_page_has_a_barrier(
    browser: Browser, full: str, width: int, scheme: t.Literal["light", "dark"]
) -> None:
    visit = Visit(browser, width)
    visit.page.emulate_media(color_scheme=scheme)
    found = {}
    for address in ADDRESSES:
        visit.goto(full + address)
        found[address] = barriers(visit)
    visit.goto(f"{full}/calls?sort=expensive")
    visit.page.locator("tbody th a").first.click()
    visit.settled()
    found["call"] = barriers(visit)
    assert not {page: what for page, what in found.items() if what}


def test_axe_finds_a_barrier_where_there_is_one(browser: Browser, full: str) -> None:
    visit = Visit(browser, 1280)
    visit.goto(f"{full}/")
    visit.page.evaluate("document.querySelector('.brand').style.color = '#eee'")
    assert any("contrast" in found for found in barriers(visit))


LINES = """() => [...document.querySelectorAll("main pre")].map(pre => {
  const code = pre.querySelector("code").getClientRects();
  return [pre.innerText.trimEnd().split("\\n").length,
          new Set([...code].map(line => Math.round(line.y))).size];
})"""


@pytest.mark.parametrize("path", ["/", "/budgets", "/tags", "/sessions"])
def test_no_example_wraps_on_a_phone(
    browser: Browser, make_site: MakeSite, serve: t.Callable[[Flask], str], path: str
) -> None:
    app = make_site()
    if path in ("/tags", "/sessions"):
        app.extensions["llm_cost"].ledger.append(a_call(tags={}))
        assert app.extensions["llm_cost"].ledger.flush(60)
    visit = Visit(browser, 390)
    visit.goto(f"{serve(app)}{path}")
    lines = visit.page.evaluate(LINES)
    assert lines
    assert all(written == shown for written, shown in lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_budget_per_value_keeps_its_distance_from_the_edge(
    browser: Browser, make_site: MakeSite, serve: t.Callable[[Flask], str], width: int
) -> None:
    each = {"name": "each", "limit_usd": "5", "period": "day", "tags": {"tenant": "*"}}
    app = make_site(LLM_COST_BUDGETS=[each])
    app.extensions["llm_cost"].ledger.append(a_call(tags={"tenant": "acme"}))
    assert app.extensions["llm_cost"].ledger.flush(60)
    visit = Visit(browser, width)
    visit.goto(f"{serve(app)}/budgets")
    limit = visit.page.locator("tbody td:visible").last
    assert limit.inner_text() == "$5.00"
    padding = limit.evaluate("cell => parseFloat(getComputedStyle(cell).paddingRight)")
    assert padding >= 16


CLIPPED = """cells => cells.filter(
  cell => cell.scrollWidth > cell.clientWidth || cell.scrollHeight > cell.clientHeight + 1
).map(cell => cell.textContent)"""


def test_models_with_similar_names_are_readable_on_a_phone(
    browser: Browser, full: str
) -> None:
    visit = Visit(browser, 390)
    visit.goto(f"{full}/prices?q=claude")
    names = visit.page.locator("tbody th .cut")
    assert names.count() > 20
    assert names.evaluate_all(CLIPPED) == []


def test_a_phone_shows_the_forecast_of_a_budget_per_value(
    browser: Browser, make_site: MakeSite, serve: t.Callable[[Flask], str]
) -> None:
    each = {"name": "each", "limit_usd": "5", "period": "day", "tags": {"tenant": "*"}}
    app = make_site(LLM_COST_BUDGETS=[each])
    ledger = app.extensions["llm_cost"].ledger
    ledger.append(a_call(tags={"tenant": "acme"}, cost="4.5"))
    assert ledger.flush(60)
    visit = Visit(browser, 390)
    visit.goto(f"{serve(app)}/budgets")
    row = visit.page.locator("tbody tr").first
    shown = row.inner_text()
    for part in ("acme", "forecast", "$4.50", "$5.00"):
        assert part in shown.lower(), part
    [bar] = [bar for bar in row.locator(".gauge").all() if bar.is_visible()]
    assert bar.evaluate("bar => bar.getBoundingClientRect().width") > 100


@pytest.mark.parametrize("width", [*WIDTHS, 768])
def test_every_link_of_the_navigation_is_visible_and_works(
    browser: Browser, full: str, width: int
) -> None:
    visit = Visit(browser, width)
    visit.goto(f"{full}/")
    assert visit.page.locator(".nav").evaluate("e => e.scrollWidth <= e.clientWidth")
    count = visit.page.locator(".nav a").count()
    for index in range(count):
        visit.page.locator(".nav a").nth(index).click()
        visit.settled()
        assert visit.page.locator("main h1").count() == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_an_engineer_finds_the_call(browser: Browser, full: str, width: int) -> None:
    visit = Visit(browser, width)
    visit.goto(f"{full}/calls")
    visit.page.get_by_text("Filters", exact=True).first.click()
    visit.page.get_by_label("Provider").fill("anthropic")
    visit.page.get_by_label("Tag", exact=True).fill("tenant:t1")
    visit.page.get_by_role("button", name="Apply filters").click()
    visit.settled()
    assert visit.page.locator(".chip").count() == 2
    visit.page.get_by_role("link", name="Most expensive").click()
    visit.settled()
    visit.page.locator("tbody th a").first.click()
    visit.settled()
    assert "tenant" in visit.page.inner_text("main")
    assert "anthropic" in visit.page.inner_text("main")


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_turn_and_filters_can_be_removed(
    browser: Browser, full: str, width: int
) -> None:
    visit = Visit(browser, width)
    visit.goto(f"{full}/calls?per=25&tag=tenant:t1&outcome=ok")
    visit.page.get_by_role("link", name="Remove filter Tag tenant:t1").click()
    visit.settled()
    visit.page.get_by_role("link", name="Clear all").click()
    visit.settled()
    visit.page.get_by_role("link", name="Next").click()
    visit.settled()
    assert "26–50" in visit.page.inner_text(".pager")


def test_pointing_at_a_bar_shows_its_value(browser: Browser, full: str) -> None:
    visit = Visit(browser, 1280)
    visit.goto(f"{full}/")
    bar = visit.page.locator(".slot").last
    value = bar.locator(".value")
    assert value.evaluate("e => getComputedStyle(e).opacity") == "0"
    bar.locator(".area").hover()
    assert value.evaluate("e => getComputedStyle(e).opacity") == "1"
    assert "18 Nov 2026" in value.text_content()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_empty_ledger_and_errors_look_right(
    browser: Browser,
    make_site: MakeSite,
    serve: t.Callable[[Flask], str],
    width: int,
    scheme: t.Literal["light", "dark"],
) -> None:
    address = serve(make_site())
    visit = Visit(browser, width)
    visit.page.emulate_media(color_scheme=scheme)
    for page in ("/", "/calls", "/calls?from=x", "/calls/1", "/nothing"):
        visit.goto(f"{address}{page}")
        assert visit.page.locator("main h1").count() == 1


def test_the_keyboard_reaches_the_content_first(browser: Browser, full: str) -> None:
    visit = Visit(browser, 1280)
    visit.goto(f"{full}/")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == (
        "Skip to content"
    )
    visit.page.keyboard.press("Enter")
    assert visit.page.url.endswith("#llm-costs-main")


def test_a_page_can_be_printed(browser: Browser, full: str) -> None:
    visit = Visit(browser, 800)
    visit.page.emulate_media(media="print", color_scheme="dark")
    visit.goto(f"{full}/")
    for gone in (".nav", ".range", ".days"):
        assert not visit.page.locator(gone).first.is_visible()
    for there in (".spend", ".chart .plot", "[aria-labelledby=providers] table"):
        assert visit.page.locator(there).first.is_visible()
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    assert visit.page.evaluate(paper) == "rgb(255, 255, 255)"
    assert len(visit.page.pdf(format="A4")) > 10_000
