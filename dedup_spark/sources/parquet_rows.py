"""Single values of a Parquet column of bytes by row number, for tasks that ask for a file's rows roughly in order.

A file is read front to back in small batches, and the last rows are kept, so that the threads of a task may ask a
little out of order. Asking for a row before the kept ones reads its row group again. On executors.

Memory: not a whole row group, but two pages of the file (Hugging Face: 100 rows; pyarrow's default: 1,024 rows of any
size; 2 GiB each at most, by the format), one batch, and the kept rows, about 64 MB or 32 rows, of at most three files.
What is larger than the limit on an image is not copied out of its batch. Measured: 150 MB for a row group of
570 MB with small pages, at 400 MB/s from memory; 1.2 GB where pyarrow wrote the row group as two pages.
"""

from __future__ import annotations

import base64
import bisect
import itertools
import threading
from collections import deque
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cachetools import LRUCache
from pyspark import TaskContext

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.decoding.other_kinds import HEAD_BYTES, may_be_image
from dedup_spark.sources.limits import MOST_BYTES, too_large
from dedup_spark.sources.objects import store_errors
from dedup_spark.sources.parquet_footer import require_sound_facts
from dedup_spark.sources.random_access import READ_BYTES, WatchedFile, open_bytes, require_small_footer

_MAX_OPEN_FILES = 3
_BATCH_BYTES, _KEPT_BYTES, _KEPT_ROWS = 8 * 2**20, 48 * 2**20, 32
_LEAST_IMAGE_BYTES = 64
_MOST_TEXT_COLUMNS = 8
_MOST_PATH_BYTES = 2**16
_DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError, ArithmeticError, StopIteration)
"""What pyarrow raises for a damaged file, and what its odd numbers lead to."""
_FEWER_ROWS = "it has fewer rows than it says"
_REPEATED_BYTES = 64 * 2**20
"""Of a batch in which every row is the largest value that its dictionary can hold."""
_MOST_BASE64, _MOST_PREFIX_BYTES = 2, 1024
"""Base64 takes four bytes for three, and line ends and a prefix come on top."""


def find_bytes(schema: pa.Schema, wanted: str = "") -> tuple[str, ...]:
    """The path of the bytes column: (`content`,) or, in Hugging Face's layout, (`image`, `bytes`).

    A column of text may be `wanted` as well: it holds images in Base64.

    Raises:
        LookupError: there is none, or there are several and `wanted` (`image` or `image.bytes`) names none of them.
    """
    found = list(bytes_columns(schema))
    if wanted in text_columns(schema):
        return (wanted,)
    chosen = [path for path in found if not wanted or wanted in (path[0], ".".join(path))]
    if len(chosen) == 1:
        return chosen[0]
    problem = f"no bytes column '{wanted}'" if wanted else "name the bytes column with inventory.bytes_column"
    listed = f"columns that hold bytes: {', '.join('.'.join(path) for path in found)}"
    if not found:
        problem, listed = (problem if wanted else "no column holds the bytes of an image in each row"), _hints(schema)
    raise LookupError("; ".join(filter(None, (problem, listed, f"all columns: {', '.join(schema.names)}"))))


def bytes_columns(schema: pa.Schema) -> Iterator[tuple[str, ...]]:
    """Paths of all columns that are BINARY, or a struct with a BINARY field `bytes`; in whatever way it is encoded."""
    for field in schema:
        if _is_bytes(field.type):
            yield (field.name,)
        elif pa.types.is_struct(field.type):
            yield from ((field.name, f.name) for f in field.type if f.name == "bytes" and _is_bytes(f.type))


def text_columns(schema: pa.Schema) -> list[str]:
    """Columns of text, which may be Base64."""
    return [field.name for field in schema if _is_text(field.type)]


