"""What extract checks of its rows: that not too many are rejects, and that each image has one. On the driver."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import GuardError, TableError
from dedup_spark.stages.extract.backlog import Backlog
from dedup_spark.stages.reading.not_given import in_words, is_too_much, require_store
from dedup_spark.stages.reading.read_ahead import NOT_GIVEN, UNAVAILABLE
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import RejectReason

_MIN_IMAGES_FOR_GUARD = 200  # a share of so few images means nothing


class RejectGuard:
    """Stops a run that rejects too much: the lake is the wrong one, a decoder is missing, a key lost its rights.

    Only what claims to be an image counts: by its name, by its first bytes, or because these say nothing else.
    After a slice it also stops a run whose store does not give the bytes, which is no fault of those images.
    """

    def __init__(self, run: Run, limits: ExtractSettings, backlog: Backlog) -> None:
        self._run, self._max_share, self._max_unavailable = run, limits.max_reject_share, limits.max_unavailable_share
        self._n_read, self._n_rejected = backlog.n_read_in_run, backlog.n_rejected_in_run

    @staticmethod
    def sums() -> dict[str, Column]:
        """The aggregates over the rows of a slice that `add` takes."""
        is_given = ~F.coalesce(F.col("reject_reason"), F.lit("")).isin(*NOT_GIVEN)
        is_claimed = is_given & ~is_of_another_kind()
        return {
            "n_rows": F.count("*"),
            "n_read": F.count_if(is_claimed),
            "n_rejected": F.count_if(is_claimed & (F.col("status") == "rejected")),
            "n_unavailable": F.count_if(F.col("reject_reason").isin(*UNAVAILABLE)),
        }

    def add(self, seen: dict[str, float] | None, low: int, high: int) -> None:
        """Count the rows of a slice; `seen` is None where this Spark did not report them. Raises GuardError."""
        if seen is None:
            self._count()
        else:
            self._n_read += int(seen["n_read"])
            self._n_rejected += int(seen["n_rejected"])
        if seen is None or is_too_much(seen["n_unavailable"], seen["n_rows"], self._max_unavailable):
            require_store(self._written().where(F.col("reading_key").between(low, high)), self._max_unavailable)

    def check(self) -> None:
        """Raise GuardError when too many of the images that this run read were rejected."""
        if not self._is_too_much():
            return
        reasons = self._count()  # tasks that Spark ran twice may count twice, so the table decides
        if self._is_too_much():
            raise GuardError(
                f"{self._n_rejected:,} of {self._n_read:,} images read were rejected ({reasons}), more than "
                f"extract.max_reject_share ({self._max_share:g}); look at the view quarantine, or allow it with "
                "--set extract.max_reject_share=1"
            )

    def _is_too_much(self) -> bool:
        return self._n_read >= _MIN_IMAGES_FOR_GUARD and self._n_rejected > self._max_share * self._n_read

    def _count(self) -> str:
        """Count in the table; returns the reasons, in words."""
        sums = self._written().agg(*(column.alias(name) for name, column in self.sums().items())).first()
        assert sums is not None
        self._n_read, self._n_rejected = sums["n_read"], sums["n_rejected"]
        return in_words(self._written().where(~F.col("reject_reason").isin(*NOT_GIVEN) & ~is_of_another_kind()))

    def _written(self) -> DataFrame:
        """The rows that this run wrote."""
        return self._run.tables.read(FEATURES).where(F.col("run_id") == self._run.run_id)


def is_of_another_kind() -> Column:
    """Of a row of features: neither its name nor its first bytes claim to be an image, and these say what it is."""
    not_an_image = F.coalesce(F.col("reject_reason"), F.lit("")) == RejectReason.NOT_AN_IMAGE
    return not_an_image & F.col("magic_format").isNotNull()


def require_conservation(tables: Tables, lake: str, run_id: str) -> dict[str, int]:
    """Check that every image of this lake has one row of features, and every row its image; returns other counts.

    One shuffle of 30 bytes per row of both tables. Raises TableError.
    """
    of_run = F.when(F.col("run_id") == run_id, F.col("n_retries"))
    reason = F.col("reject_reason")
    rows = tables.read(FEATURES).groupBy("image_id").agg(
        F.count("*").alias("n"),
        F.count_if(F.col("status") == "rejected").alias("rejected"),
        F.count_if(reason == "archived").alias("archived_row"),
        F.count_if(reason.isin(*UNAVAILABLE)).alias("unavailable_row"),
        F.coalesce(F.sum(of_run), F.lit(0)).alias("retries"),
    )  # fmt: skip
    images = tables.read(IMAGES).select("image_id", (F.col("lake") == lake).alias("is_here"))
    found = images.join(rows, "image_id", "full").agg(
        F.count_if(F.col("is_here") & F.col("n").isNull()).alias("unread"),
        F.count_if(F.col("is_here").isNull()).alias("orphans"),
        F.coalesce(F.sum(F.col("n") - 1), F.lit(0)).alias("twice"),
        *[F.coalesce(F.sum(c), F.lit(0)).alias(c) for c in ("rejected", "retries")],
        F.count_if(F.col("is_here") & (F.col("archived_row") > 0)).alias("archived"),
        F.count_if(F.col("is_here") & (F.col("unavailable_row") > 0)).alias("unavailable"),
    ).first()  # fmt: skip
    assert found is not None
    if found["unread"] or found["orphans"] or found["twice"]:
        raise TableError(
            f"after extract {found['unread']:,} images have no features, {found['orphans']:,} features no image and "
            f"{found['twice']:,} are there twice: two runs wrote to these tables at once; `dedup-spark repair` with "
            "the same --tables mends them"
        )
    return {name: found[name] for name in ("rejected", "retries", "archived", "unavailable")}
