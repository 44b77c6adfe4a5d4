"""Inventory: list every object of the lake; no image is read.

Reads: images, features, clusters, tombstones, runs
Writes: images, features, tombstones
Kernels: none
Scale: one listing call per page of a folder, on executors; three shuffles of the listing and two of the addresses of
`images`, 100 to 400 bytes a row, to name each object once and to find what is new, changed or gone. When images are
gone or come back, `features` is read once for their rows.

A listing that ends early raises SourceError, and no table changes.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.errors import GuardError
from dedup_spark.sources import times
from dedup_spark.sources.base import Source
from dedup_spark.sources.passed_over import UNLISTED
from dedup_spark.sources.registry import open_source
from dedup_spark.sources.spark_reader import listing_errors
from dedup_spark.stages.inventory import tombstones, unlisted
from dedup_spark.stages.inventory.counts import Counts, count_entries
from dedup_spark.store.compaction import compact
from dedup_spark.store.forgotten import masking_forgotten, without_forgotten
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTERS, FEATURES, IMAGES, RUNS, TOMBSTONES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import RejectReason, RunStatus, StepName

log = logging.getLogger(__name__)

_CONTAINER_BITS = 40
"""Low bits of image_id that distinguish the members of one container. The high 24 come from the uri alone, so that a
container's members are neighbours in image_id and extract reads them together. When the object itself is the image, all
64 bits come from the uri."""

_ABOUT_NO_IMAGE = ("passed_over", "n_passed_over")
_OF_A_DISK = ("file_id", "n_links")
_MIN_IMAGES_FOR_GUARD = 20  # a share of so few images means nothing


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Make `images` match the lake: insert new objects, update changed ones, remove those that are gone."""
    tables, settings = run.tables, config.inventory
    source = open_source(run.lake, settings)
    lake, began_at = source.root, datetime.now(UTC)
    any_buried = tombstones.are_there(tables)
    if any_buried:
        tombstones.bring_back(tables)  # completes what a killed step left
    entries, counts = list_lake(run, source)
    listed, ended_at, known = images_of(entries), datetime.now(UTC), tables.rows_now(IMAGES)
    run.note(listed_at=min(source.as_of() or began_at, began_at).isoformat())

    n_known = images_per_lake(known)
    left = lakes_left(n_known, tables, lake, config.cluster.max_listing_age_hours)
    buried = tables.read(TOMBSTONES) if any_buried else None
    fresh = tables.stage("fresh", tombstones.with_old_ids(new_or_changed(listed, known, left), buried))
    gone, unseen = _missing(tables, vanished(known, listed, lake, left), entries, counts)
    n_fresh, n_gone = fresh.count(), gone.count()
    _guard_against_an_incomplete_listing(tables, n_known[lake], gone, n_gone, settings.max_gone_share)
    if n_fresh:
        fresh = resolve_collisions(fresh, _id_holders(known, buried), tables)
    if n_gone:
        tombstones.bury(tables, gone, ended_at)
    if unseen is not None:
        unlisted.mark(tables, unseen, ended_at)
        run.count(unlisted=unseen.count())
    if n_fresh:
        tables.upsert(IMAGES, fresh)
    if any_buried:  # before this step: what it buried itself is not listed, and is not old
        n_back = tombstones.bring_back(tables) if n_fresh else 0
        n_forgotten = tombstones.forget_old(tables, ended_at, settings.grace_days)
        run.count(**{k: n for k, n in {"brought_back": n_back, "forgotten": n_forgotten}.items() if n})
    if n_fresh or n_gone:  # else the table keeps its version, by which later steps know that nothing changed
        compact(tables, IMAGES)
        compact(tables, TOMBSTONES)
    tables.drop_staged()
    run.count(**counts.of_step(), new_or_changed=n_fresh, gone=n_gone)
    if counts.passed_over:
        run.note(passed_over=counts.notes())
    counts.say()


def list_lake(run: Run, source: Source) -> tuple[DataFrame, Counts]:
    """The rows of `identified` for the lake of the run, staged, and how many entries were found, by kind.

    Of what was forgotten (`dedup-spark forget`) the rows have no address before anything of them is written.

    Raises:
        ConfigError: there is no image, and was none that was forgotten.
        SourceError: the listing ended before the lake did.
    """
    with listing_errors(f"lake {run.lake}"):
        listing = masking_forgotten(run.tables, source.list_images(run.tables.spark))
        entries = run.tables.stage("listed", identified(listing, source.root))
    return entries, count_entries(run.lake, entries)


def images_of(entries: DataFrame) -> DataFrame:
    """The rows of `identified` that are images."""
    return entries.where("passed_over IS NULL").select(IMAGES.column_names)


