"""pgAdmin 4 in server mode, with its users and its login."""

from __future__ import annotations

import os
import re
import sys
import typing as t
from pathlib import Path

from .host import Host

if t.TYPE_CHECKING:
    from flask.testing import FlaskClient


def make(folder: Path) -> Host:
    """The app with a fresh configuration database."""
    from importlib.util import find_spec

    spec = find_spec("pgadmin4")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    sys.path.insert(0, spec.submodule_search_locations[0])
    os.environ.update(
        PGADMIN_SETUP_EMAIL="admin@example.org", PGADMIN_SETUP_PASSWORD="secret12"
    )
    import builtins

    builtins.SERVER_MODE = True  # type: ignore[attr-defined]
    import config

    config.SQLITE_PATH = str(folder / "pgadmin4.db")
    config.DATA_DIR = str(folder)
    config.LOG_FILE = str(folder / "log")
    config.SESSION_DB_PATH = str(folder / "sessions")
    config.STORAGE_DIR = str(folder / "storage")
    config.AZURE_CREDENTIAL_CACHE_DIR = str(folder / "azure")
    config.KERBEROS_CCACHE_DIR = str(folder / "kerberos")
    config.UPGRADE_CHECK_ENABLED = False
    import pgAdmin4
    from flask_security import current_user
    from pgadmin.utils.csrf import pgCSRFProtect

    return Host(
        "pgadmin4",
        pgAdmin4.app,
        lambda: current_user.has_role("Administrator"),
        _login,
        pgCSRFProtect.exempt,
    )


def _login(client: FlaskClient) -> None:
    form = client.get("/login").text
    token = re.search(r"csrfToken[^a-zA-Z0-9]+([\w.-]{20,})", form)
    assert token is not None
    response = client.post(
        "/authenticate/login",
        data={
            "csrf_token": token[1],
            "email": "admin@example.org",
            "password": "secret12",
            "internal_button": "Login",
        },
    )
    assert response.status_code in {200, 302}, response.status
