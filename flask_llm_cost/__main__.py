"""``python -m flask_llm_cost``: the commands where no Flask app is at hand."""

from __future__ import annotations

from . import extension
from .cli import main as run


def main() -> None:
    """Run the commands against ``--database-uri``."""
    run(extension.make_app)


if __name__ == "__main__":
    main()
