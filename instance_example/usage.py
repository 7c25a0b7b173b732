"""What a customer sees of its own costs."""

from __future__ import annotations

from decimal import Decimal

from flask import Blueprint
from flask import render_template
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_login import login_required

from . import llm_cost

bp = Blueprint("usage", __name__, url_prefix="/usage")


@bp.get("")
@login_required  # type: ignore[untyped-decorator]
def page() -> ResponseReturnValue:
    """Show what the tenant of the user spent this month, and the limit of its plan."""
    tenant = current_user.tenant
    mine = llm_cost.calls.this_month().by_tag("tenant", tenant.name)
    limit = None if tenant.limit_usd is None else Decimal(tenant.limit_usd)
    # In one transaction, so that the sums agree.
    with mine.pinned() as calls:
        return render_template(
            "usage.html",
            tenant=tenant,
            limit=limit,
            totals=calls.totals(),
            features=calls.cost_by_tag("feature"),
            models=calls.cost_by("model"),
        )
