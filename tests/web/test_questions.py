"""What people ask, answered on the overview or one click away; and no link leads nowhere."""

from __future__ import annotations

import datetime as dt
import html
import re
import typing as t
from collections import Counter
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.money import multiply
from flask_llm_cost.web.views import PAGES
from tests.cli.test_reconcile import FILES
from tests.cli.test_reconcile import run

from .conftest import a_call
from .conftest import MakeSite
from .conftest import NOW
from .conftest import open_cost

MOUNT = "/llm-costs"


def _cost(cost: str) -> Cost:
    """A cost of cached input and of output, half each."""
    from decimal import Decimal

    half = multiply(Decimal(cost), Decimal("0.5"))
    return Cost(
        total_usd=Decimal(cost),
        parts={
            "cache_read": Part(Decimal(1000), half * 1000, half),
            "output": Part(Decimal(200), half * 5000, half),
        },
        source="bundled",
        price_key="openai/gpt-4o",
        complete=True,
        ceiling_usd=Decimal(cost),
    )


def fill(app: Flask) -> None:
    """Record 65 days of calls; a feature grew yesterday, and what is unknown is there."""
    ledger = app.extensions["llm_cost"].ledger
    for day in range(65):
        for tenant, cost in (("acme", "0.3"), ("globex", "0.1")):
            tags = {"feature": "chat", "tenant": tenant, "session": f"talk-{day // 8}"}
            made = a_call(at=NOW - dt.timedelta(day), tags=tags, cost=_cost(cost))
            ledger.append(made)
    night = NOW - dt.timedelta(1, minutes=5)
    for number in range(5):
        tags = {"feature": "import", "tenant": "globex", "session": "night"}
        ledger.append(
            a_call(
                at=night + dt.timedelta(minutes=number),
                provider="gemini",
                model="gemini-2.5-pro",
                tags=tags,
                cost=_cost(str(12 + number)),
                trace_id="job-1",
            )
        )
    ledger.append(a_call(model="mystery", cost=None))
    ledger.append(a_call(usage_source="estimated", cost="0.25"))
    ledger.append(
        a_call(cost=open_cost("0.5", "0.1"), flags=frozenset({"cut"}), stream=True)
    )
    ledger.append(
        a_call(usage=None, cost=None, outcome="http_error", http_status=429, tags={})
    )
    ledger.append(a_call(cost="0.75", outcome="interrupted", usage_source="response"))
    assert ledger.flush()


SETTINGS: dict[str, t.Any] = {
    "LLM_COST_ROLLUP_TAGS": ("feature", "tenant"),
    "LLM_COST_BUDGETS": [
        {"name": "everything", "limit_usd": "100", "period": "month"},
        {"name": "imports", "limit_usd": "60", "tags": {"feature": "import"}},
        {"name": "each", "limit_usd": "80", "tags": {"tenant": "*"}, "period": "month"},
    ],
}


def text(page: str) -> str:
    """The words of a page as they are read, without those of charts."""
    page = page[page.index("<main") :]
    page = re.sub(r"(?s)<svg.*?</svg>|<style.*?</style>", " ", page)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


