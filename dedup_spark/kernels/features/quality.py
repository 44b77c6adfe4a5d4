"""How much there is to see in an image: sharpness, contrast and entropy of its grey thumbnail.

On the thumbnail, so that an image and its large original get comparable values.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from dedup_spark.kernels.arrays import UInt8, expect


def sharpness(grey: UInt8) -> float:
    """Variance of the 4-neighbour Laplacian of (h, w) uint8, levels squared; low means blurred.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000).
    """
    expect(grey=(grey, "h w", np.uint8))
    if min(grey.shape) < 3:
        return 0.0
    return _stddev(cv2.Laplacian(grey, cv2.CV_16S)[1:-1, 1:-1]) ** 2


def luma_stddev(grey: UInt8) -> float:
    """Standard deviation of (h, w) uint8, levels of 255; below about 2 the image is blank."""
    expect(grey=(grey, "h w", np.uint8))
    return _stddev(grey)


def entropy_bits(grey: UInt8) -> float:
    """Shannon entropy of the histogram of (h, w) uint8, 0 (one level) to 8 bits."""
    expect(grey=(grey, "h w", np.uint8))
    share = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.float64) / grey.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0


def _stddev(values: np.ndarray[Any, Any]) -> float:
    """By OpenCV, which sums integers of 8 and 16 bits exactly and makes no copy of them."""
    return float(cv2.meanStdDev(values)[1][0, 0])
