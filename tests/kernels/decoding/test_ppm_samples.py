"""PPM of 16 bits, of which a part of the range is used."""

from __future__ import annotations

import numpy as np
import pytest
from odd_files import picture
from PIL import Image

from dedup_spark.kernels.decoding.images import ImageRejected, decode_image
from dedup_spark.kernels.decoding.rendering import render

RGB = picture()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))


def ppm(values: np.ndarray, maxval: int) -> bytes:
    kind = "P6" if values.ndim == 3 else "P5"
    return f"{kind}\n# made\n{values.shape[1]} {values.shape[0]}\n{maxval}\n".encode() + values.astype(">u2").tobytes()


def shown(data: bytes) -> np.ndarray:
    return np.asarray(render(decode_image(data, max_pixels=10**6, min_side_px=8), 256)).astype(int)


@pytest.mark.parametrize(("maxval", "share"), [(2_295, 1), (3_000, 0.765), (30_000, 1), (65_535, 1)])
def test_colours_and_greys_are_seen_whatever_part_of_the_range_they_fill(maxval: int, share: float) -> None:
    for rgb in (RGB, GREY):
        expected = share * (rgb if rgb.ndim == 3 else rgb[..., None])
        assert np.abs(shown(ppm(rgb.astype(np.uint16) * 9, maxval)) - expected).mean() < 2


def test_colours_of_the_whole_range_are_those_of_the_decoder() -> None:
    values = RGB.astype(np.uint16) * 257
    assert np.array_equal(shown(ppm(values, 65_535)), RGB)


def test_deep_colours_that_are_cut_are_truncated() -> None:
    with pytest.raises(ImageRejected, match="truncated"):
        shown(ppm(RGB.astype(np.uint16) * 9, 4_095)[:-1_000])
