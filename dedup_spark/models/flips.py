"""Embeddings that a vertical flip does not change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup_spark.models.base import Embedder, unit_rows


class FlipAveraged:
    """The normalised sum of embed(x) and embed(x upside down): equal for x and its flip, at twice the cost.

    SSCD was trained on horizontal flips, not on vertical ones.
    """

    def __init__(self, model: Embedder) -> None:
        self._model = model
        self.model_id, self.dimensions = model.model_id, model.dimensions

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        upside_down = np.ascontiguousarray(images[:, ::-1])
        return unit_rows(self._model.embed(images) + self._model.embed(upside_down), self.model_id)
