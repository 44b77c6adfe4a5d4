from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.grey_square import grey_square

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


@pytest.mark.parametrize("size", [(9000, 7), (12_000, 9000), (5600, 4200), (40, 50), (61, 33)])
@pytest.mark.parametrize("side_px", [8, 32, 33])
def test_white_and_alternating_pictures_of_any_size_are_pillows(size: tuple[int, int], side_px: int) -> None:
    """The largest sums that there are: all white, and white where coefficients are positive."""
    for step in (1, 2, 3 * size[0] // 32 or 1):
        grey = Image.fromarray(np.broadcast_to((np.arange(size[0]) // step % 2 == 0) * np.uint8(255), size[::-1]))
        expected = np.asarray(grey.resize((side_px, side_px), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(grey_square(grey, side_px), expected)
    white = Image.new("L", size, 255)
    np.testing.assert_array_equal(grey_square(white, side_px), np.full((side_px, side_px), 255))
