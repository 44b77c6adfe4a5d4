from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup_spark.commands.plan.core_rates import embed_seconds, measure_core
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
