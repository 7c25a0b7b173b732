"""The engine of the host app's database, whichever extension holds it."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import typing as t
from collections.abc import Mapping

from flask import Flask
from werkzeug.local import LocalProxy

from .config import PREFIX
from .errors import ConfigError

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from .config import Settings

_KNOWN: t.Final = (
    "Flask-SQLAlchemy, Flask-SQLAlchemy-Lite, Alchemical or an SQLAlchemy Engine"
)
_ASYNCHRONOUS: t.Final = (
    "The app's database has asynchronous engines only, but the ledger needs a synchronous"
    f" one. Set {PREFIX}DATABASE_URI."
)


def flask_app(app: t.Any) -> Flask:
    """Return the app to set up.

    :raises ConfigError: If it is an app of another framework.
    """
    if isinstance(app, LocalProxy):
        app = app._get_current_object()
    if not isinstance(app, Flask):
        kind = type(app)
        raise ConfigError(
            f"LlmCost needs a Flask app, not this {kind.__module__}.{kind.__qualname__}."
            " In another framework, such as Quart, create a Flask app for the ledger, and"
            " call LLMs inside its app_context()."
        )
    return app


def find_database(app: Flask, db: object | None) -> object | None:
    """Return what holds the host's engines: what the app passed, else its extension."""
    return db or app.extensions.get("sqlalchemy")


def check(settings: Settings, app: Flask, db: object | None) -> None:
    """Check at set-up that the host's database can be the ledger's.

    :raises ConfigError: If it is of an unknown kind, or has no such bind.
    """
    found = find_database(app, db)
    needed = settings.enabled and settings.storage == "database"
    if found is None or not needed or settings.database_uri is not None:
        return
    if not (_is_engine(found) or _is_alchemical(found) or _has_engines(found)):
        kind = type(found)
        source = "db" if db is not None else "app.extensions['sqlalchemy']"
        raise ConfigError(
            f"{source} is a {kind.__module__}.{kind.__qualname__}, but must be {_KNOWN}."
            f" Or set {PREFIX}DATABASE_URI."
        )
    if _is_alchemical(found) and t.cast(t.Any, found).is_async():
        raise ConfigError(_ASYNCHRONOUS)
    # Else it is set up later, and the first use reports what is wrong.
    if app.extensions.get("sqlalchemy") is found:
        find_engine(settings, app, found)


def find_engine(settings: Settings, app: Flask, db: object) -> sa.Engine | None:
    """Return the engine of the host's database, unless it is an SQLite file.

    In that file, each call would wait while the host writes. Only a bind that the
    settings name is used in any case.

    :raises ConfigError: If there is no such bind.
    """
    engines, bind = _engines(app, db), settings.bind_key
    if not engines and hasattr(type(db), "async_engines"):
        raise ConfigError(_ASYNCHRONOUS)
    if bind not in engines:
        known = ", ".join(repr(name) for name in engines if name is not None) or "none"
        raise ConfigError(
            f"{PREFIX}BIND_KEY is {bind!r}, which is not a bind of the app's database"
            f" (known binds: {known})."
        )
    host = engines[bind]
    if bind is None and host.dialect.name == "sqlite":
        from .db.location import in_memory

        return host if in_memory(host.url) else None
    return host


def _engines(app: Flask, db: t.Any) -> Mapping[str | None, sa.Engine]:
    if _is_engine(db):
        return {None: db}

    def look() -> dict[str | None, sa.Engine]:
        app.app_context().push()
        if _is_alchemical(db):
            # It creates all engines, but fails after that of a bind without models.
            with contextlib.suppress(KeyError):
                db.get_engine()
        return dict(db.engines)

    # The context is not popped but dropped with this copy: popping it would run the
    # app's teardown functions, on the writer's thread or in the middle of a request.
    engines = contextvars.copy_context().run(look)
    if None not in engines and "default" in engines:  # Flask-SQLAlchemy-Lite
        engines[None] = engines.pop("default")
        engines["default"] = engines[None]
    return engines


def _is_engine(db: object) -> bool:
    engine = getattr(sys.modules.get("sqlalchemy"), "Engine", None)
    return engine is not None and isinstance(db, engine)


def _is_alchemical(db: object) -> bool:
    return hasattr(type(db), "bind_names") and hasattr(type(db), "get_engine")


def _has_engines(db: object) -> bool:
    return hasattr(type(db), "engines")
