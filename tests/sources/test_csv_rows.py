"""Text files of columns: every way in which programs write them gives the same rows, whole or in parts."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import itertools
import lzma
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.sources import csv_rows
from dedup_spark.sources.csv_files import CsvColumns, _blocks, _open_ones, header_of, read_blocks
from dedup_spark.sources.csv_layout import Layout, layout_of, read_layout
from dedup_spark.sources.csv_rows import block_is_open, read_rows

ROWS = [["i0.jpg", "two\nlines"], ["i1.jpg", "a; b, c\td|e"], ['quo"te.jpg', 'say "hi"'], ["café.jpg", "naïve"]]


def written(rows: list[list[str]], header: tuple[str, ...] = ("uri", "caption"), **options: Any) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows([header, *rows])
    return text.getvalue()


def layout(uri: str) -> Layout:
    found = read_layout(uri)
    assert found is not None
    return found


def read(path: Path, data: bytes, **part: Any) -> list[list[Any]]:
    path.write_bytes(data)
    return values(f"file://{path}", **part)


def values(uri: str, **part: Any) -> list[list[Any]]:
    return [list(row.values()) for batch in read_rows(uri, layout(uri), **part) for row in batch.to_pylist()]


def fitting(rows: list[list[Any]]) -> list[list[Any]]:
    return sorted(row[:-2] for row in rows if row[-2] is None)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252"])
def test_what_spreadsheet_programs_write_is_read(encoding: str, line_end: str, delimiter: str, tmp_path: Path) -> None:
    data = written(ROWS, delimiter=delimiter, lineterminator=line_end).encode(encoding)
    assert fitting(read(tmp_path / "m.csv", data)) == sorted(ROWS)


def test_old_line_ends_and_a_line_that_names_the_delimiter(tmp_path: Path) -> None:
    plain = [row for row in ROWS if "\n" not in row[1]]
    text = "\r\n\r\nsep=;\r\n" + written(plain, delimiter=";")
    assert fitting(read(tmp_path / "a.csv", text.lstrip().encode("utf-16"))) == sorted(plain)
    assert fitting(read(tmp_path / "b.csv", written(plain, lineterminator="\r").encode())) == sorted(plain)
    assert fitting(read(tmp_path / "c.csv", b"\n\n" + written(plain).encode())) == sorted(plain)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_known_by_its_bytes_and_a_cut_is_said(compress: Any, tmp_path: Path) -> None:
    data = written([[random.Random(n).randbytes(20).hex(), "x"] for n in range(5000)]).encode()
    assert len(read(tmp_path / "m.csv", compress(data))) == 5000
    (tmp_path / "m.csv").write_bytes(compress(data)[:-2000])
    with pytest.raises((SourceError, ConfigError), match=r"m.csv: .*cut off"):
        values(f"file://{tmp_path}/m.csv")


@pytest.mark.parametrize(
    ("text", "rows", "problems"),
    [
        ('a,"unclosed\nb,1\nc,"2"\n', [["a", '"unclosed'], ["b", "1"], ["c", "2"]], []),
        ('a,5" pipe\nb,"x" y\n', [["a", '5" pipe'], ["b", "x y"]], []),
        ('"a","x\n""y"""\n"b",', [["a", 'x\n"y"'], ["b", None]], []),
        ("a,1\n\n   \nb,2", [["a", "1"], ["b", "2"]], []),
        ("a,1,2\nshort\n,only\n", [[None, "only"]], ["a,1,2", "short"]),
        ('"two\nlines",1,2\nb,2', [["b", "2"]], ['"two\nlines",1,2']),
        ('"line\r\nbreak.jpg",z\r\n', [["line\r\nbreak.jpg", "z"]], []),
    ],
)
def test_no_line_is_lost_whatever_its_quotes(text: str, rows: Any, problems: list[str], tmp_path: Path) -> None:
    found = read(tmp_path / "m.csv", b"uri,caption\n" + text.encode())
    assert fitting(found) == sorted(rows, key=str)
    assert [row[-1] for row in found if row[-2]] == problems
    for row in found:
        assert row[-2] is None or "where the header has 2" in row[-2]


