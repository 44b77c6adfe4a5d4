"""Images whose bytes the store did not give: found in the tables, said, and guarded against. Part of the step extract.

They are neither read nor rejected for what they are: every later run asks for them again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import GuardError
from dedup_spark.stages.reading.read_ahead import ASKED_AGAIN, UNAVAILABLE
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables

log = logging.getLogger(__name__)

_MIN_IMAGES_FOR_GUARD = 20
"""Fewer say nothing of the store: a few files on bad sectors, or the few new images of a night."""
_CLASSES_SHOWN = 8


def images_not_given(tables: Tables, lake: str) -> DataFrame:
    """Images of this lake whose bytes were not to be had, with the reason `before` of their rows; written down."""
    reason = F.col("reject_reason")
    refused = tables.read(FEATURES).where(reason.isin(*ASKED_AGAIN)).select("image_id", reason.alias("before"))
    here = tables.read(IMAGES).where(F.col("lake") == lake).join(refused, "image_id")
    return tables.stage("not_given", here.orderBy("image_id"))


def is_too_much(n_unavailable: float, n_images: float, max_share: float) -> bool:
    """Whether it is the store that fails, and not a file here and there."""
    return n_unavailable >= _MIN_IMAGES_FOR_GUARD and n_unavailable > max_share * n_images


def require_store(written: DataFrame, max_share: float) -> None:
    """Raise GuardError when the store did not give too many of the images of a slice, by its rows of features."""
    unavailable = written.where(F.col("reject_reason").isin(*UNAVAILABLE))
    n_images, n_unavailable = written.count(), unavailable.count()
    if is_too_much(n_unavailable, n_images, max_share):
        raise _store_is_down(n_unavailable, n_images, f"images of the last slice ({in_words(unavailable)})", max_share)


def say_not_given(tables: Tables, lake: str, totals: Mapping[str, int], max_share: float) -> None:
    """At the end of the step, by its counts. Raises GuardError when too many of the lake's images are not there."""
    if totals["archived"]:
        log.warning(
            "extract: %s images lie in an archive (%s): restore them, and the next run reads them",
            f"{totals['archived']:,}", _storage_classes(tables, lake),
        )  # fmt: skip
    if not totals["unavailable"]:
        return
    n_images = tables.read(IMAGES).where(F.col("lake") == lake).count()
    if is_too_much(totals["unavailable"], n_images, max_share):
        raise _store_is_down(totals["unavailable"], n_images, "images of this lake", max_share)
    log.warning("extract: %s images were not given by the store: the next run reads them", f"{totals['unavailable']:,}")


def in_words(rejected: DataFrame) -> str:
    """The reasons of rows of features with their numbers, the most frequent first."""
    counts = rejected.groupBy("reject_reason").count().orderBy(F.desc("count"), "reject_reason").collect()
    return ", ".join(f"{r['reject_reason']} {r['count']:,}" for r in counts)


def _store_is_down(n_unavailable: int, n_images: int, of_what: str, max_share: float) -> GuardError:
    return GuardError(
        f"the store did not give {n_unavailable:,} of the {n_images:,} {of_what}, more than "
        f"extract.max_unavailable_share ({max_share:g}); nothing is lost: when the store is well again, the same "
        "command reads them. Go on without them by --set extract.max_unavailable_share=1"
    )


def _storage_classes(tables: Tables, lake: str) -> str:
    """Of the archived images of this lake, by their listing."""
    archived = tables.read(FEATURES).where(F.col("reject_reason") == "archived").select("image_id")
    listed = F.coalesce(F.col("attributes")["storage_class"], F.lit("of a class that the listing does not say"))
    here = tables.read(IMAGES).where(F.col("lake") == lake).join(archived, "image_id", "left_semi")
    counts = here.groupBy(listed.alias("storage_class")).count().orderBy(F.desc("count"), "storage_class")
    return ", ".join(f"{r['storage_class']} {r['count']:,}" for r in counts.limit(_CLASSES_SHOWN).collect())
