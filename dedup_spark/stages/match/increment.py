"""What match has to do when part of the lake was matched before: it compares only new images, with new and old ones.

`densities` holds each representative that was matched, with the hash of its embedding and of the settings. A
representative is compared with everything when it is new, when its embedding changed, or when it lost so many of its k
nearest that fewer than `enough_neighbours` are left: the ones that took their places are unknown.

What a lost neighbour costs. All pairs from match.min_similarity up are known whatever is lost. Density, which the prior
reads, is the cosine of the 16th neighbour: with 16 left it is exactly that of a match of everything. What such a match
would find in addition are pairs below min_similarity whose images each have as many nearer ones as are left: they were
not among the nearest before the loss either, so that no pair that was found is lost. If one lost neighbour of 32 were
enough to ask again, a lake that lost 1.5 % of its images would ask four in ten of the others.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.config import MatchSettings
from dedup_spark.kernels.comparing.probability import DENSE_SIMILARITY, DENSITY_RANK
from dedup_spark.kernels.faiss_index import DEFAULT
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.vectors import Quantiser, from_bytes, to_float32
from dedup_spark.results_version import RESULTS_VERSION
from dedup_spark.spark.executors import folder_of_attempt
from dedup_spark.store import shards
from dedup_spark.store.shards import CellsFile
from dedup_spark.vocabulary import Engine, Method

_FILE = Columns(f"shard int, n_images bigint, {shards.FILES_DDL}")

_NOT_DECIDING = {
    "audit_queries", "cpus_per_gpu_task", "faiss_k", "faiss_without_gpu", "gpus_per_task", "max_hamming_bits",
    "max_pairs_per_image", "max_phash_bucket",
}  # fmt: skip


@dataclass(frozen=True)
class FileSettings:
    """Where a task writes queries (a folder below the root), the cells of the index, and the seed of the sketches."""

    root: str
    folder: str
    cells: CellsFile
    sketch_seed: int


def fingerprint(model_id: str, settings: MatchSettings, index_type: str = DEFAULT, n_cells: int = 0) -> str:
    """Hash of the model and of all that decides which embeddings are pairs, code included. Guards, audit and pHash are
    left out, as they do not.

    Args:
        index_type: Of what faiss_ivf searches, where that is or may be the engine.
        n_cells: Of the index, where somebody chose the number; 0 where it follows from the number of images. Of more
            cells a fixed number of probes finds less.
    """
    deciding = {name: value for name, value in asdict(settings).items() if name not in _NOT_DECIDING}
    if not settings.faiss_probes:
        del deciding["faiss_probes"]  # matches of versions without it are still good
    if may_be_faiss(settings):
        if index_type != DEFAULT:
            deciding["index_type"] = index_type  # a coarse one loses pairs, which a finer one must look for
        if settings.faiss_probes and n_cells:
            deciding["n_cells"] = n_cells
    text = f"results {RESULTS_VERSION}\n{model_id}\n{sorted(deciding.items())}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def may_be_faiss(settings: MatchSettings) -> bool:
    """Whether faiss_ivf is the engine, or may be."""
    return settings.engine in ("auto", Engine.FAISS_IVF)


def enough_neighbours(settings: MatchSettings) -> int:
    """How many of its nearest an image must still have not to be compared with everything.

    Density needs 16. Whether the neighbourhood is dense is seen at the k-th: where pairs are kept from DENSE_SIMILARITY
    up (or from lower), it is known in any case, else the whole list is needed.
    """
    is_dense_known = settings.min_similarity <= DENSE_SIMILARITY
    return min(settings.neighbours, DENSITY_RANK) if is_dense_known else settings.neighbours


def matched_before(embedded: DataFrame, densities: DataFrame, k: int) -> DataFrame:
    """The representatives in `densities` whose embedding has not changed since.

    Returns:
        image_id, complete_above (the cosine down to which its list of at most `k` is complete; null where that is the
        floor) and n_complete (neighbours from there up).
    """
    last = F.get("similarities", F.lit(k - 1))
    complete_above = F.greatest("complete_above", last).alias("complete_above")  # of the two that are not null
    known = densities.select("image_id", "vector_hash", "similarities", complete_above)
    n_complete = F.size(F.filter("similarities", lambda similarity: similarity >= F.col("complete_above")))
    matched = embedded.join(known, ["image_id", "vector_hash"])
    return matched.select("image_id", "complete_above", n_complete.alias("n_complete"))


def embedding_pairs(pairs: DataFrame) -> DataFrame:
    """image_id_a, image_id_b, similarity, engine of the pairs of representatives that both have an embedding."""
    have_cosine = F.col("method").isin(Method.PHASH, Method.EMBEDDING) & F.col("similarity").isNotNull()
    return pairs.where(have_cosine).select("image_id_a", "image_id_b", "similarity", "engine")


def still_valid(old_pairs: DataFrame, matched: DataFrame) -> DataFrame:
    """Pairs of two images that were matched before and have not changed."""
    ids = matched.select("image_id")
    for side in ("image_id_a", "image_id_b"):
        old_pairs = old_pairs.join(ids.withColumnRenamed("image_id", side), side, "left_semi")
    return old_pairs


def images_to_compare(
    embedded: DataFrame, matched: DataFrame, remembered: DataFrame, old_pairs: DataFrame, n_enough: int
) -> DataFrame:
    """image_id of the representatives that must be compared with everything: new ones, and those with less than
    `n_enough` neighbours left. `matched` as of `matched_before`.

    Only images of `remembered` (rows of densities) can be lost. Of a match that was killed between its two commits, new
    images have pairs already and are in no list yet: they took nobody's place.
    """
    new = embedded.join(matched, "image_id", "left_anti").select("image_id")
    ends = F.explode(F.array(*(F.struct(F.col(x).alias("image_id"), F.col(y).alias("gone_id")) for x, y in _ENDS)))
    sides = old_pairs.select(ends.alias("end"), "similarity").select("end.*", "similarity")
    gone = sides.join(matched.select(F.col("image_id").alias("gone_id")), "gone_id", "left_anti")
    gone = gone.join(remembered.select(F.col("image_id").alias("gone_id")), "gone_id", "left_semi")
    may_lack = matched.where("complete_above IS NOT NULL")  # a list that is complete down to the floor still is
    lost = gone.join(may_lack, "image_id").where("similarity >= complete_above")
    n_left = F.first("n_complete") - F.count("*")
    too_few = lost.groupBy("image_id").agg(n_left.alias("n_left")).where(F.col("n_left") < n_enough)
    return new.unionByName(too_few.select("image_id"))


def incomplete_lists(matched: DataFrame, compared: DataFrame, min_similarity: float) -> DataFrame:
    """(image_id, complete_above) of the images that are not `compared` now and may lack some of their nearest."""
    known = F.least("complete_above", F.lit(min_similarity).cast("float"))  # pairs from there up are all kept
    kept = matched.where("complete_above IS NOT NULL").join(compared, "image_id", "left_anti")
    return kept.select("image_id", known.alias("complete_above"))


_ENDS = (("image_id_a", "image_id_b"), ("image_id_b", "image_id_a"))


def write_queries(vectors: DataFrame, n_files: int, settings: FileSettings) -> DataFrame:
    """Files like shards of the rows (image_id, embedding), spread by hash; a row for each, as of a shard."""
    part = F.pmod(F.xxhash64("image_id"), F.lit(n_files)).cast("int")
    rows = vectors.select(part.alias("part"), "image_id", "embedding").repartition(n_files, "part")
    ordered = rows.sortWithinPartitions("part", "image_id")
    return ordered.mapInArrow(functools.partial(_write_batches, settings=settings), _FILE.ddl)


def _write_batches(batches: Iterable[pa.RecordBatch], settings: FileSettings) -> Iterator[pa.RecordBatch]:
    held = list(batches)
    if not held:
        return
    rows = pa.Table.from_batches(held)
    parts = rows["part"].to_numpy()
    centroids = shards.read_centroids(settings.root, settings.cells)
    quantiser = Quantiser(centroids)
    for part in np.unique(parts).tolist():
        mine = rows.filter(pa.array(parts == part))
        ids, vectors = mine["image_id"].to_numpy(), from_bytes(mine["embedding"].to_pylist())
        cells = quantiser.nearest(to_float32(vectors))
        by_cell = np.argsort(cells, kind="stable")
        block = Block(ids[by_cell], vectors[by_cell], cells[by_cell])
        path = f"{folder_of_attempt(settings.folder)}/part-{part:05d}.faiss"
        row = shards.write_shard(settings.root, path, block, (settings.cells, centroids), settings.sketch_seed)
        listed = {"shard": part} | {name: row[name] for name in _FILE.names if name in row}
        yield pa.RecordBatch.from_pylist([listed], schema=_FILE.arrow)