def identified(listing: DataFrame, lake: str) -> DataFrame:
    """The columns of `images`, `passed_over` and `n_entries`: one row per address, and one per reason to pass over.

    Of several rows with one address the same one is chosen each time. `n_entries` counts the rows with that address, or
    the entries passed over for that reason, of which `uri` and `member` are the first; what could not be listed keeps
    its own rows. One shuffle; entries that are passed over are summed before it.
    """
    is_known_time = F.col("modified_at").between(F.lit(times.FIRST), F.lit(times.END))
    listing = listing.withColumn("modified_at", F.when(is_known_time, F.col("modified_at")))
    facts = [c for c in listing.columns if c not in ("uri", "member", *_ABOUT_NO_IMAGE)]
    has_own_row = F.col("passed_over").isNull() | F.col("passed_over").isin(*UNLISTED)
    address = F.when(has_own_row, F.struct("uri", "member")).alias("address")
    one = F.min_by(F.struct(facts), F.concat_ws("/", *_texts(facts))).alias("facts")
    first = F.min(F.when(F.col("uri").isNotNull(), F.struct("uri", "member"))).alias("first")
    n_entries = F.sum(F.coalesce("n_passed_over", F.lit(1))).alias("n_entries")
    rows = listing.groupBy(address, "passed_over").agg(one, first, n_entries)
    rows = rows.select("first.*", "passed_over", "n_entries", "facts.*")
    return rows.select(
        id_of_address(F.coalesce("location", "uri")).alias("image_id"),
        F.lit(lake).alias("lake"),
        "uri",
        "member",
        *[c for c in facts if c not in _OF_A_DISK],
        F.xxhash64("size_bytes", "modified_at", "etag").alias("object_version"),
        *_OF_A_DISK,
        F.lit(None).cast("timestamp").alias("unlisted_since"),
        "passed_over",
        "n_entries",
    )


def id_of_address(file: Column) -> Column:
    """The id of the image at (uri, member), whose bytes are in `file`. See `_CONTAINER_BITS`."""
    by_file, low = F.xxhash64(file), F.lit((1 << _CONTAINER_BITS) - 1)
    in_container = by_file.bitwiseAND(F.bitwise_not(low)).bitwiseOR(F.xxhash64("uri", "member").bitwiseAND(low))
    return F.when(F.col("member").isNull(), by_file).otherwise(in_container)


def _id_holders(known: DataFrame, buried: DataFrame | None) -> DataFrame:
    """(image_id, uri, member) of the images that are listed, and of those in `tombstones`: no other gets their ids."""
    address = ["image_id", "uri", "member"]
    holders = known.select(address)
    return holders if buried is None else holders.union(buried.select(address))  # bring_back left no image in both


def images_per_lake(known: DataFrame) -> Counter[str]:
    """How many images each lake has. One row per lake comes to the driver: they are few."""
    return Counter({row["lake"]: row["count"] for row in known.groupBy("lake").count().collect()})


def lakes_left(lakes: Iterable[str], tables: Tables, lake: str, max_age_hours: float) -> list[str]:
    """Of `lakes`, the others that were not listed completely for so long: this lake may take over their images."""
    others = set(lakes) - {lake}
    if not others:
        return []
    since = datetime.now(UTC) - timedelta(hours=max_age_hours)
    is_complete = (F.col("step") == StepName.INVENTORY) & (F.col("status") == RunStatus.COMPLETE)
    done = tables.read(RUNS).where(is_complete & (F.col("at") >= F.lit(since)))
    return sorted(others - {row["lake"] for row in done.select("lake").distinct().collect()})


def new_or_changed(listed: DataFrame, known: DataFrame, left: Sequence[str] = ()) -> DataFrame:
    """Listed rows that `known` lacks, or has with other facts, as unlisted or of a lake in `left`; an address keeps its
    id.

    An object that only moved within its container, or got other attributes, keeps its object_version, so that it
    is not read again. Only the inode of `file_id` counts: hosts and devices may have other names after a restart.
    """
    facts = ["location", "position", "size_bytes", "modified_at", "etag", "attributes", "n_links"]
    inode = F.coalesce(F.substring_index("file_id", ":", -1), F.lit(""))
    digest = F.xxhash64(*_texts(facts), inode).alias("digest")
    is_stale = (F.col("lake").isin(*left) | F.col("unlisted_since").isNotNull()).alias("is_stale")
    old = known.select("uri", "member", F.col("image_id").alias("old_id"), digest.alias("old_digest"), is_stale)
    new = listed.withColumn("digest", digest)
    same_address = (F.col("new.uri") == F.col("old.uri")) & F.col("new.member").eqNullSafe(F.col("old.member"))
    joined = new.alias("new").join(old.alias("old"), same_address, "left")
    differs = F.col("old_id").isNull() | (F.col("digest") != F.col("old_digest")) | F.col("is_stale")
    kept_id = F.coalesce("old_id", "new.image_id").alias("image_id")
    return joined.where(differs).select(kept_id, *[F.col(f"new.{c}").alias(c) for c in listed.columns[1:]])


