"""What extract finds to do, by the rows of images and features that are there."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fabricated import features, images, listed, readable, rejected
from pyspark.sql import Row, SparkSession

from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.features.signature import SignatureSettings, rejected_version
from dedup_spark.sources.folder import FolderSource
from dedup_spark.stages.extract.backlog import Backlog, kinds_of_rows, models_of
from dedup_spark.stages.reading.read_ahead import TaskSettings

LAKE, OTHER_LAKE, RUN = "file:///lake", "file:///other", "run-2"
SIGNATURE = SignatureSettings(400_000_000, 16, 256, 80, 0)
CURRENT = rejected_version(SIGNATURE)  # one of the current versions is as good as another here


def settings(**changes: Any) -> TaskSettings:
    extract = dataclasses.replace(ExtractSettings(), **changes)
    return TaskSettings(FolderSource("/lake"), SIGNATURE, extract, None, RUN, 1)


def kind(n: int, **facts: Any) -> Row:
    """Rows made by an earlier run that are as they should be, unless `facts` say otherwise."""
    plain = {"is_here": True, "has_etag": False, "suffix": None, "is_made": True, "of_run": False,
             "reject_reason": None, "model_id": None, "signature_version": CURRENT}  # fmt: skip
    return Row(**plain | facts | {"n": n})


def unread(n: int, **facts: Any) -> Row:
    return kind(n, **{"is_made": None, "of_run": None, "signature_version": None} | facts)


def test_nothing_is_to_be_done_where_every_image_has_its_row() -> None:
    backlog = Backlog([kind(5), kind(2, reject_reason="corrupt"), kind(3, is_here=False)], settings())
    assert (backlog.n_pending, sum(backlog.forgotten.values())) == (0, 0)


def test_pending_are_the_images_of_this_lake_without_a_row() -> None:
    kinds = [unread(4), unread(3, has_etag=True), unread(8, is_here=False), kind(5)]
    backlog = Backlog(kinds, settings())
    assert (backlog.n_pending, backlog.n_pending_with_etag) == (7, 3)


def test_pending_images_that_not_all_decode_are_counted_by_the_endings_of_their_names() -> None:
    kinds = [unread(4), unread(3, suffix="heic"), unread(2, suffix="heic", has_etag=True), kind(5, suffix="jxl"),
             unread(8, suffix="nef", is_here=False), kind(1, suffix="dng", signature_version="0/old")]  # fmt: skip
    assert Backlog(kinds, settings()).pending_suffixes == {"heic": 5}
    again = Backlog(kinds, settings(on_version_change="recompute", max_outdated_share=1))
    assert again.pending_suffixes == {"heic": 5, "dng": 1}


@pytest.mark.parametrize(
    ("facts", "changes", "why"),
    [
        ({"signature_version": "0/old"}, {}, None),
        ({"signature_version": "0/old"}, {"on_version_change": "recompute"}, "made by version 0/old"),
        ({"signature_version": "0/old", "reject_reason": "corrupt"}, {}, "made by version 0/old"),
        ({"signature_version": "0/old", "reject_reason": "not_an_image"}, {}, None),
        ({"reject_reason": "store_unavailable"}, {}, None),
        ({"reject_reason": "archived"}, {"retry_rejects": ("archived",)}, "asked for by extract.retry_rejects"),
        ({"reject_reason": "missing"}, {}, None),
        ({"reject_reason": "missing"}, {"retry_rejects": ("missing",)}, "asked for by extract.retry_rejects"),
        ({"reject_reason": "corrupt"}, {"retry_rejects": ("missing",)}, None),
        ({"is_here": None, "has_etag": None}, {"on_version_change": "keep"}, "object gone or changed"),
    ],
)
def test_rows_are_outdated_for_a_reason(facts: dict[str, Any], changes: dict[str, Any], why: str | None) -> None:
    backlog = Backlog([kind(6, **facts)], settings(**changes))
    assert backlog.forgotten == ({why: 6} if why else {})
    is_read_again = why is not None and facts.get("is_here", True)
    assert backlog.n_pending == (6 if is_read_again else 0)


def test_outdated_rows_of_another_lake_are_forgotten_and_left_to_its_own_run() -> None:
    outdated = kind(6, is_here=False, signature_version="0/old")
    backlog = Backlog([outdated], settings(on_version_change="recompute"))
    assert (sum(backlog.forgotten.values()), backlog.n_pending) == (6, 0)


def test_what_a_stopped_run_read_is_counted_for_its_guard() -> None:
    kinds = [kind(9, of_run=True), kind(4, of_run=True, reject_reason="corrupt"), kind(7, reject_reason="corrupt")]
    backlog = Backlog(kinds, settings())
    assert (backlog.n_read_in_run, backlog.n_rejected_in_run) == (13, 4)


def test_what_the_store_did_not_give_is_asked_for_again_and_counts_for_no_guard() -> None:
    kinds = [
        kind(4, reject_reason="store_unavailable"),
        kind(3, reject_reason="expired_credentials", of_run=True),
        kind(2, reject_reason="archived", of_run=True),
        kind(8, reject_reason="store_unavailable", is_here=False),
        kind(5, reject_reason="missing", of_run=True),
    ]
    backlog = Backlog(kinds, settings())
    assert (backlog.n_not_given, backlog.n_pending) == (4 + 3 + 2 + 5, 0)
    assert (backlog.n_read_in_run, backlog.n_rejected_in_run) == (5, 5)
    assert not backlog.forgotten  # their rows stay until there is something better to say


def test_models_are_those_of_any_row() -> None:
    assert models_of([kind(1), kind(1, model_id="b"), kind(1, model_id="a", is_here=None), unread(1)]) == ["a", "b"]


def test_kinds_and_forgotten_rows_are_those_of_the_tables(spark: SparkSession) -> None:
    there = images(
        spark,
        [
            listed(1), listed(2, etag="a" * 32, uri="s3://lake/2.jpg"), listed(3), listed(4, object_version=2),
            listed(5), listed(6, lake=OTHER_LAKE), listed(7, lake=OTHER_LAKE, uri="file:///other/7.heic"),
            listed(9, uri="file:///lake/a.b/IMG.HEIC"), listed(10, uri="file:///lake/a.heic/b"),
            listed(11, uri="file:///lake/a.tar", member="x/y.jxl"),
        ],
    )  # fmt: skip
    made = features(
        spark,
        [
            readable(1, signature_version=CURRENT, run_id=RUN),
            readable(3, signature_version="0/old"),
            readable(4, signature_version=CURRENT),  # of the object's version 1
            rejected(5) | {"signature_version": CURRENT},
            readable(6, signature_version="0/old"),
            readable(8, signature_version="0/old"),  # gone, and outdated too
        ],
    )
    backlog = Backlog(kinds_of_rows(there, made, LAKE, RUN), settings(on_version_change="recompute"))
    assert backlog.forgotten == {"made by version 0/old": 2, "object gone or changed": 2}
    assert sorted(r["image_id"] for r in backlog.forgotten_ids(there, made).collect()) == [3, 4, 6, 8]
    assert (backlog.n_pending, backlog.n_pending_with_etag) == (6, 1)  # 2, 4 and 9 to 11 unread, 3 outdated
    assert backlog.pending_suffixes == {"heic": 1, "jxl": 1}
    assert (backlog.n_read_in_run, backlog.n_rejected_in_run) == (1, 0)
