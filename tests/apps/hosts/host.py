"""What :mod:`tests.apps.run` needs of an app."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


def _nothing_to_exempt(what: t.Any) -> None:
    """Do nothing: the app's CSRF protection does not apply to GET."""


def _no_login(client: FlaskClient) -> None:
    """Do nothing: the app has no login."""


@dataclass(frozen=True, slots=True)
class Host:
    """A public Flask app.

    :param package: The name of its package.
    :param access: The access rule of the dashboard.
    :param login: Logs a client in, as the app's own form does.
    :param exempt: Exempts a blueprint or a view from a CSRF protection that applies to
        GET, too.
    """

    package: str
    app: Flask
    access: Callable[[], t.Any] | t.Literal["public"] = "public"
    login: Callable[[FlaskClient], None] = _no_login
    exempt: Callable[[t.Any], None] = _nothing_to_exempt

    @property
    def has_login(self) -> bool:
        """Whether the dashboard is behind the app's login."""
        return self.access != "public"
