"""Rejected lines: calls that no retry can store, each in a file with the reason."""

from __future__ import annotations

import hashlib
import json
import secrets
import typing as t
from collections.abc import Container
from collections.abc import Iterator
from pathlib import Path

from .spool_file import list_files
from .spool_file import write_new

SUFFIX: t.Final = ".bad"


class RejectedLine(t.NamedTuple):
    """A line, and why it was rejected."""

    path: Path
    line: bytes
    reason: str


class RejectedLines:
    """The rejected lines of a spool.

    :param destination: The ledger that they are for.
    :param accepted: The destinations of files that belong to this spool.
    """

    def __init__(
        self, directory: Path, destination: str, accepted: Container[str]
    ) -> None:
        self._directory = directory
        self._destination = destination
        self._accepted = accepted

    def add(self, line: bytes, reason: str) -> Path:
        """Write a line to a separate file, with the reason.

        The file is named after the line, so that adding it twice changes nothing.
        """
        digest = hashlib.sha256(line).hexdigest()[:16]
        path = self._directory / f"{self._destination}.{digest}{SUFFIX}"
        text = json.dumps(
            {"reason": reason, "line": line.decode("utf-8", "surrogateescape")}
        )
        self._directory.mkdir(0o700, parents=True, exist_ok=True)
        # It gets its name once it is complete, since the spool then drops the line.
        temporary = path.with_suffix(f".{secrets.token_hex(8)}")
        try:
            write_new(temporary, text.encode() + b"\n")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return path

    def files(self) -> list[Path]:
        """List the files, in order."""
        return [
            path
            for path in list_files(self._directory, SUFFIX)
            if path.name.split(".")[0] in self._accepted
        ]

    def __iter__(self) -> Iterator[RejectedLine]:
        """Read the lines.

        :raises ValueError: If a file is not as :meth:`add` wrote it.
        """
        for path in self.files():
            try:
                found = json.loads(path.read_bytes())
                line = found["line"].encode("utf-8", "surrogateescape")
                reason = str(found["reason"])
            except OSError as error:
                raise ValueError(f"{path} cannot be read: {error.strerror}") from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} does not contain a rejected line") from error
            yield RejectedLine(path, line, reason)
