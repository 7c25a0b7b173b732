"""The tables of a ledger in a database: their version, upgrades and downgrades."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ..db.distribution import distributed
from ..db.distribution import has_citus
from ..db.distribution import missing
from ..db.engine import Engines
from ..db.engine import version
from ..db.migrate import check
from ..db.migrate import dialect_name
from ..db.migrate import downgrade
from ..db.migrate import sql
from ..db.migrate import upgrade
from ..db.migrations import HEAD


@dataclass(frozen=True, slots=True)
class Schema:
    """Creates, migrates and checks the tables of one ledger."""

    engines: Engines

    head: t.ClassVar[str] = HEAD
    """The version that this package needs."""

    @property
    def in_own_file(self) -> bool:
        """Whether nothing else is in the database."""
        return self.engines.location.own

    def current(self) -> str | None:
        """Return the version of the tables; ``None`` if there are none."""
        with self.engines.connected(self.engines.reading()) as connection:
            return version(connection)

    def upgrade(self) -> None:
        """Migrate the tables to :attr:`head`."""
        with self.engines.explained(tables=False):
            upgrade(self.engines.writing())
        self.engines.recheck()

    def downgrade(self, revision: str) -> None:
        """Migrate the tables back to an earlier version; ``"base"`` drops them all.

        :raises ValueError: If there is no such version.
        """
        with self.engines.explained(tables=False):
            downgrade(self.engines.writing(), revision)
        self.engines.recheck()

    def check(self) -> list[str]:
        """List how the tables differ from what this package needs."""
        with self.engines.connected(self.engines.reading()) as connection:
            return [*check(connection), *missing(connection)]

    def undistributed(self) -> bool:
        """Whether the database has Citus, and no table of the ledger is distributed.

        So it is after a downgrade to ``base``, too.
        """
        with self.engines.connected(self.engines.reading()) as connection:
            return has_citus(connection) and not distributed(connection)

    def sql(self, revisions: str = "head", *, dialect: str | None = None) -> str:
        """Return the upgrade as SQL, for an administrator to run.

        :param revisions: The target version, or ``from:to``.
        :param dialect: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``; that of the
            database if left out.
        :raises ValueError: If there is no such version or dialect.
        """
        if dialect is None:
            with self.engines.connected(
                self.engines.reading(), tables=False
            ) as connection:
                dialect = dialect_name(connection)
        return sql(dialect, revisions)
