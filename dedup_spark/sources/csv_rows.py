"""The rows of a text file of columns (RFC 4180), a few MB at a time, by one task or by several.

A quoted value may hold delimiters, quotes written twice and line breaks. A quote that is never closed does not swallow
the rows behind it: a line whose quotes are not closed within 1 MiB, or closed before other text, is taken as it stands.
A record with more or fewer values than the header is a row of nulls with PROBLEM and LINE.

Text that is UTF-8, not compressed and without line breaks in its values can be read from any line on; `block_is_open`
finds out. Memory: some MB, whatever the file's size.
"""

from __future__ import annotations

import codecs
import functools
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.csv

from dedup_spark.errors import SourceError
from dedup_spark.sources.csv_layout import Layout, decoded, open_plain

_CHUNK_BYTES = 2**21
_MAX_RECORD_BYTES = 2**20
_MAX_LINE_BYTES = 64 * 2**20


def read_rows(uri: str, layout: Layout, start: int = 0, end: int | None = None) -> Iterator[pa.RecordBatch]:
    """The rows that begin in the bytes from `start` to `end`, as text: the columns of the layout by their order, and
    two more: what is wrong with a line, and the line; null where nothing is.

    Only a file that `is_splittable`, and none of whose blocks is open, has a `start` or an `end`.

    Raises:
        SourceError: the file is cut off or damaged.
        OSError: the store fails.
    """
    try:
        for records, is_quoted in _records(_text(uri, layout, start, end), layout.delimiter, uri):
            yield _parsed(records, layout, is_quoted)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as e:
        raise SourceError(
            f"{uri}: cut off or damaged, so what it lists is unknown, and nothing was changed: copy it again ({e})"
        ) from e


def block_is_open(uri: str, layout: Layout, start: int, end: int) -> bool:
    """Whether a line that begins in these bytes ends within quotes, so that the next line is no row of its own."""
    whole, rest = _whole_records(layout.delimiter, across_lines=False), b""
    for chunk in _text(uri, layout, start, end):
        text = rest + chunk
        cut = text.rfind(b"\n") + 1
        if b'"' in text and _end(whole, text, 0, cut) < cut:
            return True
        rest = text[cut:]
    return False


def _parsed(records: bytes, layout: Layout, is_quoted: bool) -> pa.RecordBatch:
    """Whole records as columns of text; an empty value is null."""
    names = [str(i) for i in range(len(layout.columns))]
    wrong: list[tuple[str, str]] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        if row.text.strip():
            found = f"{row.actual_columns} value{'' if row.actual_columns == 1 else 's'}"
            wrong.append((f"line with {found} where the header has {row.expected_columns}", row.text))
        return "skip"

    table = pa.csv.read_csv(
        io.BytesIO(_as_utf8(records)),
        pa.csv.ReadOptions(use_threads=False, block_size=2 * len(records) + 1024, column_names=names),
        pa.csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char='"' if is_quoted else False,
            newlines_in_values=True,
            invalid_row_handler=keep,
        ),
        pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True, check_utf8=False
        ),
    )
    nulls = pa.nulls(table.num_rows, pa.string())
    columns = [pa.chunked_array([*c.chunks, pa.nulls(len(wrong), pa.string())], pa.string()) for c in table.columns]
    columns += [pa.chunked_array([nulls, pa.array([row[i] for row in wrong], pa.string())]) for i in range(2)]
    combined = [column.combine_chunks() for column in columns]
    return pa.RecordBatch.from_arrays(combined, names=[*names, "problem", "line"])


