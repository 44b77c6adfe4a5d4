"""Who is drawn depends on ids and seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup_spark.spark.draw import seeded_hash, seeded_place


@pytest.mark.parametrize("seed", [0, 7])
def test_a_share_of_the_places_is_a_share_of_the_images_whatever_the_partitions(spark: SparkSession, seed: int) -> None:
    ids = spark.range(0, 20_000, 1, 3).withColumnRenamed("id", "image_id")
    places = np.array(ids.select(seeded_place(seed)).toArrow()[0])
    assert 0 <= places.min() < 0.001
    assert 0.999 < places.max() < 1
    assert np.histogram(places, 10)[0] == pytest.approx([2_000] * 10, abs=200)
    first = [r["image_id"] for r in ids.orderBy(seeded_hash(seed), "image_id").limit(50).collect()]
    again = ids.repartition(5, F.col("image_id") % 7).orderBy(seeded_hash(seed), "image_id").limit(50)
    assert [r["image_id"] for r in again.collect()] == first
    other = [r["image_id"] for r in ids.orderBy(seeded_hash(seed + 1), "image_id").limit(50).collect()]
    assert len({*first} & {*other}) < 5
