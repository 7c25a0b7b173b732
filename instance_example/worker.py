"""What a Celery worker runs: ``celery -A instance_example.worker worker``."""

from __future__ import annotations

from . import create_app

app = create_app().extensions["celery"]
