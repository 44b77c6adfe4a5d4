"""Facts about how much picture there is: blur, blankness, entropy. All on a grey thumbnail, so that an
image and its large original get comparable values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]


def sharpness(grey: Grey) -> float:
    """Variance of the 4-neighbour Laplacian of (h, w) uint8, levels squared; low means blurred.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000).
    """
    g = grey.astype(np.float32)
    if min(g.shape) < 3:
        return 0.0
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(laplacian.var(dtype=np.float64))


def luma_stddev(grey: Grey) -> float:
    """Standard deviation of (h, w) uint8, levels of 255; below about 2 the image is blank."""
    return float(grey.std(dtype=np.float64))


def entropy_bits(grey: Grey) -> float:
    """Shannon entropy of the histogram of (h, w) uint8, 0 (one level) to 8 bits."""
    share = np.bincount(grey.ravel(), minlength=256) / grey.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0