def list_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold several images in a row, or one as a list of numbers; neither is read."""
    return [field.name for field in schema if _is_list(field.type) and _may_be_bytes(field.type.value_type)]


def base64_columns(location: str) -> list[str]:
    """Columns of text in a Parquet file whose first value is an image in Base64. The driver asks; it reads a page of
    each column of text."""
    with open_bytes(location) as opened, pq.ParquetFile(WatchedFile(opened)) as file:
        names = text_columns(file.schema_arrow)[:_MOST_TEXT_COLUMNS]
        first = ((name, next(file.iter_batches(1, columns=[name], use_threads=False), None)) for name in names)
        texts = {name: batch.column(0)[0].as_py() for name, batch in first if batch is not None and batch.num_rows}
    return [name for name, text in texts.items() if text and _begins_as_image(text)]


def from_base64(text: str) -> bytes:
    """An image out of Base64, also of that for URLs and behind `data:image/jpeg;base64,`. Raises ImageRejected."""
    plain = "".join(text.rpartition(",")[2].split()).rstrip("=").translate(_OF_URLS)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as e:
        raise ImageRejected("corrupt", f"the text is no Base64: {e}") from e


def read_value(location: str, row: int, bytes_column: str, max_bytes: int = MOST_BYTES) -> bytes | None:
    """The value of row number `row` (from 0) of the file `location`; None when it is null. Thread-safe.

    Raises:
        ImageRejected: `missing` or `forbidden` file, `changed_since_listing` (it has no such row or column),
            `corrupt` (it is no Parquet file, or damaged where the row is), `too_large`.
        OSError: a fault of the store, which may pass.
    """
    value = _reader(location, bytes_column).value(row, max_bytes)
    if not isinstance(value, str):
        return value
    data = from_base64(value)
    if len(data) > max_bytes:
        raise too_large(max_bytes, len(data))
    return data


def read_path(location: str, row: int, bytes_column: str) -> str | None:
    """The `path` beside the bytes of row number `row`, as Hugging Face writes it; None where there is none.

    Raises as `read_value`.
    """
    path = _reader(location, bytes_column, "path").value(row, _MOST_PATH_BYTES)
    return path if isinstance(path, str) else None


_OF_URLS = str.maketrans("-_", "+/")
_Key = tuple[int | None, str, str, str]
_open_readers: LRUCache[_Key, _ColumnReader] = LRUCache(_MAX_OPEN_FILES)
_lock = threading.Lock()


def _reader(location: str, bytes_column: str, field: str = "bytes") -> _ColumnReader:
    """The reader of a file, for the bytes or a field beside them; this task keeps the last few.

    None outlives it: a file may be replaced between tasks.
    """
    task = TaskContext.get()
    key = (task.taskAttemptId() if task else None, location, bytes_column, field)
    with _lock:
        for other in [k for k in _open_readers if k[0] != key[0]]:
            del _open_readers[other]
        if key not in _open_readers:
            _open_readers[key] = _ColumnReader(location, bytes_column, field)
        return _open_readers[key]


class _ColumnReader:
    """One column of one file, opened at the first call; it reads batches in order and keeps the last ones.

    `field` is that of a struct; a column which is none has only `bytes`.
    """

    def __init__(self, location: str, bytes_column: str, field: str) -> None:
        self._location, self._bytes_column, self._field = location, bytes_column, field
        self._lock = threading.Lock()
        self._file: pq.ParquetFile | None = None
        self._bytes: WatchedFile | None = None

    def value(self, row: int, max_bytes: int) -> bytes | str | None:
        with self._lock, store_errors(self._location):
            try:
                if self._file is None:
                    self._bytes = WatchedFile(open_bytes(self._location))
                    self._file = self._open(self._bytes)
                return self._value(self._file, row, max_bytes) if self._column else None
            except ImageRejected:
                raise
            except Exception as e:  # whatever it was, the next attempt opens the file again
                self._file = None
                raise self._meaning(e) from e

    def _meaning(self, error: Exception) -> Exception:
        """What an error of pyarrow is: the fault of the store that led to it, or else damage."""
        if self._bytes is not None and self._bytes.fault is not None:
            return self._bytes.fault
        if isinstance(error, MemoryError):
            return ImageRejected(
                "too_large", f"{self._location}: a part of it takes more memory than there is: {error}"
            )
        is_damage = self._bytes is not None and isinstance(error, _DAMAGE)
        return ImageRejected("corrupt", f"{self._location}: {str(error) or _FEWER_ROWS}") if is_damage else error

    def _open(self, opened: WatchedFile) -> pq.ParquetFile:
        require_small_footer(opened, self._location)
        file = pq.ParquetFile(opened, buffer_size=READ_BYTES, pre_buffer=False)
        try:
            path = find_bytes(file.schema_arrow, self._bytes_column)
        except LookupError as e:
            raise ImageRejected("changed_since_listing", f"{self._location}: {e}") from e
        self._column = _column(file.schema_arrow, path, self._field)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._group, self._next_row = -1, 0
        self._kept: deque[tuple[int, pa.Array]] = deque()
        return file

    def _value(self, file: pq.ParquetFile, row: int, max_bytes: int) -> bytes | str | None:
        if not 0 <= row < self._starts[-1]:
            raise ImageRejected("changed_since_listing", f"{self._location} has {self._starts[-1]:,} rows, not {row:,}")
        while True:
            for first_row, values in self._kept:
                if first_row <= row < first_row + len(values):
                    return _of_row(values, row - first_row, max_bytes)
            group = bisect.bisect_right(self._starts, row) - 1
            if group != self._group or row < self._next_row:
                self._begin(file, group)
            self._keep(next(self._batches))  # ends before its rows do where the file is damaged

    def _begin(self, file: pq.ParquetFile, group: int) -> None:
        facts = file.metadata.row_group(group)
        columns = [i for i in range(facts.num_columns) if file.schema.column(i).path == self._column]
        require_sound_facts(file, group, self._column)
        n_rows = _rows_at_once([facts.column(i) for i in columns], facts.num_rows)
        self._batches = file.iter_batches(n_rows, row_groups=[group], columns=[self._column], use_threads=False)
        self._group, self._next_row = group, self._starts[group]

    def _keep(self, batch: pa.RecordBatch) -> None:
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = pc.struct_field(values, self._field)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        self._kept.append((self._next_row, values))
        self._next_row += len(values)
        n_rows, n_bytes = sum(len(v) for _, v in self._kept), sum(v.nbytes for _, v in self._kept)
        while n_bytes > _KEPT_BYTES and n_rows - len(self._kept[0][1]) >= _KEPT_ROWS:
            _, oldest = self._kept.popleft()
            n_rows, n_bytes = n_rows - len(oldest), n_bytes - oldest.nbytes


def _of_row(values: pa.Array, row: int, max_bytes: int) -> bytes | str | None:
    """One value of a batch, as Python's. Raises ImageRejected (`too_large`) before it is copied."""
    value = values[row]
    if not value.is_valid:
        return None
    size_bytes = value.as_buffer().size
    if size_bytes > (max_bytes if _is_bytes(values.type) else _MOST_BASE64 * max_bytes + _MOST_PREFIX_BYTES):
        raise too_large(max_bytes, size_bytes)
    plain: bytes | str = value.as_py()
    return plain


