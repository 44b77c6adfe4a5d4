"""What extract has to do: which images have no row of features yet, and which rows must be made again.

It runs on the driver, at the start of `stages/extract/step.py`. One query counts the rows of images and features by
kind; there are some dozens of kinds, hundreds at most, and Python decides here once what is to be done with each.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from dedup_spark.kernels.features.signature import current_versions
from dedup_spark.stages.extract.etags import MD5_ETAG
from dedup_spark.stages.extract.versions import OtherVersions
from dedup_spark.stages.reading.formats_here import rare_suffix
from dedup_spark.stages.reading.read_ahead import ASKED_AGAIN, NOT_GIVEN, TaskSettings

_OBJECT = ["image_id", "object_version"]
_MADE_AS = ("reject_reason", "model_id", "signature_version")
"""Columns of features that say how a row was made: rows that are equal in them are kept or made again together."""
_NO_OBJECT = "object gone or changed"


def kinds_of_rows(images: DataFrame, features: DataFrame, lake: str, run_id: str) -> list[Row]:
    """(is_here, has_etag, suffix, is_made, of_run, reject_reason, model_id, signature_version, n); one row per kind.

    `is_here`: the image is of this lake; null where features has a row without its object. `suffix`: the ending of its
    name, if not every installation decodes what it promises. `is_made`: features has a row of the object, which this
    run wrote if `of_run`. One shuffle of some 150 bytes per row of both tables.
    """
    is_here = (F.col("lake") == lake).alias("is_here")
    listed = images.select(*_OBJECT, is_here, _has_etag(), rare_suffix().alias("suffix"))
    of_run = (F.col("run_id") == run_id).alias("of_run")
    made = features.select(*_OBJECT, *_MADE_AS, of_run, F.lit(True).alias("is_made"))
    kinds = ("is_here", "has_etag", "suffix", "is_made", "of_run", *_MADE_AS)
    return listed.join(made, _OBJECT, "full").groupBy(*kinds).agg(F.count("*").alias("n")).collect()


def _has_etag() -> Column:
    return F.coalesce(F.expr(MD5_ETAG), F.lit(False)).alias("has_etag")


def models_of(kinds: Sequence[Row]) -> list[str]:
    """The model_ids in features."""
    return sorted({k["model_id"] for k in kinds if k["model_id"] is not None})


class Backlog:
    """What the kinds of rows mean under the settings; `current` are the signature versions that make rows now."""

    def __init__(self, kinds: Sequence[Row], settings: TaskSettings, current: frozenset[str] | None = None) -> None:
        self.forgotten: Counter[str] = Counter()
        """Numbers of rows of features to be made again, by reason."""
        self.n_pending = 0
        """Images of this lake without a row of features, counted after the outdated rows are deleted."""
        self.n_pending_with_etag = 0
        """Those of them whose listing may prove that they are identical to another."""
        self.pending_suffixes: Counter[str] = Counter()
        """Those of them that not every installation decodes, by the endings of their names."""
        self.n_not_given = 0
        """Images of this lake whose bytes the store did not give; their rows stay until it does."""
        self.n_read_in_run = self.n_rejected_in_run = 0
        """Rows that this run wrote before it was stopped, of images whose bytes the store gave."""
        self.versions = OtherVersions(kinds, settings.extract, current or current_versions(settings.signature))
        self._outdated: list[Row] = []
        for kind in kinds:
            why = _why_outdated(kind, settings, self.versions) if kind["is_made"] else None
            if why:
                self.forgotten[why] += kind["n"]
            if not why and kind["is_here"] and kind["reject_reason"] in ASKED_AGAIN:
                self.n_not_given += kind["n"]
            if not why and kind["of_run"] and kind["reject_reason"] not in NOT_GIVEN:
                self.n_read_in_run += kind["n"]
                self.n_rejected_in_run += kind["n"] if kind["reject_reason"] else 0
            if why and kind["is_here"] is not None:
                self._outdated.append(kind)
            if kind["is_here"] and (why or not kind["is_made"]):
                self.n_pending += kind["n"]
                self.n_pending_with_etag += kind["n"] if kind["has_etag"] else 0
                self.pending_suffixes.update({kind["suffix"]: kind["n"]} if kind["suffix"] else {})

    def forgotten_ids(self, images: DataFrame, features: DataFrame) -> DataFrame:
        """The image_id of the rows of features in `forgotten`; lazy."""
        made_as = {tuple(kind[c] for c in _MADE_AS) for kind in self._outdated}
        is_outdated = functools.reduce(operator.or_, map(_is_like, made_as), F.lit(False))
        no_object = features.join(images, _OBJECT, "left_anti")
        # an object that is gone may be of an outdated kind too, and a merge takes an id only once
        return features.where(is_outdated).select("image_id").union(no_object.select("image_id")).distinct()


def pending_images(images: DataFrame, features: DataFrame) -> DataFrame:
    """Images that have no row of features yet."""
    return images.join(features, "image_id", "left_anti")


def _why_outdated(kind: Row, settings: TaskSettings, versions: OtherVersions) -> str | None:
    """Why rows of this kind must be made again; None where they are as current settings make them."""
    e = settings.extract
    if kind["is_here"] is None:
        return _NO_OBJECT
    if kind["reject_reason"] in e.retry_rejects:
        return "asked for by extract.retry_rejects"
    if settings.model is not None and kind["reject_reason"] is None and kind["model_id"] is None:
        return "made without a model"
    if versions.is_outdated(kind):
        return f"made by version {kind['signature_version']}"
    return None


def _is_like(made_as: tuple[str | None, ...]) -> Column:
    values = zip(_MADE_AS, made_as, strict=True)
    return functools.reduce(operator.and_, (F.col(c).eqNullSafe(F.lit(value)) for c, value in values))
