"""Removal tiers of one cluster of real thumbnails: what may go by default, and what other settings let go."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clustering import append_pairs, run_cluster
from fabricated import families, fill, listed, readable
from PIL import Image, ImageDraw
from pyspark.sql import SparkSession

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError
from dedup_spark.store.schema import CLUSTERS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import Relation, RemovalTier

DECISIONS = Path(__file__).parents[3] / "docs/decisions.md"
ORDER = "cluster.keeper_order=['image_id ASC']"


def thumbnails() -> tuple[bytes, bytes, bytes, bytes]:
    """Of a photo, of the same compressed more, of it under a sticker, and of that compressed more."""
    plain = load_sample_photo("chelsea.png").convert("RGB").resize((256, 192))
    marked = plain.copy()
    ImageDraw.Draw(marked).ellipse((60, 60, 120, 120), fill="yellow", outline="black", width=3)
    files = []
    for photo, quality in ((plain, 80), (plain, 35), (marked, 80), (marked, 35)):
        files.append(io.BytesIO())
        photo.save(files[-1], "JPEG", quality=quality)
    plain_file, compressed_file, marked_file, marked_again_file = (f.getvalue() for f in files)
    return plain_file, compressed_file, marked_file, marked_again_file


def picture() -> dict[int, dict[str, Any]]:
    """What features know of each image: 1 is kept; 2 are its pixels; 3 is smaller, 4 larger and 5 of 16 bits; 6 is
    marked, 7 a byte copy and 8 a pixel copy of it; 9 is a film; 10 is 6 compressed and made smaller, 11 a byte copy
    of 10, and 12 is 6 in 16 bits; 13 and 14 are camera files of which the previews have the pixels of 10 and of 3."""
    plain, compressed, marked, marked_again = thumbnails()
    size = {
        "width_px": 800, "height_px": 600, "bits_per_channel": 8, "is_transparent": False, "has_colour_profile": False,
        "is_damaged": False, "decoder": "Pillow", "n_frames": 1, "thumbnail": plain,
    }  # fmt: skip
    other = size | {"thumbnail": compressed}
    sticker = size | {"thumbnail": marked, "pixel_hash": "marked", "content_hash": "marked"}
    again = size | {
        "thumbnail": marked_again,
        "pixel_hash": "again",
        "content_hash": "again",
        "width_px": 400,
        "height_px": 300,
    }
    camera = {"decoder": "rawpy", "content_hash": "camera"}
    other |= {"pixel_hash": "other", "content_hash": "other"}
    return {
        1: size | {"pixel_hash": "kept"},
        2: size | {"pixel_hash": "kept"},
        3: other | {"width_px": 400, "height_px": 300},
        4: other | {"width_px": 1600, "height_px": 1200, "pixel_hash": "4"},
        5: other | {"bits_per_channel": 16, "pixel_hash": "5"},
        6: sticker,
        7: sticker,
        8: sticker | {"content_hash": "marked, too"},
        9: size | {"n_frames": 12},
        10: again,
        11: again,
        13: again | camera,
        14: other | {"width_px": 400, "height_px": 300} | camera,
        12: sticker | {"bits_per_channel": 16, "pixel_hash": "deep", "content_hash": "deep"},
    }


TIER = {
    2: RemovalTier.SAME_PIXELS, 3: RemovalTier.REENCODED, 4: RemovalTier.MORE_DETAIL, 5: RemovalTier.MORE_DETAIL,
    6: RemovalTier.EDITED_COPY, 7: RemovalTier.SAME_BYTES, 8: RemovalTier.SAME_PIXELS, 9: RemovalTier.STILL,
    10: RemovalTier.REENCODED, 11: RemovalTier.REENCODED, 12: RemovalTier.EDITED_COPY,
    13: RemovalTier.EDITED_COPY, 14: RemovalTier.MORE_DETAIL,
}  # fmt: skip


@pytest.fixture(scope="module")
def one_picture(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    tables = Tables(spark, str(shutil.copytree(empty_tables, tmp_path_factory.mktemp("tiers") / "tables")))
    vectors = families([7], 0.9, np.random.default_rng(5))
    representative = {1: 1, 2: 1, 3: 3, 4: 4, 5: 5, 6: 6, 7: 6, 8: 6, 9: 9, 10: 10, 11: 10, 12: 12, 13: 10, 14: 3}
    places = {image_id: i for i, image_id in enumerate((1, 3, 4, 6, 9, 10, 12))} | {5: 0}
    rows = [readable(i, vectors[places[representative[i]]], **{"phash": 0} | f) for i, f in picture().items()]
    fill(tables, [listed(i) for i in representative], rows)
    near = sorted(set(representative.values()))
    # What is marked is far enough from the other two to be no mere re-encoding of them by its distance alone.
    alike = {frozenset(pair) for pair in ((6, 10), (6, 12), (10, 12))}
    cosines = [(a, b, 0.97 if {a, b} in alike else 0.9) for a in near for b in near if a < b]
    append_pairs(tables, [(a, b, "embedding", cosine, 0) for a, b, cosine in cosines])
    append_pairs(tables, [(r, i, "same_pixels", 1.0, 0) for i, r in representative.items() if i != r])
    return tables


def test_a_copy_goes_by_default_where_nothing_is_lost_with_it(one_picture: Tables) -> None:
    members = run_cluster(one_picture, ORDER)
    assert {i: m["removal_tier"] for i, m in members.items()} == {1: None, **TIER}
    assert {i for i, m in members.items() if m["is_removable"]} == {2, 3, 7, 8, 10, 11}
    kept = {**dict.fromkeys(range(1, 15), 1), 7: 6, 8: 6, 10: 6, 11: 6}
    assert {i: m["keeper_image_id"] for i, m in members.items()} == kept
    assert {i: m["near_image_id"] for i, m in members.items()} == kept
    assert [i for i, m in members.items() if m["is_keeper"]] == [1]
    assert {i: m["relation"] for i, m in members.items() if i > 3} == {
        4: "reencoded", 5: "reencoded", 6: "edited_copy", 7: "same_bytes", 8: "same_pixels", 9: "still",
        10: "reencoded", 11: "reencoded", 12: "edited_copy", 13: "edited_copy", 14: "reencoded",
    }  # fmt: skip
    assert members[4]["reason"].endswith("; stays: it has more detail than the keeper")
    assert members[6]["reason"].endswith("; stays: its removal tier, edited_copy, is beyond cluster.removable_up_to")
    beside = "; its keeper is file:///lake/6.jpg, which stays beside that of the cluster"
    assert members[7]["reason"] == f"byte for byte the keeper{beside}"
    assert members[8]["reason"] == f"decodes to the keeper's pixels; the files differ{beside}"
    assert members[10]["reason"].startswith("the keeper re-encoded or resized: ")
    assert members[10]["reason"].endswith(beside)
    for i in (12, 13):  # they show more than 6, and so do not go for it
        assert members[i]["reason"].endswith(
            "; stays: its removal tier, edited_copy, is beyond cluster.removable_up_to"
        )
    assert members[14]["reason"].endswith("; stays: it has more detail than the keeper")
    assert (members[7]["near_content_hash"], members[7]["near_distance"]) == ("marked", 0.0)
    assert (members[7]["keeper_content_hash"], members[7]["similarity"], members[7]["n_inliers"]) == ("marked", 1, None)
    assert members[10]["similarity"] == pytest.approx(0.9, abs=0.05)  # to 6, by their vectors
    assert members[10]["keeper_content_hash"] == "marked"
    assert members[3]["reason"].startswith("the keeper re-encoded or resized: ")


@pytest.mark.slow
def test_the_query_that_checks_the_promise_finds_nothing_against_it(one_picture: Tables) -> None:
    run_cluster(one_picture, ORDER)
    told = re.search(r"```sql\n(SELECT count\(\*\) AS members.*?)```", DECISIONS.read_text(), re.DOTALL)
    assert told
    query = re.sub(r"\bclusters\b", one_picture.sql_source(CLUSTERS), told[1])
    assert one_picture.spark.sql(query).collect() == [(14, 0, 0, 0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("up_to", "going"),
    [
        ("same_bytes", {7, 11}),
        ("same_pixels", {2, 7, 8, 11}),
        ("more_detail", {2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14}),
        ("edited_copy", {2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14}),
        ("recoloured", {2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14}),
        ("still", {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
    ],
)
def test_one_setting_narrows_and_widens_what_may_go(one_picture: Tables, up_to: str, going: set[int]) -> None:
    members = run_cluster(one_picture, ORDER, f"cluster.removable_up_to={up_to}")
    assert {i for i, m in members.items() if m["is_removable"]} == going
    stays = {m["near_image_id"] for m in members.values()}
    assert not stays & going


def test_tiers_are_the_relations_and_one_more_in_one_order() -> None:
    tiers = [str(tier) for tier in RemovalTier]
    assert [tier for tier in tiers if tier != RemovalTier.MORE_DETAIL] == [str(relation) for relation in Relation]
    assert RemovalTier.up_to("same_pixels") == (RemovalTier.SAME_BYTES, RemovalTier.SAME_PIXELS)
    assert load_config().cluster.removable_up_to == RemovalTier.REENCODED
    with pytest.raises(ConfigError, match="removable_up_to"):
        load_config(overrides=["cluster.removable_up_to=everything"])


def test_sample_thumbnails_are_images() -> None:
    assert {Image.open(io.BytesIO(data)).size for data in thumbnails()} == {(256, 192)}
