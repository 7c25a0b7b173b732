"""SQL that differs between engines: integer division, large sums and exact text."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from ..money import MAX_PICO
from ..tags import TRACE_KEY
from .tables import calls
from .tables import tag_values


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


_MILLION: t.Final = 1_000_000


def split_sum(
    name: str, amount: sa.ColumnElement[t.Any]
) -> tuple[sa.ColumnElement[t.Any], sa.ColumnElement[t.Any]]:
    """Return two columns that :func:`joined_sum` reads the sum of pico-USD from."""
    # One SUM of pico-USD would overflow SQLite's 64 bits at 9.2 million USD.
    million = sa.literal_column(str(_MILLION), sa.BigInteger)
    return (
        sa.func.sum(quotient(amount, million)).label(f"{name}_q"),
        sa.func.sum(amount % million).label(f"{name}_r"),
    )


def joined_sum(values: Mapping[t.Any, t.Any], name: str) -> int:
    """Return the sum that a row has the columns of :func:`split_sum` for."""
    # A sum is a Decimal on PostgreSQL and MariaDB, and NULL over nothing.
    whole, rest = values[f"{name}_q"] or 0, values[f"{name}_r"] or 0
    return int(whole) * _MILLION + int(rest)


class whole_sum(GenericFunction[int]):
    """Sum integers, up to the largest that a BIGINT holds: beyond, databases fail.

    Above 2**53, SQLite's sum is rounded. Use :class:`capped_sum` for money.
    """

    type = sa.BigInteger()
    name = "llm_cost_whole_sum"
    inherit_cache = True


class capped_sum(GenericFunction[int]):
    """Do the same, exactly; it takes SQLite twice as long."""

    type = sa.BigInteger()
    name = "llm_cost_capped_sum"
    inherit_cache = True


@compiles(whole_sum)
@compiles(capped_sum)
def _least(element: GenericFunction[int], compiler: SQLCompiler, **kw: t.Any) -> str:
    each = compiler.process(element.clauses, **kw)
    return f"LEAST(COALESCE(SUM({each}), 0), {MAX_PICO})"


@compiles(whole_sum, "sqlite")
def _total(element: whole_sum, compiler: SQLCompiler, **kw: t.Any) -> str:
    # SUM fails with "integer overflow". The cast of a real number stops at the limit.
    return f"CAST(TOTAL({compiler.process(element.clauses, **kw)}) AS INTEGER)"


@compiles(capped_sum, "sqlite")
def _in_halves(element: capped_sum, compiler: SQLCompiler, **kw: t.Any) -> str:
    each = f"({compiler.process(element.clauses, **kw)})"
    high, low = f"SUM({each} / {_HALF})", f"SUM({each} % {_HALF})"
    # Of nothing, each is NULL, and so is the sum.
    beyond = f"{high} + {low} / {_HALF} >= {_HALF // 2}"
    return f"CASE WHEN {beyond} THEN {MAX_PICO} ELSE {high} * {_HALF} + {low} END"


_HALF: t.Final = 1 << 32


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


class _position(GenericFunction[int]):
    """Where a text contains another, with regard to case, as LIKE of SQLite has none."""

    type = sa.BigInteger()
    name = "llm_cost_position"
    inherit_cache = True


@compiles(_position)
def _instr(element: _position, compiler: SQLCompiler, **kw: t.Any) -> str:
    return f"INSTR({compiler.process(element.clauses, **kw)})"


@compiles(_position, "postgresql")
def _strpos(element: _position, compiler: SQLCompiler, **kw: t.Any) -> str:
    return f"STRPOS({compiler.process(element.clauses, **kw)})"


def same(column: sa.ColumnElement[t.Any], value: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column equals this text exactly."""
    # PostgreSQL rejects NUL, and every driver a lone surrogate. Neither is stored.
    if "\0" in value or not _encodable(value):
        return sa.false()
    # MySQL's _bin collations ignore trailing spaces; the length does not.
    return sa.and_(column == value, _characters(column) == len(value))


def within(column: sa.ColumnElement[t.Any], words: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column has these words, one after the other."""
    if "\0" in words or not _encodable(words):
        return sa.false()
    return _position(" " + column + " ", f" {words} ") > 0


def tagged(key: str, value: str) -> sa.ColumnElement[bool]:
    """Return the condition that a call has a tag with exactly this value."""
    if key == TRACE_KEY:
        return same(calls.c.trace_id, value)
    return calls.c.tag_set_id.in_(
        sa.select(tag_values.c.tag_set_id).where(
            same(tag_values.c.key, key), same(tag_values.c.value, value)
        )
    )


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
