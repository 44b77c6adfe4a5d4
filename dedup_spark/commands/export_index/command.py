"""`dedup-spark index export`: the index as plain FAISS files with a map of their ids, for people without dedup_spark.

Nothing is written to the tables but rows that are staged meanwhile. Cost: each shard file is read once and its vectors
are written once, a task per file; the map is a join of narrow columns in Spark (some 150 bytes per image). The driver
holds a row per file.
"""

from __future__ import annotations

import functools
import itertools

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from dedup_spark.commands.export_index.task import SHARD, WRITTEN, ExportSettings, export_batches
from dedup_spark.commands.export_index.text import manifest_of, readme_of
from dedup_spark.commands.export_index.values import ExportedFile, ExportedIndex
from dedup_spark.errors import ArtifactError, ConfigError, TableError
from dedup_spark.kernels.faiss_index import DEFAULT
from dedup_spark.kernels.plain_index import n_probes
from dedup_spark.sources import addresses
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.report.values import readable_bytes
from dedup_spark.stages.representatives import representatives_with, set_hash, set_name, with_representative
from dedup_spark.store import exports, files
from dedup_spark.store.node_files import REBUILD
from dedup_spark.store.observed import Observed
from dedup_spark.store.schema import CENTROIDS, FEATURES, IMAGES, RUNS, SHARDS
from dedup_spark.store.shards import ShardFiles
from dedup_spark.store.tables import Tables

MAX_MERGED_BYTES = 4 << 30
"""Of an index in one file: one task holds it in memory."""
_IDS_PER_FILE = 2_000_000
_FACTS = ("n_images", "size_bytes", "model_id", "built_from", "index_type", *ShardFiles._fields)


def require_place(to: str, root: str) -> str:
    """The canonical folder of the export. Raises ConfigError where it holds something, or lies inside the tables."""
    place = addresses.to_uri(to)
    if f"{place}/".startswith(f"{addresses.to_uri(root)}/"):
        raise ConfigError(f"--to {to}: is inside the tables ({root}); choose a folder outside them")
    kind = addresses.kind_of(place)
    if kind == "file":
        raise ConfigError(f"--to {to}: is a file; expected a folder that is empty or not there")
    held = files.list_names(_for_files(place)) if kind else []
    if held:
        raise ConfigError(
            f"--to {to}: holds {', '.join(held[:3])}{' and more' if len(held) > 3 else ''}; expected a folder that is "
            "empty or not there (an export without manifest.json did not end: delete it)"
        )
    return place


def export_index(tables: Tables, to: str, *, merged: bool = False) -> ExportedIndex:
    """Write the index of `tables` to the folder `to`, with its map of ids; `merged`: in one file.

    Raises:
        ConfigError: the folder is not fit, or one file would be too large.
        TableError: there is no index.
        ArtifactError: the index is of another state than the images, or a shard file is damaged.
    """
    place = require_place(to, tables.root)
    _require_outside_of_lakes(tables, to, place)
    index = tables.read(SHARDS).select("shard", *_FACTS).orderBy("shard").collect()
    _require_index(tables, index)
    if merged:
        _require_one_file(index)
    settings = ExportSettings(tables.root, _for_files(place))
    written = tables.stage("exported", _written(tables, index, settings, merged=merged))
    counted, ids = Observed(), _ids(tables, written)
    hadoop_place = addresses.to_hadoop(tables.spark, f"{place}/ids", literal=False)  # writers expand no globs
    exports.write_parquet(counted.watch(ids, n=F.count("*")), hadoop_place)
    exported = _describe(tables, to, index[0], written, counted.get_or_query(lambda: ids)["n"])
    tables.drop_staged()
    exports.write_text(readme_of(exported), f"{settings.to}/README.txt")
    exports.write_text(manifest_of(exported), f"{settings.to}/manifest.json")
    return exported


def _for_files(place: str) -> str:
    """The place as `store.files` takes it."""
    return place if addresses.is_remote(place) else addresses.to_path(place)