@pytest.mark.parametrize("seed", range(8))
def test_chunks_and_parts_change_nothing(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    break_in_value = "\n" if seed % 2 else " "
    rows = [
        [f"{n}{'é' * draw.randrange(3)}.jpg", draw.choice(('"', ",", "x", "")) + break_in_value] for n in range(200)
    ]
    data = written(rows, lineterminator=draw.choice(("\n", "\r\n"))).encode()
    assert fitting(read(tmp_path / "m.csv", data)) == sorted(rows)
    monkeypatch.setattr(csv_rows, "_CHUNK_BYTES", draw.randrange(1, 60))
    uri = f"file://{tmp_path}/m.csv"
    assert fitting(values(uri)) == sorted(rows)
    edges = sorted({0, *(draw.randrange(len(data)) for _ in range(6)), len(data)})
    parts = list(itertools.pairwise(edges))
    if any(block_is_open(uri, layout(uri), start, end) for start, end in parts):
        assert seed % 2
        return
    assert not seed % 2
    assert fitting([row for start, end in parts for row in values(uri, start=start, end=end)]) == sorted(rows)


def test_a_quote_that_is_never_closed_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "_MAX_RECORD_BYTES", 2**16)
    lines = b"".join(b"%d.jpg,x\n" % n for n in range(400_000))
    (tmp_path / "m.csv").write_bytes(b'uri,caption\n"0.jpg,open\n' + lines)
    tracemalloc.start()
    n = sum(batch.num_rows for batch in read_rows(f"file://{tmp_path}/m.csv", layout(f"file://{tmp_path}/m.csv")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 400_001
    assert peak < 30 * 2**20


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.csv: this is no text"):
        layout_of("file:///a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)))
    for empty in (b"", codecs.BOM_UTF8, "\r\n".encode("utf-16"), b"\n \n"):
        (tmp_path / "empty.csv").write_bytes(empty)
        assert read_layout(f"file://{tmp_path}/empty.csv") is None
    with pytest.raises(ConfigError, match="empty, there is no line in it"):
        header_of(f"file://{tmp_path}/empty.csv")


def blocks(*rows: tuple[str, int, int | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(("uri", "start", "end"), row, strict=True)) for row in rows])


def test_a_folder_of_parts_goes_by_the_names_of_the_columns(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text("uri,licence\na.jpg,own\n")
    (tmp_path / "part-1.csv").write_text("Licence;URI;more\nstock;b.jpg;x\n")
    (tmp_path / "part-2.csv").write_text("uri\nc.jpg\nd,e\n")
    (tmp_path / "part-3.csv").write_text("")
    (tmp_path / "_SUCCESS").write_text("")
    root = f"file://{tmp_path}"
    columns = CsvColumns.of(header_of(root))
    task = blocks(*[(f"{root}/part-{n}.csv", 0, None) for n in range(4)])
    rows = [row for batch in read_blocks([task], columns) for row in batch.to_pylist()]
    assert [(row["uri"], row["licence"]) for row in rows] == [
        ("a.jpg", "own"), ("b.jpg", "stock"), ("c.jpg", None), (None, None)
    ]  # fmt: skip
    assert (rows[-1]["line"], rows[-1]["problem"]) == ("d,e", "line with 2 values where the header has 1")
    (tmp_path / "part-4.csv").write_text("url\nx.jpg\n")
    with pytest.raises(SourceError, match=r"part-4.csv: there is no column 'uri' in it"):
        list(read_blocks([blocks((f"{root}/part-4.csv", 0, None))], columns))


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    columns = CsvColumns.of(("uri", "Line", "a", "A", "", "a#2"))
    assert columns.header == ("uri", "Line", "a", "A#3", "column 5", "a#2")
    assert (columns.problem, columns.line) == ("problem", "line#2")


def test_a_large_file_is_read_by_several_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup_spark.sources.csv_files._BLOCK_BYTES", 1000)
    path, rows = tmp_path / "m.csv", [[f"{n}.jpg", "x"] for n in range(500)]
    path.write_bytes(written(rows).encode())
    parts = list(_blocks(f"file://{path}", path.stat().st_size))
    assert len(parts) == -(-path.stat().st_size // 1000)
    assert pa.Table.from_batches(_open_ones([blocks(*parts)])).num_rows == 0
    columns = CsvColumns.of(header_of(f"file://{path}"))
    found = [row for part in parts for batch in read_blocks([blocks(part)], columns) for row in batch.to_pylist()]
    assert sorted(row["uri"] for row in found) == sorted(row[0] for row in rows)
    path.write_bytes(written([*rows, ["last.jpg", "two\nlines"]]).encode())
    assert pa.Table.from_batches(_open_ones([blocks(*parts)])).num_rows == 1
    path.write_bytes(written(rows).encode("utf-16"))
    assert list(_blocks(f"file://{path}", path.stat().st_size)) == [(f"file://{path}", 0, None)]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_bytes_are_the_end_is_rows_or_a_sentence(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    pieces = [
        b'"',
        b"\n",
        b"\r",
        b",",
        b";",
        b"\0",
        b"\xff",
        b"\xc3",
        codecs.BOM_UTF8,
        codecs.BOM_UTF16_LE,
        b"\x1f\x8b",
    ]
    for _ in range(40):
        data = bytearray(written(ROWS).encode(draw.choice(("utf-8", "utf-16", "cp1252"))))
        for _ in range(draw.randrange(1, 8)):
            at = draw.randrange(len(data))
            data[at : at + draw.randrange(3)] = draw.choice(pieces)
        (tmp_path / "m.csv").write_bytes(data)
        monkeypatch.setattr(csv_rows, "_CHUNK_BYTES", draw.choice((1, 7, 2**21)))
        uri = f"file://{tmp_path}/m.csv"
        with contextlib.suppress(ConfigError, SourceError):
            found = read_layout(uri)
            assert found is None or all(batch.num_columns == len(found.columns) + 2 for batch in read_rows(uri, found))