def _as_utf8(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        return decoded(text).encode()
    return text


def _records(chunks: Iterable[bytes], delimiter: str, uri: str) -> Iterator[tuple[bytes, bool]]:
    """Runs of whole records, and whether quotes have a meaning in them."""
    whole, rest = _whole_records(delimiter, across_lines=True), b""
    for chunk in chunks:
        text = rest + chunk
        quoted, literal, at = _cut(text, whole, max_waiting=_MAX_RECORD_BYTES)
        yield from _runs(quoted, literal)
        rest = text[at:]
        if len(rest) > _MAX_LINE_BYTES:
            raise SourceError(f"{uri}: a line of more than {_MAX_LINE_BYTES:,} bytes; is this a manifest?")
    quoted, literal, _ = _cut(rest, whole, max_waiting=0)
    yield from _runs(quoted, literal)


def _runs(quoted: list[bytes], literal: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    yield from ((b"".join(found), is_quoted) for found, is_quoted in ((quoted, True), (literal, False)) if found)


def _cut(text: bytes, whole: re.Pattern[bytes], max_waiting: int) -> tuple[list[bytes], list[bytes], int]:
    """Whole records at the beginning of `text`, lines to be taken as they stand, and where the rest begins.

    The rest is less than `max_waiting` bytes long, or has no line end.
    """
    quoted: list[bytes] = []
    literal: list[bytes] = []
    last, at = text.rfind(b"\n") + 1, 0
    if b'"' not in text:
        return [text[:last]] if last else [], [], last
    while at < last:
        if (end := _end(whole, text, at, last)) > at:
            quoted.append(text[at:end])
            at = end
            continue
        if len(text) - at < max_waiting:
            break
        end = text.index(b"\n", at) + 1
        literal.append(text[at:end])
        at = end
    return quoted, literal, at


def _end(whole: re.Pattern[bytes], text: bytes, at: int, last: int) -> int:
    found = whole.match(text, at, last)
    assert found is not None  # it matches no record as well
    return found.end()


@functools.cache
def _whole_records(delimiter: str, *, across_lines: bool) -> re.Pattern[bytes]:
    """As many whole records as there are. Closing quotes stand at the end of a value, or else in one line with it."""
    d = re.escape(delimiter).encode()
    in_quotes = b'"(?:[^"]|"")*+"(?=[' + d + b"\r\n])|" if across_lines else b""
    value = b"(?>" + in_quotes + b'"(?:[^"\n]|"")*+"[^' + d + b'\n]*+|[^"' + d + b"\n][^" + d + b"\n]*+|)"
    return re.compile(b"(?:" + value + b"(?:" + d + value + b")*+\r?\n)*+")


def _text(uri: str, layout: Layout, start: int, end: int | None) -> Iterator[bytes]:
    """UTF-8 whose lines end in line feeds, without the header; from the first line that begins at `start` or later."""
    line_end = b"\r" if layout.is_old_mac and layout.encoding == "utf-8" else b"\n"
    with open_plain(uri, at=max(0, start - 1)) as file:
        chunks = iter(functools.partial(file.read, _CHUNK_BYTES), b"")
        text = _translated(_lines_within(chunks, start, end, line_end), layout, start)
        last = b"\n"
        for chunk in text if start else _without_lines(text, layout.n_header_lines):
            if chunk:
                last = chunk
                yield chunk
        if not last.endswith(b"\n"):
            yield b"\n"


def _lines_within(chunks: Iterable[bytes], start: int, end: int | None, line_end: bytes) -> Iterator[bytes]:
    """Of chunks from the byte before `start`: the lines that begin from `start` to `end`."""
    at, is_skipping = max(0, start - 1), start > 0
    for chunk in chunks:
        first, at = at, at + len(chunk)
        if is_skipping:
            begins = chunk.find(line_end) + 1
            if not begins:
                continue
            if end is not None and first + begins >= end:
                return
            chunk, first, is_skipping = chunk[begins:], first + begins, False
        if end is not None and at >= end and (ends := chunk.find(line_end, max(0, end - 1 - first)) + 1):
            yield chunk[:ends]
            return
        yield chunk


def _translated(chunks: Iterable[bytes], layout: Layout, start: int) -> Iterator[bytes]:
    n_mark = 0 if start else layout.n_mark_bytes
    decoder = codecs.getincrementaldecoder(layout.encoding)(errors="replace")
    for chunk in chunks:
        chunk, n_mark = chunk[n_mark:], max(0, n_mark - len(chunk))
        text = chunk if layout.encoding == "utf-8" else decoder.decode(chunk).encode(errors="replace")
        yield text.replace(b"\r", b"\n") if layout.is_old_mac else text


def _without_lines(chunks: Iterable[bytes], n: int) -> Iterator[bytes]:
    """The chunks behind the first `n` lines."""
    for chunk in chunks:
        at = 0
        while n and (line_end := chunk.find(b"\n", at) + 1):
            at, n = line_end, n - 1
        if not n:
            yield chunk[at:]