def _require_outside_of_lakes(tables: Tables, to: str, place: str) -> None:
    """Raise ConfigError for a folder inside a lake: its files would be listed as images."""
    lakes = [row["lake"] for row in tables.read(RUNS).select("lake").distinct().collect() if row["lake"]]
    inside = next((lake for lake in lakes if f"{place}/".startswith(f"{lake.rstrip('/')}/")), None)
    if inside:
        raise ConfigError(f"--to {to}: is inside the lake ({inside}); choose a folder outside it")


def _require_index(tables: Tables, index: list[Row]) -> None:
    """Raise where there is no index, or it is not that of the images as they are."""
    if not index:
        raise TableError("there is no index with vectors: run `dedup-spark index` with the lake and the same --tables")
    vector_hash = F.when(F.col("embedding").isNotNull(), F.xxhash64("embedding")).alias("vector_hash")
    hashed = representatives_with(tables.read(FEATURES), vector_hash)
    seen = hashed.agg(F.count("vector_hash").alias("n"), set_hash(F.col("vector_hash")).alias("set_hash")).first()
    assert seen is not None
    if {row["built_from"] for row in index} != {set_name(seen["n"], seen["set_hash"])}:
        raise ArtifactError(f"the index is not that of the images as they are now; {REBUILD}")


def _require_one_file(index: list[Row]) -> None:
    size = sum(row["size_bytes"] for row in index)
    if size > MAX_MERGED_BYTES:
        raise ConfigError(
            f"--merged: the index has {readable_bytes(size)}, and one file may have "
            f"{readable_bytes(MAX_MERGED_BYTES)}; export several files: faiss.IndexShards searches them as one"
        )


def _written(tables: Tables, index: list[Row], settings: ExportSettings, *, merged: bool) -> DataFrame:
    """WRITTEN; to compute it writes the FAISS files."""
    names = ["index.faiss"] * len(index) if merged else [f"shard-{row['shard']:05d}.faiss" for row in index]
    ends = itertools.accumulate(row["n_images"] for row in index)
    listed = [
        (name, end - row["n_images"], *ShardFiles.of(row.asDict()))
        for name, row, end in zip(names, index, ends, strict=True)
    ]
    rows = local_relation(tables.spark, listed, SHARD)
    in_tasks = rows.repartitionByRange(1 if merged else len(listed), "file").sortWithinPartitions("file", "first_id")
    return in_tasks.mapInArrow(functools.partial(export_batches, settings=settings), WRITTEN.ddl)


def _ids(tables: Tables, written: DataFrame) -> DataFrame:
    """The map: a row per image, ordered by faiss_id, so that few of its parts are read to look one up."""
    same = with_representative(tables.read(FEATURES)).select("image_id", "representative_id")
    named = written.select("file", "faiss_id", "representative_id").join(same, "representative_id")
    rows = named.join(tables.read(IMAGES).select("image_id", "uri", "member"), "image_id")
    n_files = max(1, -(-written.count() // _IDS_PER_FILE))
    in_order = rows.repartitionByRange(n_files, "faiss_id").sortWithinPartitions("faiss_id", "image_id")
    return in_order.select("file", "faiss_id", "image_id", "uri", "member")


def _describe(tables: Tables, to: str, shard: Row, written: DataFrame, n_images: int) -> ExportedIndex:
    """`shard`: any row of the index."""
    facts = (F.count("*").alias("n"), F.max("file_bytes").alias("size"), F.max("file_sha256").alias("sha256"))
    found = written.groupBy("file").agg(*facts).orderBy("file").collect()
    made = tuple(ExportedFile(row["file"], row["n"], row["size"], row["sha256"]) for row in found)
    cells = (
        tables.read(CENTROIDS).agg(F.count("*").alias("n"), F.max(F.octet_length("centroid")).alias("bytes")).first()
    )
    assert cells is not None
    n_vectors = sum(file.n_vectors for file in made)
    d, n_cells, searched = cells["bytes"] // 4, cells["n"], shard["index_type"] or DEFAULT
    return ExportedIndex(
        to, shard["model_id"], d, n_vectors, n_images, n_cells, n_probes(n_cells), made, searched
    )  # fmt: skip
