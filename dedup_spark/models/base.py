"""The interface of an embedding model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Embedder(Protocol):
    """A loaded model; made once a Python worker, never sent between processes."""

    model_id: str

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(n, h, w, 3) uint8 RGB to (n, d) float32 rows of length 1; a row does not depend on its neighbours."""
        ...
