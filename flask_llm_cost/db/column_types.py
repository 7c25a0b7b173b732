"""Column types and table options that behave the same on every database."""

from __future__ import annotations

import datetime as dt
import typing as t

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ..calendar import from_ms
from ..calendar import utc_ms


class Millis(sa.types.TypeDecorator[dt.datetime]):
    """An aware UTC datetime, stored as whole milliseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: t.Any, dialect: sa.Dialect) -> int | None:
        return None if value is None else utc_ms(value)

    def process_result_value(
        self, value: t.Any, dialect: sa.Dialect
    ) -> dt.datetime | None:
        return None if value is None else from_ms(value)


class Text(sa.types.TypeDecorator[str]):
    """Text compared byte by byte on every engine, trailing blanks included.

    MySQL and MariaDB name such a collation differently, and their ``utf8mb4_bin``
    treats ``"a"`` and ``"a "`` as equal. (Needs MySQL 8.0.17 or MariaDB 10.2.)
    """

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[t.Any]:
        if dialect.name not in ("mysql", "mariadb"):
            return dialect.type_descriptor(sa.String(self.length))
        mariadb = getattr(dialect, "is_mariadb", False)
        collation = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
        return dialect.type_descriptor(
            mysql.VARCHAR(self.length, charset="utf8mb4", collation=collation)
        )


EVENT_ID: t.Final = sa.Uuid(as_uuid=False).with_variant(
    mysql.CHAR(36, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)
"""A UUID."""

LONG_TEXT: t.Final = sa.Text().with_variant(
    mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)
"""Text of any length, compared byte by byte."""

TABLE_OPTIONS: t.Final[dict[str, t.Any]] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        # Index keys of up to 3,072 bytes; COMPACT, a possible server default, allows 767.
        ("row_format", "DYNAMIC"),
    )
}
