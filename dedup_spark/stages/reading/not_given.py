"""Images whose bytes the store did not give: how they are found and reported, and when they stop a run.

They are neither read nor rejected: every later run asks the store for them again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import GuardError
from dedup_spark.stages.reading.read_ahead import ASKED_AGAIN, UNAVAILABLE
from dedup_spark.stages.reading.slices import reading_key
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import RejectReason

log = logging.getLogger(__name__)

_MIN_IMAGES_FOR_GUARD = 20
"""Fewer images mean nothing for the store: a few files on bad sectors, or the few new images of a night."""
_CLASSES_SHOWN = 8


def images_not_given(tables: Tables, lake: str) -> DataFrame:
    """Images of this lake whose bytes the store did not give, with the reason `before` of their rows; staged."""
    reason = F.col("reject_reason")
    refused = tables.read(FEATURES).where(reason.isin(*ASKED_AGAIN)).select("image_id", reason.alias("before"))
    here = tables.read(IMAGES).where(F.col("lake") == lake).join(refused, "image_id")
    return tables.stage("not_given", here.select("*", reading_key()).orderBy("reading_key"))


def is_too_much(n_unavailable: float, n_images: float, max_share: float) -> bool:
    """Whether the store fails, and not single files."""
    return n_unavailable >= _MIN_IMAGES_FOR_GUARD and n_unavailable > max_share * n_images


def require_store(written: DataFrame, max_share: float) -> None:
    """Raise GuardError when too many rows of a slice say that the store did not give the bytes."""
    unavailable = written.where(F.col("reject_reason").isin(*UNAVAILABLE))
    n_images, n_unavailable = written.count(), unavailable.count()
    if is_too_much(n_unavailable, n_images, max_share):
        raise _store_is_down(n_unavailable, n_images, f"images of the last slice ({in_words(unavailable)})", max_share)


def say_not_given(tables: Tables, lake: str, totals: Mapping[str, int], max_share: float) -> None:
    """Report them at the end of the step. Raises GuardError when too many of the lake's images are missing."""
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
    """The reasons in rows of features with their numbers, the most frequent first."""
    counts = rejected.groupBy("reject_reason").count().orderBy(F.desc("count"), "reject_reason").collect()
    return ", ".join(f"{r['reject_reason']} {r['count']:,}" for r in counts)


def _store_is_down(n_unavailable: int, n_images: int, of_what: str, max_share: float) -> GuardError:
    return GuardError(
        f"the store did not give {n_unavailable:,} of the {n_images:,} {of_what}, more than "
        f"extract.max_unavailable_share ({max_share:g}); nothing is lost: when the store is well again, the same "
        "command reads them. Go on without them by --set extract.max_unavailable_share=1"
    )


def _storage_classes(tables: Tables, lake: str) -> str:
    """Storage classes of the archived images of this lake, by their listing."""
    archived = tables.read(FEATURES).where(F.col("reject_reason") == RejectReason.ARCHIVED).select("image_id")
    listed = F.coalesce(F.col("attributes")["storage_class"], F.lit("of a class that the listing does not say"))
    here = tables.read(IMAGES).where(F.col("lake") == lake).join(archived, "image_id", "left_semi")
    counts = here.groupBy(listed.alias("storage_class")).count().orderBy(F.desc("count"), "storage_class")
    return ", ".join(f"{r['storage_class']} {r['count']:,}" for r in counts.limit(_CLASSES_SHOWN).collect())
