from __future__ import annotations

import numpy as np
import pytest
from cykooz_resizer import CpuExtensions, Resizer
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.features import resizing
from dedup_spark.kernels.features.resizing import resized

FILTERS = ["box", "bilinear", "bicubic", "lanczos"]
SIZES = [(256, 171), (224, 224), (171, 256), (800, 900), (1, 1), (1, 90)]


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FILTERS)
def test_it_is_pillows_filter_with_columns_first(name: str, size: tuple[int, int]) -> None:
    photo = load_sample_photo("coffee.png").convert("RGB").resize((500, 380))
    turned = photo.transpose(Image.Transpose.TRANSPOSE).resize(size[::-1], Image.Resampling[name.upper()])
    difference = np.abs(levels(resized(photo, size, name)) - levels(turned.transpose(Image.Transpose.TRANSPOSE)))
    assert np.mean(difference <= 1) > 0.99
    assert difference.mean() < 0.3


@pytest.mark.parametrize("name", FILTERS)
def test_photos_are_a_fraction_of_a_level_off_pillows(name: str) -> None:
    photo = load_sample_photo("chelsea.png").convert("RGB")
    theirs = photo.resize((256, 170), Image.Resampling[name.upper()])
    assert np.abs(levels(resized(photo, (256, 170), name)) - levels(theirs)).mean() < 0.5


def test_the_processor_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = load_sample_photo("coffee.png").convert("RGB")
    fast = levels(resized(photo, (224, 224), "bicubic"))
    plain = Resizer()
    plain.cpu_extensions = CpuExtensions.none
    monkeypatch.setattr(resizing, "Resizer", lambda: plain)
    np.testing.assert_array_equal(levels(resized(photo, (224, 224), "bicubic")), fast)


def test_a_filter_that_it_lacks_is_pillows_own() -> None:
    photo = load_sample_photo("coffee.png").convert("RGB")
    theirs = photo.resize((90, 70), Image.Resampling.HAMMING)
    np.testing.assert_array_equal(levels(resized(photo, (90, 70), "hamming")), levels(theirs))


def test_the_picture_stays_as_it_was() -> None:
    photo = load_sample_photo("coffee.png").convert("RGB")
    before = photo.tobytes()
    assert resized(photo, photo.size, "lanczos").tobytes() == before == photo.tobytes()
