"""`dedup-spark verify-removal`: checks each proposal for removal now, and lists those that are still true.

Nothing is written to the tables, and nothing is removed. Cost: in a store a HEAD request for each copy and keeper, on a
disk all bytes of each. The results stay on the disks of the executors until the list is written, row by row.
"""

from __future__ import annotations

import csv
import functools
import logging
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from dedup_spark.commands.verify_removal.checks import CHECKED, CheckSettings, check_batches
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError
from dedup_spark.sources.base import Source
from dedup_spark.sources.registry import open_source
from dedup_spark.stages.report.values import readable_bytes
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import REMOVALS
from dedup_spark.store.views import ViewSettings, read_view

log = logging.getLogger(__name__)

COLUMNS = (
    "uri", "member", "keeper_uri", "keeper_member", "relation", "removal_tier", "size_bytes", "freed_bytes",
    "cluster_id", "etag", "version_id", "verified_at",
)  # fmt: skip
"""The columns of the list, in this order."""


_TASKS_PER_CORE = 4
_PARTS_PER_CLUSTER = 16
"""Tasks over which one huge cluster is spread; each of them checks the keeper once."""


@dataclass(frozen=True)
class Wanted:
    """Which copies are checked: of these relations and removal tiers, or all; at most `limit`, those that free most."""

    relations: tuple[str, ...] = ()
    limit: int | None = None
    tiers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: expected the number of copies to check, 1 or more")


@dataclass(frozen=True)
class LeftOut:
    """Copies that are not on the list for one reason, and the address of one of them."""

    problem: str
    n_images: int
    example: str


@dataclass(frozen=True)
class VerifiedRemovals:
    """The list that was written: `n_images` rows in the file `out`, which free `freed_bytes` together.

    `left_out` are proposals of the tables that are no longer true, the most frequent reason first.
    """

    out: str
    n_images: int
    freed_bytes: int
    left_out: tuple[LeftOut, ...]


def verify_removal(tables: Tables, config: Config, wanted: Wanted, out: str) -> VerifiedRemovals:
    """Write the list to the file `out`.

    Raises:
        ConfigError: `out` cannot be written.
    """
    file = require_file(out)
    removals = _wanted(read_view(tables, REMOVALS, ViewSettings.of(config)), wanted)
    settings = CheckSettings(config.extract.fetch_threads, _sources_of_containers(removals, config))
    checked = _check(removals, settings).persist(StorageLevel.DISK_ONLY)
    try:
        standing = _standing(checked)
        going = _with_freed_bytes(standing.where("NOT keeps_another")).withColumn("verified_at", _iso("verified_at"))
        dropped = _count(checked.where("problem IS NOT NULL"), standing.where("keeps_another"))
        n_rows, n_bytes = _write(file, going.orderBy("uri").select(*COLUMNS).toLocalIterator(prefetchPartitions=True))
    finally:
        checked.unpersist()
    left_out = [LeftOut(row["problem"], row["n"], row["example"]) for row in dropped]
    left_out.sort(key=lambda reason: (-reason.n_images, reason.problem))
    return VerifiedRemovals(out, n_rows, n_bytes, tuple(left_out))


def require_file(out: str) -> Path:
    """The file to write. Raises ConfigError when it cannot be written."""
    file = Path(os.path.expanduser(out)).absolute()
    if "://" in out or os.path.isdir(file) or not os.access(file.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: expected a file in a local folder that can be written to")
    return file


def _wanted(removals: DataFrame, wanted: Wanted) -> DataFrame:
    if wanted.relations:
        removals = removals.where(F.col("relation").isin(*wanted.relations))
    if wanted.tiers:
        removals = removals.where(F.col("removal_tier").isin(*wanted.tiers))
    if wanted.limit is not None:
        removals = removals.orderBy(F.desc_nulls_last("freed_bytes"), "image_id").limit(wanted.limit)
    return removals


def _sources_of_containers(removals: DataFrame, config: Config) -> dict[str, Source]:
    """By address, the sources of the lakes in which keepers are inside containers: a few."""
    inside = removals.where("keeper.member IS NOT NULL").select("keeper_lake").distinct().collect()
    sources = {}
    for row in inside:
        lake = row["keeper_lake"]
        try:
            sources[lake] = open_source(lake, config.inventory)
        except ConfigError as e:
            log.warning("verify-removal: keepers in %s cannot be checked: %s", lake, e)
    return sources


def _check(removals: DataFrame, settings: CheckSettings) -> DataFrame:
    """Rows of CHECKED; lazy."""
    n_tasks = _TASKS_PER_CORE * removals.sparkSession.sparkContext.defaultParallelism
    part = F.pmod(F.xxhash64("image_id"), F.lit(_PARTS_PER_CLUSTER))
    spread = removals.repartition(n_tasks, "keeper_image_id", part).sortWithinPartitions("keeper_image_id", "image_id")
    return spread.mapInArrow(functools.partial(check_batches, settings=settings), CHECKED.ddl)


def _standing(checked: DataFrame) -> DataFrame:
    """The copies without a problem; `keeps_another` where one is, under whatever name, the keeper of another image."""
    good = checked.where("problem IS NULL").drop("problem")
    keepers = good.select(F.col("keeper_identity").alias("identity")).distinct()
    marked = good.join(keepers.withColumn("keeps_another", F.lit(True)), "identity", "left")
    marked = marked.fillna(False, ["keeps_another"])
    return marked.withColumn("problem", F.lit("the keeper of another image"))


def _count(checked: DataFrame, standing: DataFrame) -> list[Row]:
    """(problem, n, example) of the rows of both; each problem occurs in one of the two only."""
    dropped = checked.select("problem", "uri").union(standing.select("problem", "uri"))
    return dropped.groupBy("problem").agg(F.count("*").alias("n"), F.min("uri").alias("example")).collect()


def _with_freed_bytes(going: DataFrame) -> DataFrame:
    """`freed_bytes` by the names that a file has now: it is freed when all of them go, and counts at one of them."""
    of_one_file = Window.partitionBy("identity")
    is_whole = F.count("*").over(of_one_file) >= F.col("n_links")
    counts = F.min("uri").over(of_one_file) == F.col("uri")
    return going.withColumn("freed_bytes", F.when(is_whole & counts, F.col("size_bytes")).otherwise(0))


def _iso(time: str) -> Column:
    """The time as text in UTC, the zone of the session; Python would write it in the zone of the driver."""
    return F.date_format(time, "yyyy-MM-dd'T'HH:mm:ss'Z'")


def _write(file: Path, rows: Iterable[Row]) -> tuple[int, int]:
    """Write the whole list or nothing, so that readers never see a part. Returns the rows and the bytes they free."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    n_rows = n_bytes = 0
    try:
        with temporary.open("w", encoding="utf-8", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in rows:
                writer.writerow(row)
                n_rows += 1
                n_bytes += row["freed_bytes"] or 0
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    return n_rows, n_bytes


def describe_removals(found: VerifiedRemovals) -> str:
    """A text for the terminal: what the list holds, what was left out and why, and how to use the list."""
    n_left_out = sum(reason.n_images for reason in found.left_out)
    freed = readable_bytes(found.freed_bytes)
    return "\n".join(
        [
            f"{found.n_images:,} images may be removed, which would free {freed}; {n_left_out:,} are left out",
            *(f"{reason.n_images:>9,}  {reason.problem}, e.g. {reason.example}" for reason in found.left_out),
            f"{found.out}: {found.n_images:,} rows. Remove only what the column uri names, and soon, as each row was "
            "true at its verified_at; then bring the tables up to date with `dedup-spark run`",
        ]
    )
