"""Files of bills: encodings, compression, and what is hostile."""

from __future__ import annotations

import gzip
import io
import json
import typing as t
import zipfile

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from flask_llm_cost.bills import document as documents
from flask_llm_cost.bills import read

from .samples import FOLDER
from .samples import only
from .samples import total

COSTS = (FOLDER / "openai_costs.json").read_bytes()
CUR = (FOLDER / "aws_cur2_bedrock_synthetic.csv").read_bytes()


def zipped(*names: str, data: bytes = COSTS) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            # Its time is fixed: the same test has the same bytes in every process.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        COSTS,
        COSTS.decode().encode("utf-8-sig"),
        COSTS.decode().encode("utf-16"),
        COSTS.decode().encode("utf-16-le"),
        COSTS.decode().encode("utf-16-be"),
        gzip.compress(COSTS, mtime=0),
        zipped("costs.json"),
        zipped("costs.json", "__MACOSX/._costs.json"),
    ],
    ids=[
        "utf-8",
        "BOM",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "gzip",
        "zip",
        "zip of a Mac",
    ],
)
def test_encodings_and_compression_are_recognized(data: bytes) -> None:
    assert str(total(only(Document.of_bytes("costs", data)))) == "2.98595375"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_of_csv_are_recognized(separator: str) -> None:
    header, *rows = CUR.decode().splitlines()
    # The first row's tag is quoted, so only the header and plain rows are changed.
    lines = [header, rows[0]]
    data = "\r\n".join(line.replace(",", separator) for line in lines).encode()
    assert str(total(only(Document.of_bytes("cur.csv", data)))) == "0.011"


HOSTILE: t.Final = [
    (b"", "it is empty"),
    (b"   \n", "it is empty"),
    (b"<!DOCTYPE html><html>Sign in</html>", "it is an HTML or XML page"),
    (b"HTTP/1.1 410 Gone\r\n\r\n{}", "begins with the response's headers"),
    (b"PAR1\x15\x04", "it is Parquet. Create the export as CSV"),
    (b"%PDF-1.7", "it is a PDF"),
    (b"\x28\xb5\x2f\xfdx", "compressed with zstd"),
    (zipped("xl/workbook.xml", "a.xml"), "it is an Excel workbook"),
    (zipped("a.json", "b.json"), "it is a zip of 2 files"),
    (zipped("costs.json")[:-30], "cannot be decompressed"),
    (gzip.compress(COSTS, mtime=0)[:-30], "cannot be decompressed"),
    (b"\x1f\x8bnonsense", "cannot be decompressed"),
    (b"a,b\n\xff\xfe\xfd", "it is not utf-8 text"),
    (b"a,b\n1\0,2", "it has NUL characters"),
    (COSTS[:500], "it is not valid JSON"),
    (b'{"a": NaN}', "it is not valid JSON, or not all of it: NaN is not a number"),
    (b"[" * 100_000, "its JSON is nested too deeply"),
    (b'{"a":' * 100_000, "its JSON is nested too deeply"),
    (b"{}", "its source cannot be recognized"),
    (b"a,b\n1,2\n", "its source cannot be recognized"),
    (b'"a\n' * 10, "its source cannot be recognized|not valid CSV"),
    (CUR + b'2026-09-01T10:00:00Z,1111,"', "it is not valid CSV"),
    (CUR + b"2026-09-01T10:00:00Z,1111", "row 6: it has 2 cells"),
    (CUR.replace(b",tags", b",tags,TAGS"), "it has two columns 'tags'"),
]


@pytest.mark.parametrize(("data", "problem"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_is_refused_with_a_way_out(data: bytes, problem: str) -> None:
    with pytest.raises(BillError, match=problem) as caught:
        only(Document.of_bytes("the-file", data))
    assert caught.value.file == "the-file"


def test_files_that_cannot_be_opened_are_refused(tmp_path: t.Any) -> None:
    with pytest.raises(BillError, match="is a folder"):
        read([Document.of_path(tmp_path)])
    with pytest.raises(BillError, match="No such file"):
        read([Document.of_path(tmp_path / "none.csv")])


def test_what_decompresses_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header, row, *_ = CUR.splitlines(keepends=True)
    monkeypatch.setattr(documents, "MAX_BYTES", 1_000_000)
    bomb = gzip.compress(header + row * 10_000)
    assert len(bomb) < 20_000
    with pytest.raises(BillError, match="more than 1,000,000 bytes"):
        only(Document.of_bytes("bomb.csv.gz", bomb))


def test_a_line_without_an_end_is_refused() -> None:
    data = CUR + b"a" * (documents.MAX_LINE + 1)
    with pytest.raises(BillError, match="a line has more than|field larger"):
        only(Document.of_bytes("long.csv", data))


def test_json_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_JSON", 1000)
    with pytest.raises(BillError, match="JSON of more than 1,000 characters"):
        only(Document.of_bytes("costs.json", COSTS))


def test_numbers_are_never_floats() -> None:
    document = Document.of_bytes(
        "x", b'{"a": 0.1, "b": 1e2, "c": 12345678901234567890}'
    )
    assert json.dumps(document.json) == (
        '{"a": "0.1", "b": "1e2", "c": "12345678901234567890"}'
    )


def test_a_named_source_must_exist() -> None:
    with pytest.raises(
        BillError, match="'gold' is not a source of bills. Sources: openai"
    ):
        read([Document.of_bytes("x", COSTS)], "gold")


def test_the_digest_does_not_depend_on_the_order() -> None:
    usage = (FOLDER / "openai_usage.json").read_bytes()
    files = [Document.of_bytes("a", COSTS), Document.of_bytes("b", usage)]
    assert only(*files).digest == only(*reversed(files)).digest
