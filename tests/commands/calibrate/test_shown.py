"""Which images are known to show the same picture as a sampled one, with clusters and before there are any."""

from __future__ import annotations

import itertools

import cv2
import pytest
from fabricated import fill, frame, readable
from photos import framed, photo, reencoded, rotated
from pyspark.sql import DataFrame

from dedup_spark.commands.calibrate.shown import candidates_of, shown_pictures
from dedup_spark.commands.calibrate.step import UNKNOWN
from dedup_spark.config import load_config
from dedup_spark.stages.cluster.evidence import evidence_settings
from dedup_spark.store.schema import CLUSTERS, FEATURES, PAIRS
from dedup_spark.store.tables import Tables

PICTURES = {
    100: photo(1), 101: reencoded(photo(1), 25), 102: rotated(photo(1), 20),
    300: framed(photo(0)), **{300 + i: framed(photo(i)) for i in (3, 4, 5, 6, 7)}, 400: photo(2),
}  # fmt: skip


def pairs(tables: Tables, *rows: tuple[int, int, str, float, int]) -> DataFrame:
    columns = ("image_id_a", "image_id_b", "method", "similarity", "hamming_bits")
    return frame(tables.spark, PAIRS.schema, [dict(zip(columns, row, strict=True)) for row in rows])


def originals(tables: Tables, *ids: int) -> DataFrame:
    return frame(tables.spark, "copy_of bigint", [{"copy_of": i} for i in ids])


def shown(tables: Tables, *ids: int) -> dict[int, int]:
    unique = tables.read(FEATURES).select("image_id", "thumbnail")
    settings = evidence_settings(load_config(), UNKNOWN)
    found = shown_pictures(tables, originals(tables, *ids), unique, settings, 40).collect()
    return {row["image_id"]: row["cluster_id"] for row in found}


@pytest.mark.slow
def test_without_clusters_thumbnails_say_which_images_show_one_picture(tables: Tables) -> None:
    """All cosines are equal, so they say nothing; the pictures in one frame are others."""
    jpegs = {i: bytearray(cv2.imencode(".jpg", grey)[1].tobytes()) for i, grey in PICTURES.items()}
    fill(tables, feature_rows=[readable(i, thumbnail=jpeg) for i, jpeg in jpegs.items()])
    all_pairs = [(a, b, "embedding", 0.6, 9) for a, b in itertools.combinations(sorted(PICTURES), 2)]
    tables.append(PAIRS, pairs(tables, *all_pairs))
    assert shown(tables, 100, 300) == {100: 100, 101: 100, 102: 100}


def test_with_clusters_they_say_it(tables: Tables) -> None:
    rows = [{"image_id": i, "cluster_id": c} for i, c in ((1, 7), (2, 7), (3, 9))]
    tables.append(CLUSTERS, frame(tables.spark, CLUSTERS.schema, rows))
    assert shown(tables, 1) == {1: 7, 2: 7, 3: 9}


def test_a_lake_without_pairs_shows_nothing_twice(tables: Tables) -> None:
    assert shown(tables, 100) == {}


def test_the_nearest_candidates_of_each_original_are_compared_with_it_each_pair_once(tables: Tables) -> None:
    found = pairs(
        tables,
        (1, 2, "embedding", 0.9, 9), (1, 3, "embedding", 0.8, 9), (1, 4, "embedding", 0.7, 9),
        (2, 5, "phash", 0.6, 2), (3, 4, "embedding", 0.9, 9), (1, 9, "same_pixels", 1.0, 0),
    )  # fmt: skip
    asked = frame(tables.spark, "query_id bigint", [{"query_id": 1}, {"query_id": 2}])
    near = {(r["image_id_a"], r["image_id_b"]): r["query_id"] for r in candidates_of(asked, found, 2).collect()}
    assert near == {(1, 2): 1, (1, 3): 1, (2, 5): 2}
