"""What stays although its tier would let it go: made-up members, one rule each."""

from __future__ import annotations

from typing import Any

import pytest
from fabricated import frame
from pyspark.sql import SparkSession

from dedup_spark.stages.cluster.removal import DETAIL_FACTS, is_short_lived, why_it_stays
from dedup_spark.stages.cluster.same_object import FACTS
from dedup_spark.stages.cluster.tiers import _has_more_detail
from dedup_spark.store.schema import FEATURES, IMAGES

_KINDS = IMAGES.schema.types | FEATURES.schema.types
_OF_BOTH = tuple(dict.fromkeys((*FACTS, *DETAIL_FACTS, "signature_version", "image_id")))
_SCHEMA = ", ".join(f"{of}{name} {_KINDS[name]}" for of in ("", "near_") for name in _OF_BOTH)
_SCHEMA += ", is_keeper boolean, is_reference boolean, is_protected boolean, is_supporting boolean, "
_SCHEMA += "is_allowed boolean, is_near_keeper boolean, first_image_id bigint, keeper_image_id bigint, "
_SCHEMA += "removal_tier string, n_links int"
GOES = {
    "uri": "s3://lake/a.jpg", "near_uri": "s3://lake/b.jpg", "image_id": 1, "near_image_id": 2, "keeper_image_id": 2,
    "first_image_id": 1, "is_keeper": False, "is_reference": False, "is_protected": False, "is_supporting": False,
    "is_allowed": True, "is_near_keeper": True, "removal_tier": "reencoded",
}  # fmt: skip
SAFE = "its keeper lies in a recycle bin, a snapshot or the web"
CASES: dict[str, tuple[dict[str, Any], str | None]] = {
    "nothing speaks against it": ({}, None),
    "its keeper is damaged": ({"near_is_damaged": True}, "it is whole, and a part of the keeper is lost"),
    "both are damaged": ({"near_is_damaged": True, "is_damaged": True}, None),
    "its keeper lies in a bin": ({"near_uri": "file:///nas/#recycle/b.jpg"}, SAFE),
    "its keeper is a page of the web": ({"near_uri": "https://host/b.jpg"}, SAFE),
    "both lie in bins": ({"uri": "file:///x/.Trash-1000/a.jpg", "near_uri": "file:///nas/#recycle/b.jpg"}, None),
    "it lies in a bin itself": ({"uri": "file:///d/$RECYCLE.BIN/S-1/a.jpg"}, None),
}


@pytest.fixture(scope="module")
def said(spark: SparkSession) -> dict[str, str | None]:
    rows = [GOES | changed | {"case": case} for case, (changed, _) in CASES.items()]
    found = frame(spark, f"case string, {_SCHEMA}", rows).select("case", why_it_stays().alias("why")).collect()
    return {row["case"]: row["why"] for row in found}


@pytest.mark.parametrize("case", CASES)
def test_a_copy_stays_where_what_stands_for_it_may_be_lost(said: dict[str, str | None], case: str) -> None:
    why = CASES[case][1]
    assert said[case] == (why and f"stays: {why}")


SHORT_LIVED = {
    "https://host/a.jpg": True, "http://host/a.jpg": True, "file:///d/$RECYCLE.BIN/a.jpg": True,
    "file:///nas/#recycle/x/a.jpg": True, "file:///nas/@Recycle/a.jpg": True, "file:///h/.Trash-1000/files/a.jpg": True,
    "file:///v/.Trashes/501/a.jpg": True, "file:///nas/~snapshot/daily.0/a.jpg": True,
    "file:///nas/.zfs/snapshot/a.jpg": True, "hdfs://nn/user/x/.Trash/Current/a.jpg": True,
    "s3://lake/a.jpg": False, "file:///lake/trashcan/a.jpg": False, "file:///lake/snapshots/a.jpg": False,
    "file:///DCIM/.trashed-1700000000-IMG_1.jpg": True, "file:///DCIM/trashed-1.jpg": False,
    "file:///c/%24RECYCLE.BIN/a.jpg": True, "file:///cloud/files_trashbin/a.jpg": True, "file:///vol/.snap/a.jpg": True,
    "file:///lake/recycle.jpg": False, "s3://https/a.jpg": False,
}  # fmt: skip


def test_bins_snapshots_and_the_web_are_known_by_the_address(spark: SparkSession) -> None:
    rows = frame(spark, "uri string", [{"uri": uri} for uri in SHORT_LIVED])
    found = {row["uri"]: row["is"] for row in rows.select("uri", is_short_lived("uri").alias("is")).collect()}
    assert found == SHORT_LIVED


EQUAL = {
    "width_px": 800, "height_px": 600, "decoder": "pillow", "detail_share": 1.0, "is_damaged": False,
    "bits_per_channel": 8, "is_transparent": False, "has_colour_profile": False, "beside_hash": None,
}  # fmt: skip
MORE: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {  # of the copy, of the keeper
    "nothing more": ({}, {}, False),
    "more bits": ({"bits_per_channel": 16}, {}, True),
    "floats beside 16 bits": ({"bits_per_channel": 32}, {"bits_per_channel": 16}, True),
    "fewer bits": ({}, {"bits_per_channel": 16}, False),
    "transparency": ({"is_transparent": True}, {"width_px": 1600}, True),
    "transparency in both": ({"is_transparent": True}, {"is_transparent": True}, False),
    "colours of a profile": ({"has_colour_profile": True}, {}, True),
    "a film": ({"beside_hash": "film"}, {}, True),
    "the same film": ({"beside_hash": "film"}, {"beside_hash": "film"}, False),
    "another film": ({"beside_hash": "film"}, {"beside_hash": "another"}, True),
    "the keeper has the film": ({}, {"beside_hash": "film"}, False),
    "as large, and the keeper was enlarged": ({}, {"detail_share": 0.5}, True),
    "a little less blurred": ({}, {"detail_share": 0.7}, False),
    "smaller, of a soft keeper": ({"width_px": 480, "height_px": 360}, {"detail_share": 0.5}, False),
    "facts of an older version": (dict.fromkeys(EQUAL), {}, False),
}


def test_a_copy_has_more_detail_where_it_holds_what_its_keeper_lacks(spark: SparkSession) -> None:
    kinds = FEATURES.schema.types
    schema = ", ".join(f"{of}{name} {kinds[name]}" for of in ("", "keeper_") for name in DETAIL_FACTS)
    rows = [
        {"case": case} | EQUAL | own | {f"keeper_{name}": value for name, value in (EQUAL | keeper).items()}
        for case, (own, keeper, _) in MORE.items()
    ]
    found = frame(spark, f"case string, {schema}", rows).select("case", _has_more_detail("keeper").alias("more"))
    assert {row["case"]: row["more"] for row in found.collect()} == {case: more for case, (*_, more) in MORE.items()}
