"""What one finished run says of each image, as a file of Arrow beside the copies of the data files: mapped, not read.

Its rows are those of `data_files.images_of`, in that order. It holds what changes from run to run: addresses, clusters,
how dense neighbourhoods are, with which images each was compared, and three sorted lists by which an image is found: by
its bytes, its pixels and its id.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_spark.kernels.arrays import Bools, Float32, Int64, UInt64
from dedup_spark.kernels.comparing.probability import DENSITY_RANK
from dedup_spark.kernels.comparing.query_images import content_keys
from dedup_spark.lookup import run_pairs
from dedup_spark.lookup.data_files import bytes_of, is_whole
from dedup_spark.lookup.finished import FinishedRun
from dedup_spark.lookup.places import delete_others, written_whole
from dedup_spark.store import reader
from dedup_spark.store.schema import CLUSTERS, DENSITIES, EVIDENCE, GUARDED, IMAGES, Table

_FORM = "3"
RANKS = ("before_density", "density", "before_last", "last")
"""Of the cosines of an image's nearest, by which a further neighbour changes its density and its list: the ones before
and at DENSITY_RANK, before the end of a full list and at its end; -2 where there are fewer."""
NO_RANK = -2.0
_OF_CLUSTERS = ("cluster_id", "cluster_size", "keeper_image_id", "is_keeper", "relation")


def open_run_file(run: FinishedRun, images: pa.Table, folder: Path) -> pa.Table:
    """One chunk; made where it is missing.

    Columns: `image_id`, `phash`, `uri`, `member`, `_OF_CLUSTERS`, `guard`, RANKS, `n_equal` (images of equal pixels, at
    the one whose neighbours the run looked for, without such the one of smallest id, else 0), `key` (its content key),
    `candidates` and `nearest` (run_pairs.py), the sorted keys `ids`, `contents` and `pixels`, and `by_` each of them
    the rows in that order.
    """
    path = folder / f"run-{_FORM}-{run.name}.arrow"
    if not is_whole(path):
        rows = _rows(run, images)
        with (
            written_whole(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, rows.schema) as writer,
        ):
            writer.write_table(rows)
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def forget_others(run: FinishedRun, folder: Path) -> None:
    """Delete the files of other runs."""
    own = f"run-{_FORM}-{run.name}.arrow"
    delete_others(folder.glob("run-*"), own.__eq__)


def first_words(column: pa.ChunkedArray, n: int) -> tuple[UInt64, ...]:
    """The first `n` words of 8 bytes of each hash, (rows,) each."""
    chunks = [np.ascontiguousarray(bytes_of(chunk)[:, : 8 * n]).view(np.uint64) for chunk in column.chunks]
    words = np.concatenate(chunks) if chunks else np.empty((0, n), np.uint64)
    return tuple(np.ascontiguousarray(words[:, i]) for i in range(n))


def _rows(run: FinishedRun, images: pa.Table) -> pa.Table:
    ids = images["image_id"].to_numpy()
    by_id = np.argsort(ids)
    place = _Places(ids[by_id], by_id)
    contents, first, second = (*first_words(images["content_hash"], 1), *first_words(images["pixel_hash"], 2))
    by_content, by_pixel = np.argsort(contents), np.lexsort((ids, second, first))
    ranks, is_matched = _ranks(run, place)
    keys = np.concatenate([np.empty(0, np.int64), *(content_keys(bytes_of(c)) for c in images["pixel_hash"].chunks)])
    columns: dict[str, Any] = {
        "image_id": ids,
        "phash": images["phash"].to_numpy(),
        **_of_table(run, IMAGES, ("uri", "member"), place),
        **_of_table(run, CLUSTERS, _OF_CLUSTERS, place),
        **_of_table(run, GUARDED, ("guard",), place),
        **ranks,
        "n_equal": _n_equal(first, second, np.lexsort((ids, ~is_matched, second, first))),
        "key": keys,
        **_beside(run, place, ids, keys),
    }
    columns |= {"by_ids": by_id, "by_contents": by_content, "by_pixels": by_pixel}
    columns |= {"ids": ids[by_id], "contents": contents[by_content], "pixels": first[by_pixel]}
    return pa.table(columns).combine_chunks()


class _Places:
    """Finds the rows of ids."""

    def __init__(self, ids: Int64, rows: Int64) -> None:
        self._ids, self._rows = ids, rows

    def __len__(self) -> int:
        return len(self._ids)

    def of(self, ids: Int64) -> tuple[Bools, Int64]:
        """(m,) which of the ids there are, and their rows."""
        if not len(self._ids):
            return np.zeros(len(ids), bool), np.empty(0, np.int64)
        place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        known = self._ids[place] == ids
        return known, self._rows[place[known]]

    def spread(self, rows: pa.Table) -> dict[str, pa.Array]:
        """The columns of `rows` beside `image_id`, each value at the row of its image, null elsewhere."""
        known, places = self.of(rows["image_id"].to_numpy())
        source = np.full(len(self), -1)
        source[places] = np.flatnonzero(known)
        taken = pa.array(source, mask=source < 0)
        others = rows.drop_columns(["image_id"])
        return {name: _large(others[name]).take(taken).combine_chunks() for name in others.schema.names}


def _large(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.large_string()) if pa.types.is_string(column.type) else column


def _of_table(run: FinishedRun, table: Table, columns: tuple[str, ...], place: _Places) -> dict[str, pa.Array]:
    return place.spread(_read(run, table, ("image_id", *columns)))


def _read(run: FinishedRun, table: Table, columns: tuple[str, ...], where: pc.Expression | None = None) -> pa.Table:
    version = run.versions[table.name]
    return reader.read_table(table.name, tables=run.root, columns=columns, where=where, version=version)


def _beside(run: FinishedRun, place: _Places, ids: Int64, keys: Int64) -> dict[str, pa.Array]:
    """`candidates` and `nearest` of each image: 20 to 24 bytes a pair in memory while they are made."""
    rows = _read(run, EVIDENCE, run_pairs.READ, run_pairs.FOR_MATCH).combine_chunks()
    (a_known, rows_a), (b_known, rows_b) = (place.of(rows[c].to_numpy()) for c in ("image_id_a", "image_id_b"))
    both = a_known & b_known
    return run_pairs.beside_columns(
        rows.filter(pa.array(both)), rows_a[both[a_known]], rows_b[both[b_known]], ids, keys
    )


def _ranks(run: FinishedRun, place: _Places) -> tuple[dict[str, Float32], Bools]:
    """RANKS of each image, where `last` is that of a list which is full; and (rows,) which images have a list."""
    rows = _read(run, DENSITIES, ("image_id", "similarities")).combine_chunks()
    known, places = place.of(rows["image_id"].to_numpy())
    similarities = rows["similarities"].combine_chunks() if len(rows) else pa.array([], pa.list_(pa.float32()))
    ends, values = similarities.offsets.to_numpy(), similarities.values.to_numpy(zero_copy_only=False)
    wanted = (DENSITY_RANK - 1, DENSITY_RANK, run.config.match.neighbours - 1, run.config.match.neighbours)
    is_matched = np.zeros(len(place), bool)
    is_matched[places] = True
    found = {}
    for name, rank in zip(RANKS, wanted, strict=True):
        column = np.full(len(place), NO_RANK, np.float32)
        has = (np.diff(ends) >= rank) & (rank > 0)
        at = np.where(has, ends[:-1] + rank - 1, 0)
        column[places] = np.where(has, values[at] if len(values) else NO_RANK, NO_RANK)[known]
        found[name] = column
    return found, is_matched


def _n_equal(first: UInt64, second: UInt64, order: Int64) -> Int64:
    """(n,) at the first of each group of equal pixels, in that order, its size; else 0. 128 bits of a hash count."""
    counts = np.zeros(len(order), np.int64)
    if len(order):
        a, b = first[order], second[order]
        starts = np.flatnonzero(np.r_[True, (a[1:] != a[:-1]) | (b[1:] != b[:-1])])
        counts[order[starts]] = np.diff(np.r_[starts, len(order)])
    return counts
