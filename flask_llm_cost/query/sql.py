"""What SQL says differently on each engine: whole division, and equal texts."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction


class quotient(GenericFunction[int]):
    """Divide whole numbers and drop the rest, towards zero."""

    # SQLAlchemy's // is FLOOR(a / b) on MySQL, where a / b is rounded to four digits.
    type = sa.BigInteger()
    name = "llm_cost_quotient"
    inherit_cache = True


@compiles(quotient)
def _divide(element: quotient, compiler: SQLCompiler, **kw: t.Any) -> str:
    a, b = (compiler.process(c, **kw) for c in element.clauses)
    return f"(({a}) / ({b}))"


@compiles(quotient, "mysql")
@compiles(quotient, "mariadb")
def _div(element: quotient, compiler: SQLCompiler, **kw: t.Any) -> str:
    a, b = (compiler.process(c, **kw) for c in element.clauses)
    return f"(({a}) DIV ({b}))"


class _exact(GenericFunction[bool]):
    type = sa.Boolean()
    name = "llm_cost_exact"
    inherit_cache = True


@compiles(_exact)
def _equal(element: _exact, compiler: SQLCompiler, **kw: t.Any) -> str:
    a, b = (compiler.process(c, **kw) for c in element.clauses)
    return f"({a} = {b})"


@compiles(_exact, "mysql")
@compiles(_exact, "mariadb")
def _equal_unpadded(element: _exact, compiler: SQLCompiler, **kw: t.Any) -> str:
    # Its _bin collations ignore trailing blanks.
    a, b = (compiler.process(c, **kw) for c in element.clauses)
    return f"({a} = {b} AND CHAR_LENGTH({a}) = CHAR_LENGTH({b}))"


def same(column: sa.ColumnElement[t.Any], value: str) -> sa.ColumnElement[bool]:
    """The column holds exactly this text."""
    # PostgreSQL refuses a NUL, every driver a lone surrogate. Neither is ever stored.
    if "\0" in value or not _encodable(value):
        return sa.false()
    return _exact(column, sa.literal(value, column.type))


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
