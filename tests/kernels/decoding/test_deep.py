"""Deep values of one channel: which are values, and how they are shown in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dedup_spark.kernels.decoding import deep
from dedup_spark.kernels.decoding.picture import Picture


def shown(values: list[float], dtype: type, no_data: float | None = None) -> list[int]:
    pixels = Image.fromarray(np.array([values], dtype))
    void = deep.void_of(pixels, no_data)
    return np.asarray(deep.in_8_bits(Picture(pixels=pixels, source=pixels, icc_profile=None, void=void))).tolist()[0]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1_000, 65_535], np.uint16, [3, 255]),  # by the high byte, whatever the range
        ([0, 16_384], np.uint16, [0, 64]),
        ([0, 16_382], np.uint16, [0, 255]),  # 14 bits in 16: by the range
        ([64_000, 65_020], np.uint16, [0, 255]),
        ([10 * 257, 90 * 257], np.uint16, [10, 90]),  # 8 bits in both bytes
        ([10 * 256, 90 * 256], np.uint16, [10, 90]),  # or in the upper one
        ([200, 1_176], np.uint16, [0, 255]),
        ([0, 255], np.int32, [0, 255]),  # 8 bits in a wide mode
        ([3, 20], np.uint16, [3, 20]),
        ([0, 256], np.int32, [0, 255]),  # more than 8 bits
        ([0, 65_536], np.int32, [0, 255]),  # more than 16: by the range
        ([-10, 30], np.int32, [0, 255]),
        ([0.0, 0.5], np.float32, [0, 127]),  # a share of white
        ([1.0, 3.0], np.float32, [0, 255]),  # by the range
        ([7.0, 7.0], np.float32, [0, 0]),
        ([-300.0, 1e18], np.float32, [0, 255]),
    ],
)
def test_deep_values_become_8_bits(values: list[float], dtype: type, expected: list[int]) -> None:
    assert shown(values, dtype) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "no_data", "expected"),
    [
        ([0.25, 0.75, np.inf], np.float32, None, [63, 191, 127]),
        ([0.0, 510.0, np.nan, -np.inf], np.float32, None, [0, 255, 128, 128]),
        ([0.0, 510.0, -3.4028234663852886e38], np.float32, None, [0, 255, 128]),
        ([0.0, 510.0, 1e20, 9.97e36], np.float32, None, [0, 255, 128, 128]),
        ([284.0, 848.0, -9999.0], np.float32, None, [0, 255, 128]),
        ([284.0, 848.0, 99999.0], np.float32, None, [0, 255, 128]),
        ([-32768, -20, 2000], np.int32, None, [128, 0, 255]),
        ([0.0, 510.0, 17.0], np.float32, 17.0, [0, 255, 128]),  # the file itself says so
        ([0.0, 510.0, 0.1], np.float32, 0.1, [0, 255, 128]),  # in single precision
        ([0, 1000, 40], np.uint16, 40.0, [0, 255, 128]),
        ([-9999.0, -9000.0, 5000.0], np.float32, None, [0, 16, 255]),  # not apart: a value like others
        ([300, 900, 65535], np.uint16, None, [0, 255, 128]),
        ([60_000, 65_535], np.uint16, None, [234, 255]),
        ([300.0, 900.0, 1e10], np.float32, None, [0, 255, 128]),
        ([5.0, 5.1, 0.0], np.float32, None, [250, 255, 0]),  # an object on an empty ground
        ([-9999.0, 5.0, 5.0], np.float32, None, [0, 255, 255]),  # two levels are a drawing
        ([np.nan, np.nan], np.float32, None, [0, 0]),
    ],
)
def test_what_is_no_value_is_no_part_of_the_range_and_is_shown_as_the_mean(
    values: list[float], dtype: type, no_data: float | None, expected: list[int]
) -> None:
    assert shown(values, dtype, no_data) == pytest.approx(expected, abs=1)


def test_voids_are_found_in_every_strip_of_a_large_image() -> None:
    values = np.linspace(100, 900, 2_000 * 1_500, dtype=np.float32).reshape(2_000, 1_500)
    values[10, 10] = values[1_990, 1_400] = -9999
    void = deep.void_of(Image.fromarray(values), None)
    assert void is not None
    assert np.argwhere(np.asarray(void) == 255).tolist() == [[10, 10], [1_990, 1_400]]
