"""The square that a model takes, from pictures of any shape."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.features.model_input import InputSettings, model_input

CROP = InputSettings(224, "bilinear", "crop")
FILTERS = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (300, 300), (257, 256), (100, 90), (16, 150), (1001, 333)])
@pytest.mark.parametrize("resize", FILTERS)
def test_a_crop_is_that_of_torchvisions_reference(size: tuple[int, int], resize: str) -> None:
    photo = load_sample_photo("astronaut.png").convert("RGB").resize(size)
    theirs = v2.Compose([v2.Resize(256, FILTERS[resize]), v2.CenterCrop(224)])(photo)
    np.testing.assert_array_equal(model_input(photo, InputSettings(224, resize, "crop")), np.asarray(theirs))


def test_a_squashed_picture_is_whole() -> None:
    photo = Image.new("RGB", (600, 300))
    photo.paste("red", (0, 0, 40, 300))
    squashed, cut = (model_input(photo, InputSettings(224, "bicubic", square)) for square in ("squash", "crop"))
    assert squashed[:, :8, 0].min() > 200
    assert cut[:, :8, 0].max() == 0
    assert squashed.shape == cut.shape == (224, 224, 3)


@pytest.mark.parametrize("size", [(16, 200_000), (200_000, 16)])
def test_a_long_strip_does_not_grow_with_its_length(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    strip, sizes = Image.new("RGB", size, "white"), []
    resized = Image.Image.resize

    def recorded(image: Image.Image, wanted: tuple[int, int], *rest: object) -> Image.Image:
        sizes.append(wanted)
        return resized(image, wanted, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", recorded)
    assert model_input(strip, CROP).shape == (224, 224, 3)
    assert max(max(wanted) for wanted in sizes) <= 2560


def test_of_a_strip_the_middle_is_taken() -> None:
    marked = Image.new("RGB", (40_000, 20))
    marked.paste("white", (19_999, 0, 20_001, 20))
    columns = model_input(marked, CROP).mean(axis=(0, 2))
    assert columns[111:113].min() == 255
    assert columns == pytest.approx(columns[::-1], abs=1)


def test_the_name_says_filter_and_sizes() -> None:
    assert CROP.name == "crop-bilinear-256-224"
    assert InputSettings(256).name == "squash-bicubic-256"
    assert InputSettings(256, "box", "crop").name == "crop-box-293-256"
