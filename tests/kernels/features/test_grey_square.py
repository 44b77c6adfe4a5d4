from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.features.grey_square import grey_square

SIZES = [
    (500, 375),
    (375, 500),
    (333, 499),
    (1200, 800),
    (640, 16),
    (97, 101),
    (32, 32),
    (31, 17),
    (5, 3),
    (1, 1),
    (1900, 1270),
    (3000, 40),
]
LEFT_TO_PILLOW = [(100, 900), (1, 60)]


def pillows(grey: Image.Image) -> np.ndarray:
    return np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("size", SIZES + LEFT_TO_PILLOW)
@pytest.mark.parametrize("kind", ["photo", "noise", "black and white"])
def test_every_level_is_pillows(size: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(sum(size))
    grey = {
        "photo": lambda: load_sample_photo("coffee.png").convert("L").resize(size),
        "noise": lambda: Image.fromarray(rng.integers(0, 256, size[::-1], np.uint8)),
        "black and white": lambda: Image.fromarray(255 * rng.integers(0, 2, size[::-1], np.uint8)),
    }[kind]()
    np.testing.assert_array_equal(grey_square(grey, 32), pillows(grey))


def test_random_sizes_too() -> None:
    rng = np.random.default_rng(7)
    for width, height in rng.integers(1, 700, (150, 2)).tolist():
        grey = Image.fromarray(rng.integers(0, 256, (height, width), np.uint8))
        np.testing.assert_array_equal(grey_square(grey, 32), pillows(grey), err_msg=f"{width} x {height}")
