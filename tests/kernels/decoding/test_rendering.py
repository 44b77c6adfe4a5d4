"""Deep grey values to 8 bits, and the previews of camera RAW that may stand for the image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dedup_spark.kernels.decoding import raw
from dedup_spark.kernels.decoding.rendering import to_8_bit


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1_000, 65_535], np.uint16, [3, 255]),  # by the high byte, whatever the range
        ([0, 255], np.int32, [0, 255]),  # 8 bits in a wide mode
        ([0, 256], np.int32, [0, 1]),  # more than 8 bits
        ([0, 65_536], np.int32, [0, 255]),  # more than 16: by the range
        ([-10, 30], np.int32, [0, 255]),
        ([0.0, 0.5], np.float32, [0, 127]),  # a share of white
        ([1.0, 3.0], np.float32, [0, 255]),  # by the range
        ([0.25, np.inf], np.float32, [63, 0]),  # what is no number is black
    ],
)
def test_deep_values_become_8_bits(values: list[float], dtype: type, expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype))
    assert np.asarray(to_8_bit(image)).tolist() == [expected]


@pytest.mark.parametrize(
    ("size", "full", "expected"),
    [
        ((1024, 683), (6000, 4000), True),
        ((1023, 682), (6000, 4000), False),
        ((683, 1024), (4000, 6000), True),
        ((500, 333), (1000, 667), True),  # of a small sensor half is enough
        ((499, 333), (1000, 667), False),
        ((1100, 733), (1000, 667), True),
        ((1110, 740), (1000, 667), False),  # larger than the sensor
        ((1200, 762), (6000, 4000), True),
        ((1200, 761), (6000, 4000), False),  # of another shape
        ((1200, 838), (6000, 4000), True),
        ((1200, 845), (6000, 4000), False),
    ],
)
def test_a_preview_must_be_large_enough_and_of_the_shape_of_the_sensor(
    size: tuple[int, int], full: tuple[int, int], expected: bool
) -> None:
    assert raw._is_fit(size, full) == expected


def test_errors_of_libraw_are_bytes_and_become_text() -> None:
    assert raw._text(OSError(b"Data error")) == "Data error"
    assert raw._text(OSError("as text")) == "as text"
    assert raw._text(OSError()) == ""
