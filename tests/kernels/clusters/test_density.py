"""Density: crowding of each image by a loop, and its use on pairs."""

from __future__ import annotations

import numpy as np

from dedup_spark.kernels.clusters import density


def test_crowding_is_the_cosine_of_the_sixteenth_neighbour_or_the_floor() -> None:
    rng = np.random.default_rng(3)
    lists = [np.sort(rng.uniform(0.2, 1, n))[::-1].astype(np.float32) for n in (0, 1, 15, 16, 17, 40)]
    offsets = np.cumsum([0, *(len(x) for x in lists)])
    found = density.crowding(np.concatenate(lists), offsets, 0.25)
    expected = [max(x[15], 0.25) if len(x) >= 16 else 0.25 for x in lists]
    assert np.allclose(found, expected)


def test_crowding_of_no_images_is_empty() -> None:
    assert density.crowding(np.empty(0, np.float32), np.zeros(1, np.int64), 0.2).shape == (0,)


def test_a_pair_in_a_crowd_stands_out_less() -> None:
    cosine = np.array([0.7, 0.7], np.float32)
    out = density.normalised(cosine, np.array([0.2, 0.8], np.float32), np.array([0.2, 0.6], np.float32))
    assert np.allclose(out, [0.5, 0.0], atol=1e-6)
