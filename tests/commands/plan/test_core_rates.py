from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from photos import photo, thumbnail

from dedup_spark.commands.plan.core_rates import ToWeigh, embed_seconds, measure_core, measure_weighing
from dedup_spark.kernels.joins.sketches import NEGATIVES


def test_rates_of_a_core_are_positive_numbers() -> None:
    rates = measure_core([(0.7, 0.999)], NEGATIVES, task_cpus=1)
    assert 0 < rates.sketch_pair_ns < np.inf
    assert 0 < rates.exact_pair_ns < np.inf


def test_lower_cosines_ask_for_dearer_sketches() -> None:
    low, high = (measure_core([(cosine, 0.999)], NEGATIVES, task_cpus=1) for cosine in (0.3, 0.9))
    assert low.sketch_pair_ns > high.sketch_pair_ns  # ten times: no clock errs so far


def test_the_first_batch_of_a_model_is_not_counted() -> None:
    seen: list[tuple[int, ...]] = []

    class Model:
        def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            seen.append(images.shape)
            return np.ones((len(images), 4), np.float32)

    assert embed_seconds(Model(), 64) > 0
    assert seen == [(8, 64, 64, 3)] * 2


def test_thumbnails_are_described_and_weighed_in_some_milliseconds() -> None:
    jpegs = [cv2.imencode(".jpg", thumbnail(photo(n)))[1].tobytes() for n in range(4)]
    rates = measure_weighing(ToWeigh(jpegs, [jpegs, jpegs[2:]]))
    assert rates is not None
    assert 1e-4 < rates.weigh_seconds < 1
    assert 1e-4 < rates.describe_seconds < 1
    assert measure_weighing(ToWeigh([], [])) is None
