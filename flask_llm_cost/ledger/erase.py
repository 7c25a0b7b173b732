"""Erase one value of a tag from the tables, the queue and the rejected lines."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
from collections.abc import Callable

from ..db.engine import Engines
from ..jsonl import without_tag
from ..rollups.erase import Erased
from ..rollups.erase import stored_value
from ..rollups.erase import TagEraser
from .queue import Queue
from .rejected import RejectedLines
from .spool import Spool

_PAUSE: t.Final = 0.5


def erase_tag(
    engines: Engines,
    queue: Queue,
    key: str,
    value: str,
    *,
    timeout: float,
    progress: Callable[[Erased], None] | None,
) -> Erased:
    """Erase a value of a tag; the parameters are those of :meth:`.Ledger.erase_tag`."""
    engines.prepare()
    eraser = TagEraser(engines.writing(), key, stored_value(key, value))
    erased = Erased()

    def erase_stored() -> None:
        with engines.explained():
            eraser.run(erased, progress or (lambda erased: None))

    until = time.monotonic() + timeout
    while True:
        queue.drain()
        erase_stored()
        erased.queued = _count(queue.spool, key, value)
        if not erased.queued or time.monotonic() > until:
            break
        time.sleep(_PAUSE)
    erase_stored()  # what another process has stored since
    _erase_rejected(queue.spool.rejected, key, value, erased)
    return erased


def _count(spool: Spool, key: str, value: str) -> int:
    """Count the queued lines that have the value."""
    found = 0
    for line in spool.lines():
        with contextlib.suppress(ValueError):  # torn, or rejected soon
            found += without_tag(line, key, value) is not None
    return found


def _erase_rejected(
    rejected: RejectedLines, key: str, value: str, erased: Erased
) -> None:
    for path, line, reason in rejected:
        try:
            changed = without_tag(line, key, value)
        except ValueError:
            # The line is not JSON, or it might not have been rejected: all that can be
            # done is to replace the text.
            text = json.dumps(value, ensure_ascii=False).encode()
            plain = json.dumps(value).encode()
            changed = line.replace(text, b'""').replace(plain, b'""')
            if value.encode() in changed:
                erased.unreadable += 1
        if changed is not None and changed != line:
            rejected.add(changed, reason)
            path.unlink()
            erased.lines += 1