QUESTIONS: dict[str, tuple[str | None, str]] = {
    "What was spent?": (None, r"Spend \$83\.2"),
    "How does that compare?": (None, r"from \$1[12]\.\d\d in the previous 30 days"),
    "On which provider?": (None, r"Spend by provider .*? gemini 5 84\.\d% \$70\.00"),
    "On which model?": (None, r"Top models .*? gemini-2\.5-pro gemini"),
    "On which feature?": (None, r"Spend by feature .*? import 5 84\.\d% \$70\.00"),
    "Which customer costs most?": (None, r"Spend by tenant .*? globex 35 .*? \$73\.00"),
    "On input, output or the cache?": (None, r"Cost by token type .*? Cache reads"),
    "Why did it move?": (
        None,
        r"gemini-2\.5-pro \(gemini\) cost \$70\.00 on Tue 17 Nov 2026.*"
        r"Most of the increase has the tag tenant:globex.* What changed .*Volume",
    ),
    "What is unknown?": (None, r"\+1 unpriced \+1 incomplete .*\+\$0\.25 estimated"),
    "What will the month cost?": (None, r"Forecast \$\d+ by 30 Nov, 80% range \$\d"),
    "Which budget is exceeded?": (None, r"Budgets View all imports Exceeded"),
    "Which call cost most?": (None, r"Most expensive calls .*? gemini-2\.5-pro .*\$16"),
    "How fast is it, and what failed?": (None, r"Average latency 840 ms"),
    "What did last month cost?": ("Last month", r"Spend \$12\.40"),
    "Which conversation cost most?": ("Sessions", r"night .*? \$70\.00"),
    "What did one customer cost?": ("globex", r"Spend \$73\.00 .* gemini-2\.5-pro"),
    "Does it match the bill?": ("Bills", r"2025-10 openai .* Unexplained"),
    "What do I bill my customers?": ("Statements", r"Statement by feature .*import"),
    "What could be saved?": (
        "Savings",
        r"\$41\.\d+ of \$83\.\d+ could be saved.*interrupted",
    ),
    "What does a model cost?": ("Prices", r"openai/gpt-4o .*\$2\.50"),
    "What is missing in the data?": ("Data quality", r"mystery openai"),
    "Who is nearest to a limit?": ("Budgets", r"each .*globex 89% used"),
}


def test_every_question_is_answered_on_the_overview_or_one_click_away(
    make_site: MakeSite,
) -> None:
    site = make_site(**SETTINGS)
    fill(site)
    run(site, "reconcile", *FILES, status=1)
    client = site.test_client()
    overview = client.get(f"{MOUNT}/").text
    unanswered = {}
    for question, (link, answer) in QUESTIONS.items():
        page = overview
        if link is not None:
            found = re.search(rf'<a[^>]* href="([^"]+)"[^>]*>{link}</a>', overview)
            assert found, question
            page = client.get(html.unescape(found[1])).text
        if not re.search(answer, text(page)):
            unanswered[question] = text(page)
    assert not list(unanswered), unanswered


def shape(url: str) -> str:
    """The path and the parameters of a link, without their values."""
    path, _, query = url.partition("?")
    path = re.sub(r"/calls/[0-9a-f-]{36}", "/calls/ID", path)
    return f"{path}?{'&'.join(sorted(p.partition('=')[0] for p in query.split('&')))}"


def walk(client: FlaskClient, most: int) -> tuple[set[str], dict[str, int]]:
    """Follow links of the same shape a few times each; return the pages, and what failed."""
    queue, known, wrong = [f"{MOUNT}/"], {f"{MOUNT}/"}, {}
    shapes: Counter[str] = Counter()
    while queue:
        url = queue.pop(0)
        response = client.get(url)
        response.get_data()
        response.close()
        if response.status_code != 200:
            wrong[url] = response.status_code
        if response.mimetype != "text/html":
            continue
        for link in re.findall(r'href="([^"#]+)', response.text):
            link = html.unescape(link)
            if link in known or not link.startswith(MOUNT) or "/static/" in link:
                continue
            shapes[shape(link)] += 1
            if shapes[shape(link)] <= most and link.count("=") < 3:
                known.add(link)
                queue.append(link)
    return {url.partition("?")[0].removeprefix(MOUNT) for url in known}, wrong


def one(app: Flask) -> None:
    ledger = app.extensions["llm_cost"].ledger
    ledger.append(a_call(tags={}, cost=None))
    assert ledger.flush()


def nothing(app: Flask) -> None:
    pass


@pytest.mark.parametrize("of", [nothing, one])
def test_no_link_leads_nowhere(
    make_site: MakeSite, of: Callable[[Flask], None]
) -> None:
    site = make_site(**SETTINGS)
    of(site)
    seen, wrong = walk(site.test_client(), 1)
    assert not wrong
    pages = {page.rule for page in PAGES if page.label is not None}
    assert pages <= seen
