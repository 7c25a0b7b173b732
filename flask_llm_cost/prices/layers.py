"""Where do prices come from? Overrides, a file that may change, the bundled book."""

from __future__ import annotations

import datetime as dt
import errno
import json
import logging
import time
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path

from ..call import CostSource
from ..errors import PriceFileError
from .entry import Entry
from .entry import read_entry
from .meters import instant
from .meters import Malformed
from .meters import number_of
from .names import named

_log = logging.getLogger("flask_llm_cost.prices")

BUNDLED: t.Final = Path(__file__).with_name("bundled.json")
_MAX_BYTES: t.Final = 8 * 1024 * 1024
_CHECK_EVERY: t.Final = 1.0
_MAKE_ONE: t.Final = "Make one with `python -m flask_llm_cost prices init"
"""That needs no app: one with a setting that is wrong cannot be set up."""


Stamp: t.TypeAlias = tuple[int, int, int]
"""When a file was modified (ns), its bytes and its inode: another file has others."""


class Layer:
    """The entries of one source, and where they come from."""

    stamp: Stamp | None = None
    """That of the file that it was read from, taken before it was read."""

    def __init__(
        self,
        source: CostSource,
        entries: Iterable[Entry],
        *,
        metadata: Mapping[str, t.Any] | None = None,
        also: Mapping[str, str] | None = None,
    ) -> None:
        self.source: CostSource = source
        self.metadata = dict(metadata or {})
        self.entries: dict[str, Entry] = {}
        self.wildcards: dict[str, Entry] = {}
        for entry in entries:
            name = named(entry.key)
            head, _, tail = name.partition("/")
            table = self.wildcards if tail == "*" else self.entries
            name = head if tail == "*" else name
            if name in table:
                raise Malformed(
                    f"{entry.key} and {table[name].key} are the same model: keep one"
                )
            table[name] = entry
        for other, name in (also or {}).items():
            self.entries.setdefault(named(other), self.entries[named(name)])
        self._lasts: dict[str, list[Entry]] | None = None

    def get(self, name: str) -> Entry | None:
        """The entry of exactly that key."""
        return self.entries.get(named(name))

    def last(self, name: str) -> list[Entry]:
        """The entries whose key ends in that name."""
        lasts = self._lasts
        if lasts is None:
            lasts = {}
            for key, entry in self.entries.items():
                _, slash, tail = key.rpartition("/")
                if slash:
                    lasts.setdefault(tail, []).append(entry)
            self._lasts = lasts
        return lasts.get(name, [])


def updated(layer: Layer) -> dt.date | None:
    """When a layer says that it was taken down."""
    value = layer.metadata.get("updated_at")
    try:
        return None if value is None else instant(value, "updated_at").date()
    except Malformed:
        return None


@cache
def bundled_layer() -> Layer:
    """The prices that came with this release."""
    document = json.loads(BUNDLED.read_bytes(), parse_float=Decimal)
    entries = (Entry(key, raw=value) for key, value in document["models"].items())
    return Layer(
        "bundled",
        entries,
        metadata=document["metadata"],
        also=document.get("also"),
    )


def make_layer(
    source: CostSource,
    models: object,
    where: str,
    metadata: Mapping[str, t.Any] | None = None,
) -> Layer:
    """Read entries; a key that is not known is named in a warning.

    :param where: What to call their source.
    :raises PriceFileError: If one is wrong.
    """
    if not isinstance(models, Mapping):
        raise PriceFileError(f"{where} must map model names to rates, not {models!r}")
    notes: list[str] = []
    try:
        entries = [
            read_entry(str(key), value, notes.append) for key, value in models.items()
        ]
        layer = Layer(source, entries, metadata=metadata)
    except Malformed as error:
        raise PriceFileError(f"{where}: {error}.") from None
    for note in notes:
        _log.warning("%s: %s.", where, note)
    return layer


