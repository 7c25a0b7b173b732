"""SQL that differs between engines: integer division and exact text comparison."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction


class quotient(GenericFunction[int]):
    """Divide integers, rounding towards zero."""

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


class _characters(GenericFunction[int]):
    type = sa.BigInteger()
    name = "llm_cost_characters"
    inherit_cache = True


@compiles(_characters)
def _length(element: _characters, compiler: SQLCompiler, **kw: t.Any) -> str:
    return f"LENGTH({compiler.process(element.clauses, **kw)})"


@compiles(_characters, "mysql")
@compiles(_characters, "mariadb")
def _char_length(element: _characters, compiler: SQLCompiler, **kw: t.Any) -> str:
    return f"CHAR_LENGTH({compiler.process(element.clauses, **kw)})"


def same(column: sa.ColumnElement[t.Any], value: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column equals this text exactly."""
    # PostgreSQL rejects NUL, and every driver a lone surrogate. Neither is stored.
    if "\0" in value or not _encodable(value):
        return sa.false()
    # MySQL's _bin collations ignore trailing spaces; the length does not.
    return sa.and_(column == value, _characters(column) == len(value))


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
