"""Changes of the table of calls in steps: printed as SQL, or applied with their progress."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import click

if t.TYPE_CHECKING:
    from ..storage import Step

AHEAD: t.Final = click.option(
    "--ahead",
    metavar="N",
    type=click.IntRange(0, 120),
    default=3,
    show_default=True,
    help="Number of future months to create partitions for.",
)
"""An option for how many months after the current one get a partition."""


class Steps(t.Protocol):
    """What plans steps and applies them, such as ``ledger.partitions``."""

    def plan(self, *, ahead: int = 3) -> list[Step]: ...

    def apply(
        self, *, ahead: int = 3, progress: Callable[[Step], None] | None = None
    ) -> None: ...


def carry_out(steps: Steps, ahead: int, *, dry_run: bool) -> bool | None:
    """Apply the steps and name each; with ``dry_run``, print them as SQL instead.

    :return: Whether they were applied; ``None`` if there is nothing to do.
    """
    plan = steps.plan(ahead=ahead)
    if not plan:
        return None
    if dry_run:
        for step in plan:
            click.echo(f"-- {step.title}.")
            for statement in step.statements:
                click.echo(f"{statement};")
    else:
        steps.apply(ahead=ahead, progress=lambda step: click.echo(f"{step.title}."))
    return not dry_run
