"""A sum that reached the largest that a column holds is shown as too low."""

from __future__ import annotations

from decimal import Decimal

from flask import Flask

from tests.cli.conftest import NOW
from tests.cli.conftest import Run


def record(app: Flask) -> None:
    extension = app.extensions["llm_cost"].extension
    with app.app_context():
        for _ in range(2):
            extension.track(
                provider="openrouter",
                model="x",
                input_tokens=1,
                reported_cost=Decimal(9_000_000),
                at=NOW,
            )
        assert extension.flush(60)


def test_report_doctor_and_page_show_a_sum_at_its_limit(shop: Flask, run: Run) -> None:
    extension = shop.extensions["llm_cost"].extension
    shop.register_blueprint(
        extension.blueprint(access="public"), url_prefix="/llm-costs"
    )

    def shown() -> list[bool]:
        page = shop.test_client().get("/llm-costs/data-quality").get_data(as_text=True)
        texts = (run("report").stdout, " ".join(run("doctor").stdout.split()), page)
        return ["exceeds what the ledger can store" in text for text in texts]

    assert not any(shown())
    record(shop)
    assert all(shown()), shown()