class PriceFile:
    """A price file that may change while we run."""

    def __init__(self, path: Path, setting: str | None = None) -> None:
        """Watch a file.

        :param setting: Which setting named it, to be named if it cannot be read.
        """
        self.path = path
        self._setting = setting
        self._checked = 0.0
        self._refused: tuple[Stamp, str] | None = None

    @property
    def problem(self) -> str | None:
        """Why the file that is there now is not the one in force."""
        refused = self._refused
        return None if refused is None else refused[1]

    def read(self) -> Layer:
        """Read it now.

        :raises PriceFileError: If it cannot be read, or is wrong.
        """
        try:
            return self._read()
        except PriceFileError as error:
            if self._setting is None:
                raise
            raise PriceFileError(f"{self._setting}: {error}") from error

    def _read(self) -> Layer:
        try:
            stamp = _stamp(self.path)
            if stamp[1] > _MAX_BYTES:
                raise PriceFileError(
                    f"{self.path} has {stamp[1]} bytes; a price file has at most"
                    f" {_MAX_BYTES}."
                )
            data = self.path.read_bytes()
        except OSError as error:
            out = f" {_MAKE_ONE} {self.path}`." if error.errno == errno.ENOENT else ""
            raise PriceFileError(
                f"{self.path} cannot be read: {error.strerror or error}.{out}"
            ) from error
        self._checked = time.monotonic()
        layer = read_file(self.path, data)
        layer.stamp = stamp
        return layer

    def due(self) -> bool:
        """Whether it is time to look at it: at most once a second."""
        now = time.monotonic()
        if now - self._checked < _CHECK_EVERY:
            return False
        self._checked = now
        return True

    def changed(self, held: Layer) -> Layer | None:
        """The new layer if the file is another one than that in force, and is right.

        Threads may ask side by side: what was read last need not be put in force last.
        So it is compared with what is in force, and a layer that was overtaken goes at
        the next look.

        :param held: The layer in force.
        """
        refused = self._refused
        try:
            stamp = _stamp(self.path)
        except OSError:
            stamp = _GONE
        if stamp == held.stamp:
            self._refused = None
            return None
        if refused is not None and stamp == refused[0]:
            return None
        try:
            layer = self.read()
        except PriceFileError as error:
            problem = f"{error} The prices read before stay in force."
            self._refused = stamp, problem
            _log.error("%s", problem)
            return None
        if self._refused is refused:
            self._refused = None
        return layer


_GONE: t.Final[Stamp] = (0, 0, 0)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_file(path: Path, data: bytes) -> Layer:
    """Read a price file's bytes.

    :raises PriceFileError: If they are no price file.
    """
    document = parse_file(path, data)
    if not isinstance(document, Mapping):
        raise PriceFileError(
            f"{path} must hold a mapping, not {type(document).__name__}."
        )
    models, metadata = document, None
    if "models" in document:
        # In YAML nothing at all is empty text.
        models, metadata = document["models"] or {}, document.get("metadata") or None
        if metadata is not None and not isinstance(metadata, Mapping):
            raise PriceFileError(
                f"{path}: metadata must be a mapping, not {metadata!r}."
            )
    return make_layer("file", models, str(path), metadata)


def parse_file(path: Path, data: bytes) -> t.Any:
    """A price file's document; numbers are exact: ``Decimal``, or text from YAML.

    :raises PriceFileError: If it is neither JSON nor YAML.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return _parse_yaml(path, data)
    try:
        return json.loads(data, parse_float=number_of, object_pairs_hook=_mapping)
    except Malformed as error:
        raise PriceFileError(f"{path}: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise PriceFileError(f"{path} is no JSON: {error}.") from None


def _mapping(pairs: Iterable[tuple[t.Any, t.Any]]) -> dict[t.Any, t.Any]:
    """A mapping. One that says a thing twice says nothing that can be trusted."""
    found: dict[t.Any, t.Any] = {}
    for key, value in pairs:
        if key in found:
            raise Malformed(f"{key!r} stands twice in one mapping: keep one")
        found[key] = value
    return found


def _parse_yaml(path: Path, data: bytes) -> t.Any:
    try:
        import yaml
    except ImportError:
        raise PriceFileError(
            f"{path} needs PyYAML: install Flask-LLM-Cost[yaml], or write JSON."
        ) from None
    try:
        # The base loader leaves every scalar text, so that no rate becomes a float.
        class Loader(yaml.BaseLoader):
            def construct_mapping(self, node: t.Any, deep: bool = False) -> t.Any:
                found = super().construct_mapping(node, deep)
                _mapping((key.value, None) for key, _ in node.value)
                return found

        document = yaml.load(data, Loader=Loader)
    except Malformed as error:
        raise PriceFileError(f"{path}: {error}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PriceFileError(f"{path} is no YAML: {error}.") from None
    # One of nothing but comments holds nothing yet.
    return {} if document is None else document
