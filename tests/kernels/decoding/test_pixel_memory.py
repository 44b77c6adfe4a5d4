"""The memory of Pillow's pixels is what Pillow itself says, whatever the size and the number of blocks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dedup_spark.kernels.decoding import pixel_memory
from dedup_spark.kernels.decoding.frames import Frames
from dedup_spark.kernels.decoding.opened import Limits, Opened

SIZES = ((1, 1), (7, 3), (500, 375), (3, 5000), (60_000, 17), (2300, 1900), (2300, 1823))  # 16 MiB: 2300 x 1823.6


def _any(width: int, height: int) -> None:
    """Every size is welcome."""


def _noise(mode: str, size: tuple[int, int]) -> Image.Image:
    n_bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], n_bands), np.uint8)
    return Image.frombytes(mode, size, values.tobytes())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rgb_in_rows_is_what_tobytes_gives(size: tuple[int, int]) -> None:
    image = _noise("RGB", size)
    assert b"".join(rows.tobytes() for rows in pixel_memory.rgb_in_rows(image)) == image.tobytes()
    assert np.array_equal(pixel_memory.as_array(image), np.asarray(image))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_the_memory_of_four_byte_modes_has_their_values(mode: str) -> None:
    image = _noise(mode, (31, 17))
    pixels = pixel_memory.pixels_in_memory(image)
    assert pixels is not None
    assert np.array_equal(pixels[..., : len(image.getbands())], np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "I;16", "F", "1"])
def test_other_modes_are_not_read_from_memory(mode: str) -> None:
    assert pixel_memory.pixels_in_memory(Image.new(mode, (8, 8))) is None


def test_memory_that_is_looked_at_outlives_its_image() -> None:
    image = _noise("RGB", (400, 300))
    wanted = np.asarray(image).copy()
    pixels = pixel_memory.pixels_in_memory(image)
    del image
    others = [Image.new("RGB", (400, 300), "red") for _ in range(50)]
    assert pixels is not None
    assert np.array_equal(pixels[..., :3], wanted)
    assert len(others) == 50


@pytest.mark.parametrize("size", [(64, 48), (2400, 1900)], ids=str)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_file_is_loaded_into_one_block_with_the_same_pixels(file_format: str, size: tuple[int, int]) -> None:
    out = io.BytesIO()
    _noise("RGB", size).resize(size).save(out, file_format, compress_level=1)
    plain, image = (Image.open(io.BytesIO(out.getvalue())) for _ in range(2))
    picture = Opened(image, out.getvalue(), file_format, Frames((0,)), Limits(1, _any)).picture(0, _any)
    assert pixel_memory.pixels_in_memory(picture.pixels) is not None
    assert picture.pixels.tobytes() == plain.tobytes()


def test_the_allocator_of_pillow_is_as_before() -> None:
    before = Image.core.get_use_block_allocator()
    assert pixel_memory.pixels_in_memory(pixel_memory.in_one_block((3000, 2000))) is not None
    assert Image.core.get_use_block_allocator() == before
