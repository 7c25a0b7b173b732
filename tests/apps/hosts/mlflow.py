"""MLflow's tracking server."""

from __future__ import annotations

import os
from pathlib import Path

from .host import Host


def make(folder: Path) -> Host:
    """The app of the server, which is a module's variable."""
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")
    from mlflow.server import app

    return Host("mlflow", app)
