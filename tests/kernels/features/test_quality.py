from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFilter

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.features import quality


def test_a_flat_image_is_blank_by_every_measure() -> None:
    flat = np.full((64, 64), 77, np.uint8)
    assert (quality.sharpness(flat), quality.luma_stddev(flat), quality.entropy_bits(flat)) == (0.0, 0.0, 0.0)


def test_two_equal_halves_have_one_bit_of_entropy() -> None:
    halves = np.repeat([0, 255], 32 * 64).astype(np.uint8).reshape(64, 64)
    assert quality.entropy_bits(halves) == 1.0
    assert quality.luma_stddev(halves) == 127.5


def test_blur_lowers_sharpness() -> None:
    photo = load_sample_photo("chelsea.png").convert("L")
    values = [quality.sharpness(np.asarray(photo.filter(ImageFilter.GaussianBlur(r)))) for r in (0, 1, 3)]
    assert values[0] > 2 * values[1] > 4 * values[2]


@pytest.mark.parametrize("shape", [(1, 1), (7, 31), (171, 256), (256, 256)])
def test_the_tables_of_levels_give_what_plain_formulas_give(shape: tuple[int, int]) -> None:
    for most in (2, 40, 256):
        grey = np.random.default_rng(most).integers(0, most, shape).astype(np.uint8)
        share = np.bincount(grey.ravel()) / grey.size
        share = share[share > 0]
        assert quality.luma_stddev(grey) == pytest.approx(grey.std(dtype=np.float64), rel=1e-12)
        assert quality.entropy_bits(grey) == -(share * np.log2(share)).sum() + 0.0


def test_images_too_thin_for_a_laplacian_have_no_sharpness() -> None:
    assert quality.sharpness(np.zeros((2, 50), np.uint8)) == 0.0
