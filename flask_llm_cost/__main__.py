"""``python -m flask_llm_cost``: the commands, without a Flask app."""

from __future__ import annotations

from .extension import make_app


def main() -> None:
    """Run the commands on the ledger that the options name."""
    from .cli.standalone import make_root

    make_root(make_app)()


if __name__ == "__main__":
    main()
