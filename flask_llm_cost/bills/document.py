"""A file of a bill: decompressed, decoded and parsed, in bounded memory."""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import functools
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import typing as t
import zipfile
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

from ..errors import BillError
from .values import Digits
from .values import Place
from .values import shown

MAX_JSON: t.Final = 32 * 1024 * 1024
"""The largest JSON document, in characters. Rows are streamed and may be more."""
MAX_BYTES: t.Final = 1024 * 1024 * 1024
"""The most bytes that a file may have, or decompress to."""
MAX_LINE: t.Final = 1024 * 1024
_SEPARATOR: t.Final = re.compile(r'"?sep=.?"?\r?', re.IGNORECASE)
_HEAD: t.Final = 64 * 1024
_BLOCK: t.Final = 256 * 1024

_MAGIC: t.Final = (
    (
        b"PAR1",
        "is Parquet. Create the export as CSV (gzip), or convert it to CSV first.",
    ),
    (b"%PDF", "is a PDF. Download the usage or cost report as CSV or JSON instead."),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook. Save it as CSV (UTF-8)."),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd. Decompress it first."),
    (b"BZh", "is compressed with bzip2. Decompress it first."),
    (b"\xfd7zX", "is compressed with xz. Decompress it first."),
)
_UNREADABLE: t.Final = (EOFError, OSError, zlib.error, zipfile.BadZipFile) + (
    NotImplementedError,
    RuntimeError,
)
"""What decompressing raises; the last two are a zip's method and its password."""


