"""Follows bodies that a library's own iterator returns in chunks."""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator
from collections.abc import Iterator

from .meter import Meter

_T = t.TypeVar("_T", bytes, str)


def teed(chunks: Iterator[_T], meter: Meter, *, decoded: bool) -> Iterator[_T]:
    """Report what an iterator hands out."""
    try:
        for chunk in chunks:
            meter.feed(_bytes(chunk), decoded=decoded)
            yield chunk
    except GeneratorExit:
        meter.abandon()
        raise
    except Exception:
        meter.fail()
        raise
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    meter.end()


async def teed_async(
    chunks: AsyncIterator[_T], meter: Meter, *, decoded: bool
) -> AsyncIterator[_T]:
    """Report what an asynchronous iterator hands out."""
    try:
        async for chunk in chunks:
            meter.feed(_bytes(chunk), decoded=decoded)
            yield chunk
    except GeneratorExit:
        meter.abandon()
        raise
    except Exception:
        meter.fail()
        raise
    finally:
        # Do not leave the other generator for the event loop to finalize.
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    meter.end()


def _bytes(chunk: bytes | str) -> bytes:
    return chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk
