"""Index: coarse cells of the embedding space, and FAISS shard files that hold the representatives by cell.

Reads: features
Writes: centroids, shards
Kernels: vectors, faiss_index, joins
Scale: k-means on at most index.max_train_rows rows, on the driver or in a task that holds a GPU; every vector is
assigned once (n x cells products) and shuffled once (1 KB per row); three files per shard, 2.2 KB per row, built in one
task (about 3 KB of memory per row); sketches take 10 us per row.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.config import Config, IndexSettings
from dedup_spark.errors import TableError
from dedup_spark.kernels.faiss_index import fill_index
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.vectors import from_bytes, to_float32
from dedup_spark.spark.background import background
from dedup_spark.spark.executors import folder_of_attempt
from dedup_spark.spark.gpus import NO_GPU, TaskShare
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.index.training import finder, gpu_share, train, train_type
from dedup_spark.stages.representatives import representatives, set_hash, set_name
from dedup_spark.store import files, shards
from dedup_spark.store.observed import stage_with
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CENTROIDS, FEATURES, SHARDS
from dedup_spark.store.shards import CellsFile
from dedup_spark.store.tables import Tables

_ASSIGNED = "image_id bigint, cell int, embedding binary"
_SHARD_FILE = Columns(f"shard int, n_images bigint, size_bytes bigint, cells array<int>, {shards.FILES_DDL}")
_SORTED = Columns("shard int, cell int, image_id bigint, embedding binary")


@dataclass(frozen=True)
class OwnType:
    """A type of index that is not that of every shard, and the index of that type without rows."""

    index_type: str
    trained: Broadcast[bytes]


@dataclass(frozen=True)
class ShardSettings:
    """What a task needs to write a shard. `centroids` are those of all cells, which the file `cells` holds."""

    root: str
    folder: str
    cells: CellsFile
    centroids: npt.NDArray[np.float32]
    sketch_seed: int
    own_type: OwnType | None = None


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Train cells, assign every representative, write the shards, then list them in the table."""
    tables = run.tables
    vectors = (
        representatives(tables.read(FEATURES))
        .where("embedding IS NOT NULL")
        .select("image_id", "model_id", "embedding")
    )
    vectors, seen = stage_with(
        tables,
        "vectors",
        vectors,
        set_hash=set_hash(F.xxhash64("embedding")),
        vector_bytes=F.max(F.octet_length("embedding")),
    )
    settings = within_memory(config.index, seen["vector_bytes"])
    model_id, n_vectors = _the_only_model(vectors)
    build = f"{run.run_id}-{secrets.token_hex(2)}"  # a name of its own: a run that lost its lease may still write files
    if n_vectors == 0:
        tables.overwrite(CENTROIDS, local_relation(spark, [], CENTROIDS.schema))
        tables.overwrite(SHARDS, local_relation(spark, [], SHARDS.schema))
        n_cells = n_shards = 0
    else:
        made_of = (model_id, set_name(n_vectors, seen["set_hash"]))
        n_cells, n_shards = _build(run, vectors, n_vectors, made_of, build, settings)
    _delete_older_builds(tables.root, keep=build)
    _delete_lost_attempts(tables, build)
    tables.drop_staged()
    run.count(vectors=n_vectors, cells=n_cells, shards=n_shards)


def within_memory(settings: IndexSettings, vector_bytes: int | None) -> IndexSettings:
    """`settings` with as many fewer rows per shard and in the sample as a vector is longer than 512 numbers."""
    return replace(
        settings,
        max_shard_rows=shards.rows_within_memory(settings.max_shard_rows, vector_bytes),
        max_train_rows=shards.rows_within_memory(settings.max_train_rows, vector_bytes),
    )


def _build(
    run: Run, vectors: DataFrame, n_vectors: int, made_of: tuple[str, str], build: str, settings: IndexSettings
) -> tuple[int, int]:
    """Write cells and shards; returns how many of each. `made_of` is the model_id and the name of the set of images."""
    tables, spark = run.tables, run.tables.spark
    model_id, built_from = made_of
    share, unusable = gpu_share(spark, settings)
    if unusable:
        run.note(faiss_unusable_on_gpu=unusable)
    centroids = train(vectors, n_vectors, settings, share)
    trained = train_type(vectors, n_vectors, centroids, settings)
    assigned = tables.stage("assigned", assign_cells(vectors, centroids, settings, share))
    sizes = {r["cell"]: r["count"] for r in assigned.groupBy("cell").count().collect()}
    rows_per_shard = shards.rows_per_shard(n_vectors, spark.sparkContext.defaultParallelism, settings.max_shard_rows)
    shard_of = pack_cells(sizes, rows_per_shard)
    places = {cell: (shard, parts(sizes[cell], rows_per_shard)) for cell, shard in shard_of.items()}
    folder = f"{shards.FOLDER}/{build}"
    own = None if trained is None else OwnType(settings.faiss_index_type, spark.sparkContext.broadcast(trained))
    cells = shards.write_centroids(tables.root, folder, centroids)
    to_write = ShardSettings(tables.root, folder, cells, centroids, run.config.match.seed, own)
    written = tables.stage("written", write_shards(assigned, places, to_write))
    alike = {"model_id": model_id, "built_from": built_from, "index_type": settings.faiss_index_type}
    listed = written.withColumns({name: F.lit(value) for name, value in alike.items()})
    with background(spark) as start:
        start(lambda: tables.overwrite(CENTROIDS, _centroid_rows(spark, centroids, sizes, shard_of, model_id)))
        n_shards = written.count()
    tables.overwrite(SHARDS, listed)  # last: match asks it whether the index is that of these images
    return len(centroids), n_shards


def assign_cells(
    vectors: DataFrame, centroids: npt.NDArray[np.float32], settings: IndexSettings, share: TaskShare = NO_GPU
) -> DataFrame:
    """Rows of image_id, cell and embedding; lazy. By tasks that hold a GPU where `share` has one."""
    shared, gpus = vectors.sparkSession.sparkContext.broadcast(centroids), share.gpus

    def assign(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        quantiser = finder(shared.value, settings, gpus)
        for batch in batches:
            matrix = to_float32(from_bytes(batch["embedding"].to_pylist()))
            cells = pa.array(quantiser.nearest(matrix), pa.int32())
            yield pa.RecordBatch.from_arrays(
                [batch["image_id"], cells, batch["embedding"]], ["image_id", "cell", "embedding"]
            )

    return share.map_in_arrow(vectors.select("image_id", "embedding"), assign, _ASSIGNED)


def pack_cells(sizes: dict[int, int], rows_per_shard: int) -> dict[int, int]:
    """The shard of each cell: neighbouring cells share one up to `rows_per_shard`; a larger cell has several.

    The several are the shard named here and the next ones, as many as `parts` says.
    """
    shard_of, shard, filled = {}, 0, 0
    for cell in sorted(sizes):
        if filled and filled + sizes[cell] > rows_per_shard:
            shard, filled = shard + 1, 0
        shard_of[cell] = shard
        filled += sizes[cell]
        if filled > rows_per_shard:
            shard, filled = shard + parts(sizes[cell], rows_per_shard), 0
    return shard_of


def parts(size: int, rows_per_shard: int) -> int:
    """How many shards a cell of `size` rows takes."""
    return max(1, -(-size // rows_per_shard))


def write_shards(assigned: DataFrame, places: dict[int, tuple[int, int]], settings: ShardSettings) -> DataFrame:
    """One file per shard, one row per file; lazy. `places`: the first shard and the number of shards of each cell."""
    spark = assigned.sparkSession
    known = [(cell, first, n_parts) for cell, (first, n_parts) in places.items()]
    mapping = local_relation(spark, known, "cell int, first int, n_parts int")
    n_shards = max(first + n_parts for first, n_parts in places.values())
    part = F.pmod(F.xxhash64("image_id"), F.col("n_parts")).cast("int")
    placed = assigned.join(F.broadcast(mapping), "cell").withColumn("shard", F.col("first") + part)
    by_shard = placed.repartitionByRange(n_shards, "shard")
    rows = by_shard.sortWithinPartitions("shard", "cell", "image_id")
    return rows.select("shard", "cell", "image_id", "embedding").mapInArrow(
        functools.partial(_write_batches, settings=settings), _SHARD_FILE.ddl
    )


def _write_batches(batches: Iterable[pa.RecordBatch], settings: ShardSettings) -> Iterator[pa.RecordBatch]:
    """On executors: rows sorted by shard to one FAISS file per shard."""
    rows = pa.Table.from_batches(batches, schema=_SORTED.arrow)
    for shard in pc.unique(rows["shard"]).to_pylist():
        yield _write_one(shard, rows.filter(pc.equal(rows["shard"], shard)), settings)


def _write_one(shard: int, rows: pa.Table, settings: ShardSettings) -> pa.RecordBatch:
    ids, cells = rows["image_id"].to_numpy(), rows["cell"].to_numpy()
    vectors = from_bytes(rows["embedding"].to_pylist())
    block, path = Block(ids, vectors, cells), f"{folder_of_attempt(settings.folder)}/shard-{shard:05d}.faiss"
    cells_file = settings.cells, settings.centroids
    row = {"shard": shard} | shards.write_shard(settings.root, path, block, cells_file, settings.sketch_seed)
    if settings.own_type is not None:
        index = fill_index(settings.own_type.trained.value, ids, to_float32(vectors), cells, settings.centroids)
        beside = path.replace(".faiss", f".{settings.own_type.index_type.replace(',', '-')}.faiss")
        row |= {"index_path": beside, "index_sha256": shards.write_index(settings.root, beside, index)}
    return pa.RecordBatch.from_pylist([row], schema=_SHARD_FILE.arrow)


def _the_only_model(vectors: DataFrame) -> tuple[str, int]:
    counts = {r["model_id"]: r["count"] for r in vectors.groupBy("model_id").count().collect()}
    if len(counts) > 1:
        raise TableError(
            f"features holds embeddings of {len(counts)} models ({', '.join(sorted(counts))}), "
            "which cannot be compared: extract into other tables, or go back to the settings of the first model"
        )
    return next(iter(counts.items()), ("", 0))


def _centroid_rows(
    spark: SparkSession,
    centroids: npt.NDArray[np.float32],
    sizes: dict[int, int],
    shard_of: dict[int, int],
    model_id: str,
) -> DataFrame:
    rows = [
        (cell, sizes.get(cell, 0), shard_of.get(cell), model_id, bytearray(centroid.astype("<f4").tobytes()))
        for cell, centroid in enumerate(centroids)
    ]
    return local_relation(spark, rows, CENTROIDS.schema)


def _delete_older_builds(root: str, keep: str) -> None:
    _delete_others(f"{root}/{shards.FOLDER}", {keep})


def _delete_lost_attempts(tables: Tables, build: str) -> None:
    """Delete what attempts of tasks have written that another attempt overtook."""
    listed = tables.read(SHARDS).select("path", "centroids_path").collect()
    needed = {name for row in listed for name in (row["path"].rpartition("/")[0], row["centroids_path"])}
    _delete_others(f"{tables.root}/{shards.FOLDER}/{build}", {name.rpartition("/")[2] for name in needed})


def _delete_others(folder: str, needed: set[str]) -> None:
    """Delete what is in `folder` under other names than these."""
    for name in files.list_names(folder):
        if name not in needed:
            files.delete_tree(f"{folder}/{name}")
