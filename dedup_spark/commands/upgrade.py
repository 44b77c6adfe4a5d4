"""`dedup-spark upgrade`: brings tables that an older version wrote to the format of this one.

New columns are added to tables whenever a command that writes opens them (`Tables.create_missing`). The upgrade changes
rows, once: addresses become canonical, so that an object that was listed under several spellings has one row; and
images that an older version rejected as `missing` because their store failed are read again.

An image keeps its id, and with it its features; of several rows that are one object the first by id stays. Nothing of
the lake is read. Values that older rows lack (versions and removal tiers of members in `clusters`) are null: no such
row is proposed for removal until the next run writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError
from dedup_spark.sources.addresses import canonical
from dedup_spark.store.schema import CLUSTERS, FEATURES, IMAGES
from dedup_spark.store.table_format import FORMAT, write_format
from dedup_spark.store.tables import Tables

_ADDRESSES = ("lake", "uri", "location")
_GAVE_UP = "reject_reason = 'missing' AND reject_message LIKE '% attempts failed, last: %'"
"""The message of version 0.1.0 for an image whose store had failed."""


def make_current(tables: Tables) -> None:
    """Withdraw what an older version proposed for removal, and mark the tables as current if nothing else must change.

    Raises:
        ConfigError: Other rows must be changed, which is left to a person, who calls `dedup-spark upgrade`.
    """
    if tables.are_current():
        return
    _withdraw_proposals(tables)
    if not _respelled(tables).isEmpty() or not _given_up(tables).isEmpty():
        raise ConfigError(
            f"the tables at {tables.root} were written by an older dedup-spark, and some of their rows must be "
            f"changed: run `dedup-spark upgrade {tables.options}` once (nothing of the lake is read again)"
        )
    _mark_current(tables)


def upgrade(tables: Tables) -> dict[str, int]:
    """Change what must be changed. Returns the number of rows, by what was done. A second call changes nothing."""
    changed = tables.stage("respelled", _respelled(tables))
    n_changed = changed.count()
    n_merged = _merge_spellings(tables, changed) if n_changed else 0
    given_up = tables.stage("given_up", _given_up(tables).select("image_id"))
    n_given_up = given_up.count()
    if n_given_up:
        tables.delete(FEATURES, given_up)
    n_withdrawn = _withdraw_proposals(tables)
    tables.drop_staged()
    _mark_current(tables)
    return {
        "proposals withdrawn until the next run": n_withdrawn,
        "addresses respelled": n_changed,
        "rows of one object merged": n_merged,
        "images to be read again": n_given_up,
    }


def _mark_current(tables: Tables) -> None:
    known = tables.format()
    assert known is not None  # create_missing wrote it
    write_format(tables.root, tables.database, replace(known, number=FORMAT))


def _respelled(tables: Tables) -> DataFrame:
    """The rows of images with an address that is not canonical, made canonical; one pass, no shuffle."""
    images = tables.read(IMAGES)
    return images.mapInArrow(_canonical_rows, images.schema)


def _canonical_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On executors: the rows that change."""
    for batch in batches:
        new = {name: _canonical_column(batch.column(name)) for name in _ADDRESSES}
        differs = [any(new[name][i] != batch.column(name)[i].as_py() for name in _ADDRESSES) for i in range(len(batch))]
        for name in _ADDRESSES:
            batch = batch.set_column(
                batch.schema.get_field_index(name), batch.schema.field(name), pa.array(new[name], pa.string())
            )
        yield batch.filter(pa.array(differs, pa.bool_()))


def _canonical_column(column: pa.Array) -> list[str | None]:
    known: dict[str, str] = {}
    return [known.setdefault(text, canonical(text)) if text is not None else None for text in column.to_pylist()]


def _merge_spellings(tables: Tables, changed: DataFrame) -> int:
    """Write the canonical addresses; of rows that share one the first by id stays. Returns how many were deleted."""
    images = tables.read(IMAGES)
    key = F.struct("uri", F.coalesce("member", F.lit("\u0000")))
    unchanged = images.join(changed.select("image_id"), "image_id", "left_anti")
    sharing = unchanged.join(changed.select("uri").distinct(), "uri", "left_semi")
    groups = changed.unionByName(sharing).groupBy(key.alias("address")).agg(F.min("image_id").alias("image_id"))
    staying = tables.stage("staying", groups.select("image_id"))
    going = changed.unionByName(sharing).join(staying, "image_id", "left_anti").select("image_id")
    going = tables.stage("going", going)
    tables.delete(FEATURES, going)  # before images: a killed upgrade finds them again
    tables.delete(IMAGES, going)
    tables.upsert(IMAGES, changed.join(staying, "image_id", "left_semi"))
    return going.count()


def _withdraw_proposals(tables: Tables) -> int:
    """Withdraw the rows that an older version proposed for removal, as its views check nothing else."""
    proposed = tables.read(CLUSTERS).where("is_removable AND removal_tier IS NULL")
    withdrawn = tables.stage("withdrawn", proposed.withColumn("is_removable", F.lit(False)))
    n_withdrawn = withdrawn.count()
    if n_withdrawn:
        tables.upsert(CLUSTERS, withdrawn)
    return n_withdrawn


def _given_up(tables: Tables) -> DataFrame:
    return tables.read(FEATURES).where(_GAVE_UP)
