"""Rows of features that other versions of a decoder or of this package made: which are made again, and which stay.

A patch of a decoder must not cause the whole lake to be read again. So such rows stay unless extract.on_version_change
says otherwise, and extract.max_outdated_share limits how many are made again. Rejected images are tried again within
that limit: they are few, and a newer decoder may read them. The driver decides all of this.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence

from pyspark.sql import Row, SparkSession

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import GuardError
from dedup_spark.kernels.features.signature import (
    OLDEST_DECIDING,
    SignatureSettings,
    current_versions,
    is_of_rejects,
    may_decode_now,
    own_version,
)
from dedup_spark.spark.executors import ask_an_executor
from dedup_spark.vocabulary import RejectReason

log = logging.getLogger(__name__)

_MIN_ROWS_FOR_GUARD = 200  # a share of so few rows means nothing
_DECODER_MAY_MEND = frozenset(
    {
        RejectReason.UNSUPPORTED_FORMAT, RejectReason.TRUNCATED, RejectReason.CORRUPT, RejectReason.TOO_MANY_PIXELS,
        RejectReason.TOO_SMALL, RejectReason.DECODER_CRASHED, RejectReason.DECODER_TIMEOUT,
    }
)  # fmt: skip
"""Reasons that may not occur with another decoder or another limit on pixels."""
_RECOMPUTE = "--set extract.on_version_change=recompute"


class OtherVersions:
    """What happens to the rows whose signature_version is none of `current`."""

    def __init__(self, kinds: Sequence[Row], extract: ExtractSettings, current: frozenset[str]) -> None:
        self._max_share, self._recomputes = extract.max_outdated_share, extract.on_version_change == "recompute"
        rows = [k for k in kinds if k["is_made"] and k["is_here"] is not None]
        others = [k for k in rows if k["signature_version"] not in current]
        rejecting = next(filter(is_of_rejects, current))
        wanted = others if self._recomputes else [k for k in others if _may_be_mended(k, rejecting)]
        self._n_rows, self._n_wanted = _count(rows), _count(wanted)
        is_kept = self._is_too_much() and not self._recomputes
        self._outdated = set() if is_kept else {_made_by(k) for k in wanted}
        self._n_rejects_kept = self._n_wanted if is_kept else 0
        kept = [k for k in others if k["reject_reason"] is None and not self.is_outdated(k)]
        self._n_kept = _count(kept)
        self._n_undecided = _count(k for k in kept if own_version(k["signature_version"]) < OLDEST_DECIDING)

    def is_outdated(self, kind: Row) -> bool:
        """Whether rows of this kind are made again because of their version."""
        return _made_by(kind) in self._outdated

    def require_consent(self) -> None:
        """Raise GuardError when too many rows would be made again."""
        if self._recomputes and self._is_too_much():
            raise GuardError(
                f"{self._n_wanted:,} of {self._n_rows:,} rows of features were made by other versions of a decoder or "
                "of our own hashes, or with other thumbnails or extract.pixels, and their images would all be read "
                f"again: more than extract.max_outdated_share ({self._max_share:g}). Allow it with --set "
                "extract.max_outdated_share=1, "
                "or keep the rows with --set extract.on_version_change=keep"
            )

    def say_what_stays(self) -> None:
        if self._n_kept:
            log.info(
                "extract: %s of %s rows of features were made by other versions of a decoder or of our own hashes, or "
                "with other thumbnails or extract.pixels, and are kept; read those images again with %s",
                f"{self._n_kept:,}", f"{self._n_rows:,}", _RECOMPUTE,
            )  # fmt: skip
        if self._n_undecided:
            log.warning(
                "extract: %s rows were made by an older version of our own hashes; they are never proposed for removal "
                "until they are read again: %s", f"{self._n_undecided:,}", _RECOMPUTE,
            )  # fmt: skip
        if self._n_rejects_kept:
            log.info(
                "extract: %s images were rejected by other versions of a decoder, more than extract.max_outdated_share "
                "(%g) of all; read them again with --set extract.max_outdated_share=1",
                f"{self._n_rejects_kept:,}", self._max_share,
            )  # fmt: skip

    def _is_too_much(self) -> bool:
        return self._n_rows >= _MIN_ROWS_FOR_GUARD and self._n_wanted > self._max_share * self._n_rows


def versions_in_use(spark: SparkSession, kinds: Sequence[Row], signature: SignatureSettings) -> frozenset[str]:
    """The versions that make rows now: those of the executors; a task asks for them where the driver's may differ."""
    ours = current_versions(signature)
    if {k["signature_version"] for k in kinds if k["is_made"] and k["is_here"] is not None} <= ours:
        return ours
    theirs = ask_an_executor(spark, functools.partial(_versions, signature))
    if theirs != ours:
        log.warning(
            "extract: executors decode by other versions than the driver has (%s; the driver: %s), and theirs count; "
            "install the same packages on both",
            ", ".join(sorted(theirs - ours)) or "fewer", ", ".join(sorted(ours - theirs)) or "fewer",
        )  # fmt: skip
    return theirs


def _versions(signature: SignatureSettings) -> frozenset[str]:
    """On an executor."""
    return current_versions(signature)


def _may_be_mended(kind: Row, rejecting: str) -> bool:
    """Whether what was rejected may be read now. By which bytes a format is known, our own version alone changes."""
    version = kind["signature_version"] or ""
    if kind["reject_reason"] == RejectReason.NOT_AN_IMAGE:
        return is_of_rejects(version) and own_version(version) != own_version(rejecting)
    return kind["reject_reason"] in _DECODER_MAY_MEND and may_decode_now(version, rejecting)


def _made_by(kind: Row) -> tuple[str | None, str | None]:
    return kind["reject_reason"], kind["signature_version"]


def _count(kinds: Iterable[Row]) -> int:
    return sum(k["n"] for k in kinds)
