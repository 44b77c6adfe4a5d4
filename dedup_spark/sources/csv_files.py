"""Text files of columns as a DataFrame of text; a manifest, or the folder of its parts as Spark writes it.

The driver reads the header of the first file; each task that of its own, and columns go by their names. A large file is
read by several tasks, 128 MB each, if it is UTF-8, not compressed and has no line breaks in its values. To know that
it is read once more, by as many tasks: 2 to 20 ns per byte (measured on a busy machine). Any other file is one task.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.sources import addresses
from dedup_spark.sources.csv_layout import Layout, distinct, read_layout
from dedup_spark.sources.csv_rows import block_is_open, read_rows
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.spark_reader import listing_errors
from dedup_spark.spark.local_relation import local_relation

_BLOCK_BYTES = 128 * 2**20
_MAX_FILES = 100_000
_BLOCKS = "uri string, start bigint, end bigint"


@dataclass(frozen=True)
class CsvColumns:
    """Names of a DataFrame of text, distinct in any case of letters: those of the header, and two more for lines that
    do not fit it. `problem` says why, and `line` is the line; both are null where a line fits."""

    header: tuple[str, ...]
    problem: str
    line: str

    @classmethod
    def of(cls, header: tuple[str, ...]) -> CsvColumns:
        *names, problem, line = distinct((*header, "problem", "line"))
        return cls(tuple(names), problem, line)

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.header, self.problem, self.line)


def header_of(root: str) -> tuple[str, ...]:
    """The names in the header of the file, or of the first one in the folder that has any. The driver asks.

    Raises:
        ConfigError: there is no text in it, or a beginning that is none.
    """
    layout = next(filter(None, (read_layout(uri) for uri, _ in _files(root))), None)
    if layout is None:
        raise ConfigError(f"manifest {root}: empty, there is no line in it")
    return layout.columns


def load_csv(spark: SparkSession, root: str, columns: CsvColumns) -> DataFrame:
    """The rows of all files; lazy, but for the look at line breaks in large files."""
    blocks = _without_open_ones(spark, [block for uri, size in _files(root) for block in _blocks(uri, size)])
    schema = T.StructType([T.StructField(name, T.StringType()) for name in columns.all])
    rows = local_relation(spark, blocks, _BLOCKS).repartition(len(blocks))
    return rows.mapInArrow(functools.partial(read_blocks, columns=columns), schema)


def read_blocks(batches: Iterable[pa.RecordBatch], columns: CsvColumns) -> Iterator[pa.RecordBatch]:
    """On executors: rows of _BLOCKS to rows of `columns`."""
    for batch in batches:
        for block in batch.to_pylist():
            if layout := read_layout(block["uri"]):
                places = _places(block["uri"], layout, columns)
                for rows in read_rows(block["uri"], layout, block["start"], block["end"]):
                    nulls = pa.nulls(rows.num_rows, pa.string())
                    found = [nulls if place is None else rows.column(place) for place in places]
                    yield pa.RecordBatch.from_arrays(found, names=list(columns.all))


def _places(uri: str, layout: Layout, columns: CsvColumns) -> list[int | None]:
    """Where the columns stand in the rows of this file; None for one that it lacks. Raises SourceError without uris."""
    own = [name.lower() for name in distinct(layout.columns)]
    if "uri" not in own:
        raise SourceError(f"{uri}: there is no column 'uri' in it, as there is in the first file; nothing was changed")
    places: list[int | None] = [own.index(c.lower()) if c.lower() in own else None for c in columns.header]
    return [*places, len(own), len(own) + 1]


def _blocks(uri: str, size_bytes: int | None) -> Iterator[tuple[str, int, int | None]]:
    """The parts of one file for a task each, before it is known whether its lines can be told apart from there."""
    layout = read_layout(uri) if (size_bytes or 0) > _BLOCK_BYTES else None
    if size_bytes is None or layout is None or not layout.is_splittable:
        yield uri, 0, None
        return
    for start in range(0, size_bytes, _BLOCK_BYTES):
        yield uri, start, start + _BLOCK_BYTES


def _without_open_ones(
    spark: SparkSession, blocks: list[tuple[str, int, int | None]]
) -> list[tuple[str, int, int | None]]:
    """The blocks, but one for a file that has a block which is open."""
    parts = [block for block in blocks if block[2] is not None]
    if not parts:
        return blocks
    with listing_errors(parts[0][0]):
        asked = local_relation(spark, parts, _BLOCKS).repartition(len(parts))
        are_open = {row["uri"] for row in asked.mapInArrow(_open_ones, "uri string").distinct().collect()}
    return [b for b in blocks if b[0] not in are_open] + [(uri, 0, None) for uri in sorted(are_open)]


def _open_ones(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for block in batch.to_pylist():
            layout = read_layout(block["uri"])
            is_open = layout is not None and block_is_open(block["uri"], layout, block["start"], block["end"])
            yield pa.RecordBatch.from_pydict({"uri": pa.array([block["uri"]] * is_open, pa.string())})


def _files(root: str) -> list[tuple[str, int | None]]:
    """Addresses and sizes of the files: the root, or those directly in it that Spark would read. The driver asks."""
    if addresses.kind_of(root) == "file":
        filesystem, path = addresses.open_store(root)
        return [(root, filesystem.info(path)["size"])]
    found = [e for e in FolderSource(root).first_entries(root, _MAX_FILES) if not e.is_folder]
    found = [entry for entry in found if not entry.uri.rpartition("/")[2].startswith("_")]
    return sorted((entry.uri, entry.size_bytes) for entry in found if entry.size_bytes)
