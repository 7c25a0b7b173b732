"""Bills as samples, and what each amounts to."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal
from pathlib import Path

from flask_llm_cost.bills import Document
from flask_llm_cost.bills import read
from flask_llm_cost.bills import Statement

FOLDER = Path(__file__).parent


def sample(name: str) -> Document:
    """Return the document of a sample."""
    return Document.of_path(FOLDER / name)


def of_json(value: t.Any, name: str = "bill.json") -> Document:
    """Return a document with this JSON."""
    return Document.of_bytes(name, json.dumps(value).encode())


def of_text(text: str, name: str = "bill.csv") -> Document:
    """Return a document with this text."""
    return Document.of_bytes(name, text.encode())


def only(*documents: Document) -> Statement:
    """Return the one statement of these files."""
    [statement] = read(documents)
    return statement


def total(statement: Statement, kind: str | None = None) -> Decimal:
    """Return what a statement amounts to."""
    amounts = [
        line.billed or Decimal(0)
        for line in statement.lines
        if kind is None or line.kind == kind
    ]
    return sum(amounts, Decimal(0))