def _rows_at_once(chunks: list[pq.ColumnChunkMetaData], n_rows: int) -> int:
    """How many rows make a batch, by what the file says of a row group's chunks of a column.

    A value of a dictionary may be that of every row: no value has more bytes than the dictionary.
    """
    size_bytes = sum(c.total_uncompressed_size for c in chunks)
    per_byte = sum(c.total_compressed_size for c in chunks) or 1
    dictionaries = [c.data_page_offset - c.dictionary_page_offset for c in chunks if c.has_dictionary_page]
    dictionary_bytes = max(dictionaries, default=0) * size_bytes // per_byte
    by_size = _BATCH_BYTES * n_rows // max(1, size_bytes)
    return min(4096, max(1, min(by_size, _REPEATED_BYTES // max(1, dictionary_bytes))))


def _column(schema: pa.Schema, path: tuple[str, ...], field: str) -> str | None:
    """The name of a column in the file: that of the bytes, or of a field beside them; None where there is none."""
    if field == "bytes":
        return ".".join(path)
    has_field = len(path) > 1 and schema.field(path[0]).type.get_field_index(field) >= 0
    return f"{path[0]}.{field}" if has_field else None


def _is_bytes(kind: pa.DataType) -> bool:
    """Of whatever encoding. A short fixed length is a digest or a number: no image fits."""
    if pa.types.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    if pa.types.is_fixed_size_binary(kind):
        return bool(kind.byte_width >= _LEAST_IMAGE_BYTES)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _may_be_bytes(kind: pa.DataType) -> bool:
    """Of an element: an image, or one byte of it."""
    if _is_list(kind):
        return _may_be_bytes(kind.value_type)
    of_struct = pa.types.is_struct(kind) and any(f.name == "bytes" and _is_bytes(f.type) for f in kind)
    return of_struct or _is_bytes(kind) or pa.types.is_uint8(kind)


def _hints(schema: pa.Schema) -> str:
    """How images may be held in columns that are not taken for bytes, and what to do; may be empty."""
    lists, texts = list_columns(schema), text_columns(schema)[:_MOST_TEXT_COLUMNS]
    of_lists = f"lists are not read ({', '.join(lists)}): write one image per row, as bytes" if lists else ""
    of_texts = f"if {' or '.join(texts)} holds images in Base64, name it with inventory.bytes_column" if texts else ""
    return "; ".join(filter(None, (of_lists, of_texts)))


def _begins_as_image(text: str) -> bool:
    try:
        return may_be_image(from_base64(text[: text.find(",") + 1 + 4 * HEAD_BYTES // 3 // 4 * 4]))
    except ImageRejected:
        return False
