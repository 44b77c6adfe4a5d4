"""The reason of a keeper: the first criterion in which it differs from the second in rank, and who that is."""

from __future__ import annotations

from typing import Any

import pytest
from fabricated import features, images, listed, readable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.keeper_criteria import CRITERIA
from dedup_spark.stages.cluster.keeper_order import rank_members
from dedup_spark.stages.cluster.keeper_reason import with_why_kept, words_of

DEFAULT = Config().cluster.keeper_order
GOOD = {
    "is_damaged": False, "camera": "Canon", "has_maker_note": True, "jpeg_quality": 90.0, "detail_share": 1.0,
    "added_share": 0.0, "shown_width_px": 400, "shown_height_px": 300, "is_lossless": False, "software": "1.0",
    "width_px": 400, "height_px": 300,
}  # fmt: skip


def reason(spark: SparkSession, second: dict[str, Any], order: tuple[str, ...] = DEFAULT, **settings: Any) -> str:
    """Of a/kept.jpg, with GOOD facts, against web/x.png, which has those of `second` instead."""
    known = [listed(1, uri="file:///lake/a/kept.jpg"), listed(2, uri="file:///lake/web/x.png")]
    read = features(spark, [readable(1, **GOOD), readable(2, **GOOD | second)])
    members = read.selectExpr(
        "image_id", "content_hash", "pixel_hash", "model_id", "image_id AS representative_id", "7L AS label"
    )
    ranked = rank_members(members, images(spark, known), read, ClusterSettings(keeper_order=order, **settings))
    kept = ranked.withColumns({"keeper_image_id": F.lit(1), "is_keeper": F.col("image_id") == 1})
    why = {row["image_id"]: row["why_kept"] for row in with_why_kept(kept, order).collect()}
    assert why[2] is None
    return why[1]


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"is_damaged": True, "camera": None}, "kept: it is whole, and a part of web/x.png is lost"),
        ({"width_px": 100, "height_px": 75}, "kept: it shows the picture at a far larger size than web/x.png"),
        ({"added_share": 0.3, "height_px": 430},
         "kept: nothing is added around it, as bars or a frame are in web/x.png"),
        ({"camera": None}, "kept: it has the camera's EXIF data, and web/x.png has not"),
        ({"software": "Adobe Photoshop 25"}, "kept: no editor has written it, as one has written web/x.png"),
        ({"width_px": 390}, "kept: it has more pixels than web/x.png"),
        ({"jpeg_quality": 60.0}, "kept: it was compressed less strongly than web/x.png"),
        ({"earlier_jpeg_quality": 90.0, "jpeg_quality": 95.0},
         "kept: it carries no traces of an earlier JPEG, as web/x.png does"),
        ({}, "kept: all else is equal, and its address comes before that of web/x.png"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_the_reason_names_the_criterion_and_the_second(spark: SparkSession, second: dict[str, Any], says: str) -> None:
    assert reason(spark, second) == says


def test_an_expression_of_the_user_is_named_by_its_sql(spark: SparkSession) -> None:
    said = reason(spark, {}, ("uri LIKE '%kept%' DESC",))
    assert said == "kept: cluster.keeper_order 'uri LIKE '%kept%' DESC' puts it before web/x.png"
    assert reason(spark, {}, ()) == "kept: nothing in cluster.keeper_order tells it from web/x.png"


def test_a_protected_keeper_says_so(spark: SparkSession) -> None:
    assert reason(spark, {}, protected_prefixes=("a/",)) == "kept: it is protected, and web/x.png is not"


def test_every_default_criterion_has_words_that_name_the_other() -> None:
    assert [words_of(f"  {item} ") for item, _ in CRITERIA] == [words for _, words in CRITERIA]
    assert all(words.count("{other}") == 1 for _, words in CRITERIA)
