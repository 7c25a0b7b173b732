"""The key for fingerprints of API keys, in a file next to the calls."""

from __future__ import annotations

import os
import re
import secrets
import typing as t
from pathlib import Path

from ..scope import new_hash_key

NAME: t.Final = "scope.key"

_VALID: t.Final = re.compile(r"[0-9a-f]{64}")


def hash_key(folder: Path) -> str:
    """Return the key of a folder; the first process to ask generates it.

    :raises OSError: If the file can neither be read nor created, or is damaged.
    """
    path = folder / NAME
    try:
        known = path.read_text()
    except FileNotFoundError:
        return _create(path)
    if _VALID.fullmatch(known) is None:
        raise OSError(
            f"{path} does not contain a key of 64 hexadecimal digits. Delete it to"
            " generate another; the fingerprints of API keys will then change."
        )
    return known


def _create(path: Path) -> str:
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{secrets.token_hex(8)}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(new_hash_key())
        # A link appears in one step, and never replaces the key of another process.
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()
    return path.read_text()
