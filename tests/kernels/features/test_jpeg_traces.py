"""All frequencies of a JPEG are counted at once, with the result that one after the other has."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.arrays import Float32, Int64
from dedup_spark.kernels.decoding.jpeg_structure import jpeg_structure
from dedup_spark.kernels.features import jpeg_traces as traces


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def steps_one_by_one(sizes: Float32, table: Int64) -> dict[int, int]:
    steps = {}
    for i, own in enumerate(table[traces._PLACES].tolist()):
        if not 0 < own <= 40:
            continue
        values = np.minimum(np.rint(sizes[:, i] / own), 48).astype(np.int64)
        counts = np.bincount(values, minlength=49)[:48].astype(np.float64)
        gaps = np.stack([traces._gaps_of(step / own) for step in range(own + 1, max(4 * own, 24) + 1)], axis=1)
        found, expected = gaps @ counts
        fits = np.flatnonzero((expected >= 20) & (found < 0.3 * expected))
        if len(fits):
            steps[i] = own + 1 + int(fits[-1])
    return steps


@pytest.mark.parametrize("name", ["coffee.png", "china.jpg", "astronaut.png"])
@pytest.mark.parametrize(("first", "second"), [(100, 90), (60, 80), (75, 96), (40, 98)])
def test_hidden_steps_are_those_found_one_by_one(name: str, first: int, second: int) -> None:
    photo = edits.scaled(load_sample_photo(name).convert("RGB"), 0.7)
    once = edits.encoded(photo, "JPEG", quality=first)
    data = edits.encoded(decoded(once), "JPEG", quality=second)
    table = jpeg_structure(data).luma_table
    assert table is not None
    luma = np.asarray(decoded(data).convert("L"), np.float32)[:256, :256]
    sizes = traces._coefficients(luma)
    assert traces._hidden_steps(sizes, table) == steps_one_by_one(sizes, table)


def test_a_table_with_steps_of_zero_and_large_ones_gives_no_steps_there() -> None:
    table = np.where(np.arange(64) % 2, 0, 200)
    sample = load_sample_photo("coffee.png").convert("RGB").crop((0, 0, 256, 256))
    assert traces.earlier_quality(sample, table) is None
    assert traces.earlier_quality(Image.new("RGB", (8, 8)), table) is None
