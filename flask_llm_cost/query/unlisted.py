"""Unlisted hosts whose LLM calls were seen, but not recorded, and the setting to add."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import DAY
from ..db.tables import unlisted_hosts
from ..providers import route

if t.TYPE_CHECKING:
    from ..config import Settings

_LOOKED_BACK: t.Final = 30 * DAY
_MOST: t.Final = 20
_h: t.Final = unlisted_hosts.c


@dataclass(frozen=True, slots=True)
class UnlistedHost:
    """A host, and how many calls to it were not recorded."""

    host: str
    """With its port, if that is not usual; empty for all beyond the first ones."""
    calls: int
    seen_at: dt.datetime
    """When the last call was counted."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The hosts that calls were sent to lately, most calls first."""

    hosts: tuple[UnlistedHost, ...]

    @property
    def calls(self) -> int:
        return sum(each.calls for each in self.hosts)

    @property
    def setting(self) -> str:
        """The setting that records these hosts, each as a separate provider."""
        named = [each.host for each in self.hosts if each.host][:_MOST]
        # No colon, which an IPv6 address has, too.
        names = {host: host.rpartition(":")[0].strip("[]") or host for host in named}
        return f"LLM_COST_PROVIDER_HOSTS = {names}"


def unlisted(
    connection: sa.Connection, settings: Settings, now: dt.datetime
) -> Unlisted:
    """Return the hosts of the last 30 days that are still unlisted."""
    if settings.unlisted_hosts != "count":
        return Unlisted(())
    rows = connection.execute(
        sa.select(_h.host, _h.calls, _h.seen_at)
        .where(_h.seen_at >= now - _LOOKED_BACK)
        .order_by(_h.calls.desc(), _h.host)
    )
    found = (UnlistedHost(*row) for row in rows)
    return Unlisted(
        tuple(each for each in found if not _listed(each.host, settings)),
    )


def _listed(host: str, settings: Settings) -> bool:
    url = f"https://{host}/v1/chat/completions"
    return route("POST", url, hosts=settings.provider_hosts) is not None
