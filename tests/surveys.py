"""Makes up surveys of a lake, for tests that choose an engine by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from dedup_spark.kernels.joins import sketches
from dedup_spark.stages.match.survey import Survey
from dedup_spark.stages.match.survey_task import COSINE_BINS, GAP_BINS


def survey(near: dict[float, int] | None = None, **facts: Any) -> Survey:
    """A survey with a sample of 100 images, which has `near[cosine]` neighbours at each cosine."""
    counts = np.zeros(len(COSINE_BINS) - 1, int)
    for cosine, n in (near or {}).items():
        counts[round((cosine + 1) * 100)] += n
    gaps = [0] * (len(GAP_BINS) - 1)
    gaps[0], gaps[-1] = 2, 98  # 2 % of the lake in the home cells, the rest far off
    values: dict[str, Any] = {
        "n_queries": 100, "n_compared": 1, "near": tuple(counts.tolist()), "negatives": sketches.NEGATIVES,
        "gaps": tuple(gaps), "n_routed": 1000, "margin": 0.1, "n_probes": 8, "gemm_ns": 16.0,
        "costs": sketches.SketchCosts(), "exploded": False,
    }  # fmt: skip
    return Survey(**values | facts)
