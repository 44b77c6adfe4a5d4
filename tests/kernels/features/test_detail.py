"""Few lines are made grey, and they are those that a grey picture would have."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.features import detail


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("size", [(64, 64), (65, 200), (127, 128), (129, 511), (512, 512), (500, 333)])
def test_the_lines_looked_at_are_those_of_the_grey_picture(size: tuple[int, int], mode: str) -> None:
    picture = load_sample_photo("coffee.png").resize(size).convert(mode)
    grey = np.asarray(picture.convert("L"))
    steps = [max(1, n // 64) for n in grey.shape]
    assert np.array_equal(detail._rows(picture), grey[:: steps[0]])
    assert np.array_equal(detail._columns(picture), grey[:, :: steps[1]].T)


def test_detail_that_ends_along_one_side_alone_is_no_enlargement() -> None:
    photo = load_sample_photo("astronaut.png").convert("RGB")
    wide = photo.resize((3 * photo.width, photo.height), Image.Resampling.BICUBIC)
    both = photo.resize((3 * photo.width, 3 * photo.height), Image.Resampling.BICUBIC)
    assert detail.detail_share(wide.crop((0, 0, 512, 512))) == 1.0
    assert detail.detail_share(wide.transpose(Image.Transpose.TRANSPOSE).crop((0, 0, 512, 512))) == 1.0
    assert detail.detail_share(both.crop((0, 0, 512, 512))) < 0.6