def _texts(columns: list[str]) -> list[Column]:
    """Columns as text that can be hashed and ordered: maps become JSON, and null a text of its own."""
    as_text = [F.to_json(c) if c == "attributes" else F.col(c).cast("string") for c in columns]
    return [F.coalesce(text, F.lit("\u0000")) for text in as_text]


def resolve_collisions(fresh: DataFrame, known: DataFrame, tables: Tables) -> DataFrame:
    """Give another id to each row of `fresh` (staged) whose id belongs to another address.

    Two of 1e8 addresses share a 64-bit hash with probability 3e-4. The address that has the id in `known`, else the
    first by uri, keeps it; the others take the next number, until no id is shared: normally one query finds none.
    """
    holders = known.select("image_id", F.struct("uri", "member").alias("holder"))
    for attempt in itertools.count():
        address = F.struct("uri", "member")
        first = fresh.groupBy("image_id").agg(F.min(address).alias("first"))
        marked = fresh.join(first, "image_id").join(holders, "image_id", "left")
        marked = marked.withColumn("collides", ~address.eqNullSafe(F.coalesce("holder", "first")))
        n_colliding = marked.where("collides").count()
        if n_colliding == 0:
            break
        log.warning("inventory: %d addresses collide in their 64-bit id; each gets the next one", n_colliding)
        next_id = F.col("image_id") + F.col("collides").cast("bigint")
        moved = marked.select(next_id.alias("image_id"), *[c for c in fresh.columns if c != "image_id"])
        fresh = tables.stage(f"identified-{attempt}", moved)
    return fresh


def vanished(known: DataFrame, listed: DataFrame, lake: str, left: Sequence[str] = ()) -> DataFrame:
    """(image_id, uri) of known images of this lake, and of those in `left` below it, that the listing does not have."""
    same_address = (F.col("a.uri") == F.col("b.uri")) & F.col("a.member").eqNullSafe(F.col("b.member"))
    below = F.col("lake").isin(*left) & F.startswith("uri", F.lit(f"{lake}/"))
    here = known.where((F.col("lake") == lake) | below)
    return here.alias("a").join(listed.alias("b"), same_address, "left_anti").select("image_id", "uri")


def _missing(
    tables: Tables, missing: DataFrame, entries: DataFrame, counts: Counts
) -> tuple[DataFrame, DataFrame | None]:
    """Of `missing` (image_id, uri), staged: the ids that are gone, and those of which it is not known; None: of all it
    is known."""
    if not counts.n_unlisted:
        return tables.stage("gone", missing.select("image_id")), None
    missing = tables.stage("missing", missing)
    unseen = tables.stage("unseen", unlisted.below(missing, unlisted.unlisted_places(entries)))
    return tables.stage("gone", missing.join(unseen, "image_id", "left_anti").select("image_id")), unseen


def _guard_against_an_incomplete_listing(
    tables: Tables, n_known: int, gone: DataFrame, n_gone: int, max_gone_share: float
) -> None:
    """Raise GuardError when too many images are gone.

    Those that were proposed for removal are allowed to be, and files that proved to be no images: a listing of an older
    version had captions and tar files as rows, which are now passed over. So are those of a `forget` that was stopped.
    """
    if n_known < _MIN_IMAGES_FOR_GUARD or n_gone <= max_gone_share * n_known:
        return
    proposed = tables.read(CLUSTERS).where("is_removable").select("image_id")
    no_images = tables.read(FEATURES).where(F.col("reject_reason") == RejectReason.NOT_AN_IMAGE).select("image_id")
    left = gone.join(proposed.union(no_images), "image_id", "left_anti")
    addresses = tables.read(IMAGES).select("image_id", "uri", "member", "location")
    n_gone = without_forgotten(tables, left.join(addresses, "image_id", "left")).count()
    if n_gone > max_gone_share * n_known:
        raise GuardError(
            f"{n_gone:,} of {n_known:,} known images are no longer listed, more than inventory.max_gone_share "
            f"({max_gone_share:g}), beside those that were proposed for removal: is the lake mounted and readable? "
            "If they were really removed, run again with --set inventory.max_gone_share=1"
        )
