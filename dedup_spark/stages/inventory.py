"""Inventory: find every object of the lake; nothing is read.

Reads: images
Writes: images
Kernels: none
Scale: one listing call per folder page on executors; one shuffle of 8-byte ids to tell new, changed and gone.
"""

from __future__ import annotations

import itertools
import logging

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.errors import ConfigError, GuardError
from dedup_spark.runs import Run
from dedup_spark.sources.registry import open_source
from dedup_spark.tables import IMAGES, Tables

log = logging.getLogger(__name__)

_CONTAINER_BITS = 40
"""Low bits of image_id that tell members of one container apart. The high 24 come from the uri alone, so that a
container's members are neighbours in image_id and extract reads them together; for an object that is itself the
image, all 64 bits come from the uri."""

_ABOUT_NO_IMAGE = ("passed_over", "n_passed_over")
_OF_A_DISK = ("file_id", "n_links")


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Bring `images` in line with the lake: new objects in, changed ones renewed, vanished ones out."""
    tables = run.tables
    known = tables.read(IMAGES)
    listed = list_lake(run)
    n_listed = listed.count()
    fresh = tables.stage("fresh", resolve_collisions(new_or_changed(listed, known), known, tables))
    gone = tables.stage("gone", vanished(known, listed, run.lake))
    n_fresh, n_gone = fresh.count(), gone.count()
    n_known_here = known.where(F.col("lake") == run.lake).count()
    _guard_against_a_half_seen_lake(n_gone, n_known_here, config.inventory.max_gone_share)
    if n_fresh:
        tables.upsert(IMAGES, fresh)
    if n_gone:
        tables.delete(IMAGES, gone)
    tables.drop_staged()
    run.count(listed=n_listed, new_or_changed=n_fresh, gone=n_gone)


def list_lake(run: Run) -> DataFrame:
    """The rows that `images` would have of the lake of the run; staged. Raises ConfigError where there is no file."""
    source = open_source(run.lake, run.config.inventory)
    listed = run.tables.stage("listed", with_identity(source.list_images(run.tables.spark), source.root))
    if listed.isEmpty():
        raise ConfigError(f"lake {run.lake}: empty, there is no file to look at")
    return listed


def with_identity(listing: DataFrame, lake: str) -> DataFrame:
    """The columns of `images`, one row an address; of several rows with one address the same one each time."""
    facts = [c for c in listing.columns if c not in ("uri", "member", *_ABOUT_NO_IMAGE)]
    one = F.min_by(F.struct(facts), F.concat_ws("/", *_texts(facts))).alias("facts")
    by_uri = F.xxhash64(F.coalesce("location", "uri"))
    low = F.lit((1 << _CONTAINER_BITS) - 1)
    in_container = by_uri.bitwiseAND(F.bitwise_not(low)).bitwiseOR(F.xxhash64("uri", "member").bitwiseAND(low))
    of_images = listing.where("passed_over IS NULL")
    rows = of_images.groupBy("uri", "member").agg(one).select("uri", "member", "facts.*")
    return rows.select(
        F.when(F.col("member").isNull(), by_uri).otherwise(in_container).alias("image_id"),
        F.lit(lake).alias("lake"),
        "uri",
        "member",
        *[c for c in facts if c not in _OF_A_DISK],
        F.xxhash64("size_bytes", "modified_at", "etag").alias("object_version"),
        *_OF_A_DISK,
    )


def new_or_changed(listed: DataFrame, known: DataFrame) -> DataFrame:
    """Listed rows that `known` lacks or describes otherwise; an address keeps the id that it once got.

    An object that only moved within its container, or got other attributes, keeps its object_version, so that it
    is not read again.
    """
    facts = ["location", "position", "size_bytes", "modified_at", "etag", "attributes"]
    digest = F.xxhash64(*_texts(facts)).alias("digest")
    old = known.select("uri", "member", F.col("image_id").alias("old_id"), digest.alias("old_digest"))
    new = listed.withColumn("digest", digest)
    same_address = (F.col("new.uri") == F.col("old.uri")) & F.col("new.member").eqNullSafe(F.col("old.member"))
    joined = new.alias("new").join(old.alias("old"), same_address, "left")
    differs = F.col("old_id").isNull() | (F.col("digest") != F.col("old_digest"))
    kept_id = F.coalesce("old_id", "new.image_id").alias("image_id")
    return joined.where(differs).select(kept_id, *[F.col(f"new.{c}").alias(c) for c in listed.columns[1:]])


def _texts(columns: list[str]) -> list[Column]:
    """Columns as text that can be hashed and ordered: maps as JSON, null as a text of its own."""
    as_text = [F.to_json(c) if c == "attributes" else F.col(c).cast("string") for c in columns]
    return [F.coalesce(text, F.lit("\u0000")) for text in as_text]


def resolve_collisions(fresh: DataFrame, known: DataFrame, tables: Tables) -> DataFrame:
    """Give another id to each row whose id belongs to another address.

    Two of 1e8 addresses share a 64-bit hash with probability 3e-4. The holder in `known`, else the first by
    uri, keeps the id; the others step to the next one, until no id is shared: normally after one look.
    """
    holders = known.select("image_id", F.struct("uri", "member").alias("holder"))
    for attempt in itertools.count():
        fresh = tables.stage(f"identified-{attempt}", fresh)
        address = F.struct("uri", "member")
        first = fresh.groupBy("image_id").agg(F.min(address).alias("first"))
        marked = fresh.join(first, "image_id").join(holders, "image_id", "left")
        marked = marked.withColumn("collides", ~address.eqNullSafe(F.coalesce("holder", "first")))
        n_colliding = marked.where("collides").count()
        if n_colliding == 0:
            break
        log.warning("inventory: %d addresses collide in their 64-bit id; each gets the next one", n_colliding)
        next_id = F.col("image_id") + F.col("collides").cast("bigint")
        fresh = marked.select(next_id.alias("image_id"), *[c for c in fresh.columns if c != "image_id"])
    return fresh


def vanished(known: DataFrame, listed: DataFrame, lake: str) -> DataFrame:
    """Ids of known images of this lake that the listing no longer has."""
    same_address = (F.col("a.uri") == F.col("b.uri")) & F.col("a.member").eqNullSafe(F.col("b.member"))
    here = known.where(F.col("lake") == lake)
    return here.alias("a").join(listed.alias("b"), same_address, "left_anti").select("image_id")


def _guard_against_a_half_seen_lake(n_gone: int, n_known: int, max_gone_share: float) -> None:
    if n_known and n_gone > max_gone_share * n_known:
        raise GuardError(
            f"{n_gone:,} of {n_known:,} known images are no longer listed, more than inventory.max_gone_share "
            f"({max_gone_share:g}): is the lake mounted and readable? If they were really removed, "
            "run again with --set inventory.max_gone_share=1"
        )