class Document:
    """One file of a bill.

    :param name: As errors name it.
    :param opener: Opens its bytes; called more than once.
    :param days: The UTC days that were asked for, the last one exclusive, if it is known.
    :param day_first: Whether days such as 03/04/2026 are DD/MM/YYYY, if it is known.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], t.BinaryIO],
        days: tuple[dt.date, dt.date] | None = None,
        *,
        day_first: bool | None = None,
    ) -> None:
        self.name = name
        self.days = days
        self.day_first = day_first
        self._opener = opener

    @classmethod
    def of_path(
        cls, path: str | os.PathLike[str], *, day_first: bool | None = None
    ) -> Document:
        """Return the document of a file."""
        name = os.fspath(path)
        return cls(name, lambda: Path(path).open("rb"), day_first=day_first)

    @classmethod
    def of_bytes(
        cls, name: str, data: bytes, days: tuple[dt.date, dt.date] | None = None
    ) -> Document:
        """Return a document that is in memory."""
        return cls(name, functools.partial(io.BytesIO, data), days)

    @property
    def place(self) -> Place:
        """The document as a whole, for errors."""
        return Place(self.name)

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal digits."""
        with self._raw() as file:
            digest = hashlib.sha256()
            while chunk := file.read(_HEAD):
                digest.update(chunk)
            return digest.hexdigest()

    @functools.cached_property
    def head(self) -> str:
        """The first characters.

        :raises BillError: If the file is not text.
        """
        with self.open() as file:
            try:
                head = file.read(_HEAD)
            except UnicodeDecodeError as error:
                raise self._undecodable(error) from None
            except _UNREADABLE as error:
                raise self._unreadable(error) from None
        self._refuse_other_text(head)
        return head

    @property
    def is_json(self) -> bool:
        """Whether it looks like JSON, or a JSON value per line."""
        return self.head.lstrip()[:1] in ("{", "[") and self.head.strip() != ""

    # Bytes

    def _raw(self) -> t.BinaryIO:
        try:
            return self._opener()
        except IsADirectoryError:
            raise self.place.error("is a folder. Name the files in it.") from None
        except OSError as error:
            raise self.place.error(f"cannot be opened: {error.strerror}.") from None

    def _bytes(self, raw: t.BinaryIO) -> t.BinaryIO:
        """Return the bytes behind gzip or zip."""
        start = raw.read(4)
        raw.seek(0)
        for magic, problem in _MAGIC:
            if start.startswith(magic):
                raise self.place.error(f"it {problem}")
        if start.startswith(b"\x1f\x8b"):
            return t.cast(t.BinaryIO, gzip.GzipFile(fileobj=raw))
        if start.startswith(b"PK"):
            return self._unzip(raw)
        return raw

    def _unzip(self, raw: t.BinaryIO) -> t.BinaryIO:
        try:
            archive = zipfile.ZipFile(raw)
            members = [
                each
                for each in archive.infolist()
                if not each.is_dir() and not each.filename.startswith("__MACOSX/")
            ]
            if len(members) == 1:
                return t.cast(t.BinaryIO, archive.open(members[0]))
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        if any(each.filename.startswith("xl/") for each in members):
            raise self.place.error("it is an Excel workbook. Save it as CSV (UTF-8).")
        raise self.place.error(
            f"it is a zip of {len(members)} files. Unpack it and name its files."
        )

    def open(self) -> t.TextIO:
        """Open the text.

        :raises BillError: If the file cannot be opened or is not text.
        """
        raw = self._raw()
        try:
            limited = io.BufferedReader(_Limited(self._bytes(raw), raw, self.place))
            start = limited.peek(4)[:4]
            return io.TextIOWrapper(limited, encoding=_encoding(start), newline="")
        except BillError:
            raw.close()
            raise
        except _UNREADABLE as error:
            raw.close()
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> BillError:
        return self.place.error(f"cannot be decompressed: {error}. Download it again.")

    def _undecodable(self, error: UnicodeDecodeError) -> BillError:
        return self.place.error(
            f"it is not {error.encoding} text: {error.reason}. Save it as UTF-8."
        )

    def _refuse_other_text(self, head: str) -> None:
        start = head.lstrip()[:200].lower()
        if start.startswith("<"):
            raise self.place.error(
                "it is an HTML or XML page, not a bill, possibly a login or error page."
                " Download the bill again."
            )
        if start.startswith("http/"):
            raise self.place.error(
                f"it begins with the response's headers ({shown(head.splitlines()[0])})."
                " Save only the body; after 410 Gone, request the first page again."
            )
        if "\0" in head:
            raise self.place.error("it has NUL characters. Save it as UTF-8 text.")
        if not start:
            raise self.place.error("it is empty. Download the bill again.")

    # JSON

    @functools.cached_property
    def json(self) -> t.Any:
        """The JSON document; a list if there is a value per line.

        Numbers are :class:`.Digits`.

        :raises BillError: If it is not JSON, or too large.
        """
        if self.is_lines:
            return list(itertools.chain(self._values(MAX_JSON)))
        with self.open() as file:
            try:
                body = file.read(MAX_JSON + 1)
            except UnicodeDecodeError as error:
                raise self._undecodable(error) from None
            except _UNREADABLE as error:
                raise self._unreadable(error) from None
        if len(body) > MAX_JSON:
            raise self.place.error(
                f"it is JSON of more than {MAX_JSON:,} characters. Request fewer days, or"
                " export rows as CSV or one JSON object per line."
            )
        return self._decode(body, self.place)

    @functools.cached_property
    def is_lines(self) -> bool:
        """Whether it has a JSON object per line."""
        first, _, rest = self.head.strip().partition("\n")
        if not first.startswith("{") or not rest.strip().startswith("{"):
            return False
        return first.strip().endswith("}")

    def _decode(self, body: str, place: Place) -> t.Any:
        try:
            return _decode(body)
        except RecursionError:
            raise place.error("its JSON is nested too deeply.") from None
        except ValueError as error:
            raise place.error(
                f"it is not valid JSON, or not all of it: {error}. Download it again."
            ) from None

    def _values(self, limit: int) -> Iterator[t.Any]:
        read = 0
        for number, line in enumerate(self._lines(), 1):
            read += len(line)
            if read > limit:
                raise self.place.error(f"it has more than {limit:,} characters.")
            if line.strip():
                yield self._decode(line, Place(self.name, f"line {number}"))

    def values(self) -> Iterator[t.Any]:
        """Iterate over JSON values: one per line, or the items of one list."""
        if self.is_lines:
            yield from self._values(MAX_BYTES)
        elif isinstance(self.json, list):
            yield from self.json
        else:
            yield self.json

    # CSV

    def _lines(self) -> Iterator[str]:
        with self.open() as file:
            rest = ""
            try:
                while block := file.read(_BLOCK):
                    *lines, rest = (rest + block).split("\n")
                    for line in lines:
                        yield f"{line}\n"
                    if len(rest) > MAX_LINE:
                        raise self.place.error(
                            f"a line has more than {MAX_LINE:,} characters."
                        )
            except UnicodeDecodeError as error:
                raise self._undecodable(error) from None
            except _UNREADABLE as error:
                raise self._unreadable(error) from None
            if rest:
                yield rest

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of a CSV file's columns, as its first row has them; none for JSON."""
        if self.is_json:
            return ()
        return tuple(next(self._cells(), ()))

    def _cells(self) -> Iterator[list[str]]:
        lines, first = self._lines(), self.head.partition("\n")[0]
        if "\r" in first.rstrip("\r"):
            raise self.place.error(
                "its lines end in CR only. Save it with Windows or Unix line endings."
            )
        if _SEPARATOR.fullmatch(first):
            # Excel's own first line.
            first = self.head.split("\n", 2)[1]
            next(lines)
        separator = max(",;\t|", key=first.count)
        rows = csv.reader(lines, delimiter=separator, strict=True)
        try:
            yield from rows
        except csv.Error as error:
            place = Place(self.name, f"line {rows.line_num}")
            raise place.error(f"it is not valid CSV: {error}.") from None

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Iterate over the rows of a CSV file below its first, with their numbers.

        :raises BillError: If a row does not have as many cells as the first.
        """
        columns = self.columns
        names = [name.strip().lower() for name in columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise self.place.error(f"it has two columns {twice!r}. Export it again.")
        width = len(columns)
        for number, row in enumerate(itertools.islice(self._cells(), 1, None), 2):
            if len(row) == width:
                yield number, row
            elif row:
                raise Place(self.name, f"row {number}").error(
                    f"it has {len(row)} cells, but the first row has {width}. The file"
                    " may have been cut off; download it again."
                )


class _Limited(io.RawIOBase):
    """Refuses to read more bytes than a file may have."""

    def __init__(self, file: t.BinaryIO, raw: t.BinaryIO, place: Place) -> None:
        self._file = file
        self._raw = raw
        self._left = MAX_BYTES
        self._place = place

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        data = self._file.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise self._place.error(
                f"it has more than {MAX_BYTES:,} bytes. Split it by month."
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        self._raw.close()
        super().close()


def _encoding(start: bytes) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    # JSON and column names begin with ASCII, so zeros give UTF-16 without a BOM away.
    if len(start) >= 4 and start[1] == start[3] == 0 != start[0]:
        return "utf-16-le"
    if len(start) >= 4 and start[0] == start[2] == 0 != start[1]:
        return "utf-16-be"
    return "utf-8"


def _refuse(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is not a number")


def _object(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    """Return an object, unless a key is in it twice: one of the values would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} is twice in one object")
    return found


_decode: t.Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=Digits,
    parse_int=Digits,
    parse_constant=_refuse,
).decode
