"""The file that ``--output`` names."""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t
from collections.abc import Iterator

import click


@contextlib.contextmanager
def created(path: str) -> Iterator[t.BinaryIO]:
    """Create a file that only its owner can read; ``-`` is standard output.

    :raises click.FileError: If it cannot be created.
    """
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    try:
        file = open(path, "wb", opener=private)
    except OSError as error:
        raise click.FileError(path, error.strerror) from None
    with file:
        yield file
