"""Samples of blocks: whole numbers of steps of a JPEG file, however small the picture; clipped blocks are marked."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.arrays import Float32, Int64
from dedup_spark.kernels.features import block_sample, jpeg_traces


def photo() -> Image.Image:
    return edits.scaled(load_sample_photo("chelsea.png").convert("RGB"), 0.5)


def described(image: Image.Image, quality: int) -> tuple[Float32, Int64]:
    """(sizes of all blocks, steps) of a picture saved as a JPEG."""
    stored = Image.open(io.BytesIO(edits.encoded(image, "JPEG", quality=quality)))
    table = np.array(stored.quantization[0], np.int64)  # type: ignore[attr-defined]
    return jpeg_traces.block_sizes(stored.convert("RGB").crop((0, 0, 256, 192))), jpeg_traces.steps_of(table)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_sample_of_a_jpeg_holds_whole_numbers_of_its_steps(quality: int) -> None:
    sizes, steps = described(photo(), quality)
    packed = block_sample.pack(sizes, steps)
    found_steps, values = block_sample.unpack(packed, jpeg_traces.N_FREQUENCIES)
    kept = (values != block_sample.LOST).all(axis=1)
    difference = np.abs(values * steps - sizes[::3, ::4].reshape(64, -1))[kept]
    assert np.array_equal(found_steps, steps)
    assert kept.mean() > 0.8
    assert np.quantile(difference, 0.9) < 1
    assert len(packed) < 1500


def test_a_lossless_picture_is_described_in_steps_of_1() -> None:
    sizes = jpeg_traces.block_sizes(photo())
    steps, values = block_sample.unpack(block_sample.pack(sizes, None), jpeg_traces.N_FREQUENCIES)
    assert (steps == 1).all()
    assert values.max() > 100
    assert len(values) == 64


@pytest.mark.parametrize(("size", "n_blocks"), [((7, 200), 0), ((16, 9), 2), ((64, 64), 64), ((70, 24), 24)])
def test_small_pictures_give_the_blocks_that_they_have(size: tuple[int, int], n_blocks: int) -> None:
    sizes = jpeg_traces.block_sizes(photo().crop((0, 0, *size)))
    values = block_sample.unpack(block_sample.pack(sizes, None), jpeg_traces.N_FREQUENCIES)[1]
    assert values.shape == (n_blocks, jpeg_traces.N_FREQUENCIES)


def test_blocks_whose_colours_were_clipped_are_lost() -> None:
    image = Image.linear_gradient("L").resize((300, 200)).point(lambda v: 64 + v // 2).convert("RGB")
    noise = np.random.default_rng(7).integers(0, 2, (64, 64, 1)).repeat(3, 2) * [255, 0, 255]
    image.paste(Image.fromarray(noise.astype(np.uint8)), (0, 0))
    values = block_sample.unpack(block_sample.pack(*described(image, 60)), jpeg_traces.N_FREQUENCIES)[1]
    lost = (values == block_sample.LOST).all(axis=1).reshape(8, 8)
    assert lost[:2, :2].all()
    assert not lost[3:, 3:].any()
