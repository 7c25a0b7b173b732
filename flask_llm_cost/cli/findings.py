"""What ``doctor`` and ``verify-capture`` report."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

import click

from ..errors import LlmCostError
from .text import plain

Status: t.TypeAlias = t.Literal["ok", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and what to do about it."""

    status: Status
    name: str
    message: str

    @classmethod
    def failed(cls, name: str, error: LlmCostError) -> Finding:
        """An error, in one line."""
        return cls("error", name, " ".join(str(error).split()))


def show(findings: Iterable[Finding], form: str = "text") -> None:
    """Print findings, and exit with status 1 if one of them is an error."""
    found = []
    for each in findings:
        found.append(each)
        if form == "text":
            click.echo(f"[{each.status:>5}] {each.name}: {plain(each.message)}")
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    if any(each.status == "error" for each in found):
        click.get_current_context().exit(1)
