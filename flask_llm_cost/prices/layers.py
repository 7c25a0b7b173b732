"""The layers of a book: overrides, a price file that may change, bundled prices."""

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
from ..interrupts import pass_on
from ..money import parse_number
from .conversion import in_usd
from .document import models_of
from .entry import Entry
from .entry import read_entry
from .meters import Malformed
from .meters import parse_time
from .names import normalize_key

_log = logging.getLogger("flask_llm_cost.prices")

BUNDLED: t.Final = Path(__file__).with_name("bundled.json")
_MAX_BYTES: t.Final = 8 * 1024 * 1024
_CHECK_EVERY_S: t.Final = 1.0
_CREATE_ONE: t.Final = "Create one with `python -m flask_llm_cost prices init"
"""A command without the app, because an app with an invalid setting cannot start."""

Stamp: t.TypeAlias = tuple[int, int, int]
"""A file's mtime (ns), size and inode, which together tell versions apart."""


class Layer:
    """The entries of one source of prices.

    :param metadata: What the source says about itself, such as ``updated_at``.
    :param aliases: Other keys, to keys of these entries.
    """

    stamp: Stamp | None = None
    """That of the file, taken before it was read."""

    def __init__(
        self,
        source: CostSource,
        entries: Iterable[Entry],
        *,
        metadata: Mapping[str, t.Any] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.source: CostSource = source
        self.metadata = dict(metadata or {})
        self.entries: dict[str, Entry] = {}
        self.wildcards: dict[str, Entry] = {}
        for entry in entries:
            name = normalize_key(entry.key)
            head, _, tail = name.partition("/")
            table = self.wildcards if tail == "*" else self.entries
            name = head if tail == "*" else name
            if name in table:
                raise Malformed(
                    f"{entry.key} and {table[name].key} are the same model; keep one"
                )
            table[name] = entry
        for alias, name in (aliases or {}).items():
            target = self.entries[normalize_key(name)]
            self.entries.setdefault(normalize_key(alias), target)
        self._by_last_segment: dict[str, list[Entry]] | None = None

    def get(self, key: str) -> Entry | None:
        """Return the entry with exactly this key."""
        return self.entries.get(normalize_key(key))

    def with_last_segment(self, name: str) -> list[Entry]:
        """Return the entries whose key ends in ``/name``."""
        found = self._by_last_segment
        if found is None:
            found = {}
            for key, entry in self.entries.items():
                _, slash, tail = key.rpartition("/")
                if slash:
                    found.setdefault(tail, []).append(entry)
            self._by_last_segment = found
        return found.get(name, [])

    @property
    def updated_at(self) -> dt.date | None:
        """When the source says that its prices were updated."""
        value = self.metadata.get("updated_at")
        try:
            return None if value is None else parse_time(value, "updated_at").date()
        except Malformed:
            return None


@cache
def bundled_layer() -> Layer:
    """Return the prices shipped with this release."""
    document = json.loads(BUNDLED.read_bytes(), parse_float=Decimal)
    entries = (Entry(key, raw=value) for key, value in document["models"].items())
    return Layer(
        "bundled",
        entries,
        metadata=document["metadata"],
        aliases=document.get("also"),
    )


def make_layer(
    source: CostSource,
    models: object,
    where: str,
    metadata: Mapping[str, t.Any] | None = None,
) -> Layer:
    """Read entries; an unknown key is named in a warning.

    :param where: What to call their source in messages.
    :raises PriceFileError: If an entry is invalid.
    """
    if not isinstance(models, Mapping):
        raise PriceFileError(f"{where} must map model names to rates, not {models!r}")
    warnings: list[str] = []
    try:
        entries = [
            read_entry(str(key), value, warnings.append)
            for key, value in models.items()
        ]
        entries = [entry for entry in entries if not entry.empty]
        layer = Layer(source, entries, metadata=metadata)
    except Malformed as error:
        raise PriceFileError(f"{where}: {error}.") from None
    for warning in warnings:
        _log.warning("%s: %s.", where, warning)
    return layer


_PER_TOKEN: t.Final = Decimal("0.001")
"""No model costs less per 1M tokens. The cheapest embeddings cost 0.004."""


def refuse_per_token(layer: Layer, where: str) -> None:
    """Refuse rates that can only be per token, where no unit is stated.

    :raises PriceFileError: If an entry has such rates.
    """
    for entry in {**layer.entries, **layer.wildcards}.values():
        for price in entry.prices:
            rates = [
                (rate, str(key))
                for key, rate in price.rates.items()
                if key.meter in ("input", "output") and rate
            ]
            highest, key = max(rates, default=(_PER_TOKEN, ""))
            if highest < _PER_TOKEN:
                raise PriceFileError(
                    f"{where}: {entry.key}: {key} is {highest:f}, which looks like USD per"
                    " token, but rates must be per 1M tokens; multiply them by 1,000,000,"
                    ' or state metadata.unit in a price file: "token" to have them'
                    ' converted, or "1M tokens" if they are right.'
                )


class PriceFile:
    """A price file that may change while the app runs.

    :param setting: The setting that names the file, for error messages.
    """

    def __init__(self, path: Path, setting: str | None = None) -> None:
        self.path = path
        self._setting = setting
        self._checked = 0.0
        self._rejected: tuple[Stamp, str] | None = None

    @property
    def problem(self) -> str | None:
        """Why the file's current version is not in force, if it is not."""
        rejected = self._rejected
        return None if rejected is None else rejected[1]

    def read(self) -> Layer:
        """Read the file.

        :raises PriceFileError: If it cannot be read or is invalid.
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
            hint = (
                f" {_CREATE_ONE} {self.path}`." if error.errno == errno.ENOENT else ""
            )
            raise PriceFileError(
                f"{self.path} cannot be read: {error.strerror or error}.{hint}"
            ) from error
        self._checked = time.monotonic()
        layer = read_file(self.path, data)
        layer.stamp = stamp
        return layer

    def due(self) -> bool:
        """Whether to check the file again: at most once a second."""
        now = time.monotonic()
        if now - self._checked < _CHECK_EVERY_S:
            return False
        self._checked = now
        return True

    def changed(self, current: Layer) -> Layer | None:
        """Read the file if it is not the version in force; ``None`` if it is, or is invalid.

        Threads may call this concurrently, so what is read last is not always put in
        force last. Comparing with the layer in force replaces an overtaken layer at the
        next check.

        :param current: The layer in force.
        """
        rejected = self._rejected
        try:
            stamp = _stamp(self.path)
        except OSError as error:
            pass_on(error)
            stamp = _MISSING
        if stamp == current.stamp:
            self._rejected = None
            return None
        if rejected is not None and stamp == rejected[0]:
            return None
        try:
            layer = self.read()
        except PriceFileError as error:
            pass_on(error)
            problem = f"{error} The previously loaded prices stay in force."
            self._rejected = stamp, problem
            _log.error("%s", problem)
            return None
        if self._rejected is rejected:
            self._rejected = None
        return layer


_MISSING: t.Final[Stamp] = (0, 0, 0)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_file(path: Path, data: bytes) -> Layer:
    """Read a price file's content.

    :raises PriceFileError: If it is not a valid price file.
    """
    document = parse_file(path, data)
    if not isinstance(document, Mapping):
        raise PriceFileError(
            f"{path} must contain a mapping, not {type(document).__name__}."
        )
    # In YAML, a missing value is empty text.
    metadata = document.get("metadata") or None
    if metadata is not None and not isinstance(metadata, Mapping):
        raise PriceFileError(f"{path}: metadata must be a mapping, not {metadata!r}.")
    models = document.get("models", document) or {}
    _check_format(path, models)
    if isinstance(models, Mapping):
        try:
            models = models_of(in_usd(document))
        except Malformed as error:
            raise PriceFileError(f"{path}: {error}.") from None
    layer = make_layer("file", models, str(path), metadata)
    if not metadata or "unit" not in metadata:
        refuse_per_token(layer, str(path))
    return layer


def _check_format(path: Path, models: object) -> None:
    """Refuse LiteLLM's own file, whose rates are per token.

    :raises PriceFileError: If an entry has one of its rates.
    """
    for name, entry in models.items() if isinstance(models, Mapping) else ():
        if isinstance(entry, Mapping) and any(
            "_cost_per_" in str(key) for key in entry
        ):
            raise PriceFileError(
                f"{path}: {name} is in LiteLLM's format, whose rates are per token. Use"
                " `flask llm-cost prices sync` to import them."
            )


def parse_file(path: Path, data: bytes) -> t.Any:
    """Parse a price file. Numbers are exact: ``Decimal``, or text from YAML.

    :raises PriceFileError: If it is neither JSON nor YAML.
    """
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        if is_yaml:
            return _parse_yaml(path, data)
        return json.loads(
            data, parse_float=parse_number, object_pairs_hook=_unique_keys
        )
    except Malformed as error:
        raise PriceFileError(f"{path}: {error}.") from None
    except (ValueError, RecursionError) as error:
        form = "YAML" if is_yaml else "JSON"
        raise PriceFileError(f"{path} is not valid {form}: {error}.") from None


def _unique_keys(pairs: Iterable[tuple[t.Any, t.Any]]) -> dict[t.Any, t.Any]:
    """Make a mapping. With duplicate keys it is unclear which value was meant."""
    found: dict[t.Any, t.Any] = {}
    for key, value in pairs:
        if key in found:
            raise Malformed(f"{key!r} is a duplicate key; keep one")
        found[key] = value
    return found


def _parse_yaml(path: Path, data: bytes) -> t.Any:
    try:
        import yaml
    except ImportError:
        raise PriceFileError(
            f"{path} needs PyYAML; install Flask-LLM-Cost[yaml], or use JSON."
        ) from None

    # The base loader leaves every scalar as text, so that no rate becomes a float.
    class Loader(yaml.BaseLoader):
        def construct_mapping(self, node: t.Any, deep: bool = False) -> t.Any:
            found = super().construct_mapping(node, deep)
            _unique_keys((key.value, None) for key, _ in node.value)
            return found

    try:
        document = yaml.load(data, Loader=Loader)
    except yaml.YAMLError as error:
        raise ValueError(error) from None
    # A file of comments alone is an empty document.
    return {} if document is None else document
