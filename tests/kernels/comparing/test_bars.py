"""Bars that were added on two sides of another picture are told from what lies beside a crop of it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.comparing import bars, layout

Photo = Image.Image
NAMES = ("coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png")


def photo(name: str) -> Photo:
    image = Image.fromarray(np.asarray(load_sample_photo(name).convert("RGB")))
    image.thumbnail((600, 600))
    return image


def blurred(image: Photo, size: tuple[int, int]) -> Photo:
    return ImageOps.fit(image, size).filter(ImageFilter.GaussianBlur(max(size) / 40))


def darkened(image: Photo, size: tuple[int, int]) -> Photo:
    return blurred(image, size).point(lambda level: level // 2)


def grey(_: Photo, size: tuple[int, int]) -> Photo:
    return Image.new("RGB", size, "#202020")


def with_bars(image: Photo, ground: Callable[[Photo, tuple[int, int]], Photo], ratio: float) -> Photo:
    """Bars above and below for a `ratio` below that of the image, else beside it."""
    width, height = image.size
    size = max(width, round(height * ratio)), max(height, round(width / ratio))
    whole = ground(image, size)
    whole.paste(image, ((size[0] - width) // 2, (size[1] - height) // 2))
    return whole


def jpeg_of(image: Photo) -> bytes:
    return edits.encoded(ImageOps.contain(image, (256, 256)), "JPEG", quality=80)


def found(image: Photo, other: Photo) -> tuple[tuple[int, float, float] | None, bool]:
    """The strip in which `other` lies in `image`, and whether there are bars beside it."""
    cells = [
        np.frombuffer(layout.describe(jpeg_of(i))[0], np.uint8)[: layout.CELLS**2].reshape(layout.CELLS, layout.CELLS)
        for i in (image, other)
    ]
    log_ratio = np.log(other.width / other.height) - np.log(image.width / image.height)
    strip = bars.find_strip(cells[0], cells[1], float(log_ratio))
    return strip, strip is not None and bars.has_bars(bars.unpack(bars.describe(jpeg_of(image))), strip)


@pytest.mark.parametrize("ground", [blurred, darkened, grey], ids=lambda ground: ground.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_bars_are_found_above_and_below_and_beside(
    name: str, ground: Callable[[Photo, tuple[int, int]], Photo]
) -> None:
    image = photo(name)
    for axis, ratio in ((0, image.width / image.height * 0.7), (1, image.width / image.height * 1.5)):
        strip, has_bars = found(with_bars(image, ground, ratio), edits.scaled(image, 0.6))
        assert has_bars
        assert strip is not None
        assert strip[0] == axis
        assert strip[1:] == pytest.approx((0.5 - (strip[2] - strip[1]) / 2, 0.5 + (strip[2] - strip[1]) / 2), abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_beside_a_crop_is_no_bar(name: str) -> None:
    """The strip is found in the same way; brightness and detail go on behind its ends."""
    image = photo(name)
    width, height = image.size
    for box in ((0, height // 5, width, height - height // 5), (width // 5, 0, width - width // 5, height)):
        strip, has_bars = found(image, image.crop(box))
        assert strip is not None
        assert not has_bars
        assert not found(image.crop(box), image)[1]  # what is narrower holds no strip of the whole


def test_another_picture_is_no_strip() -> None:
    coffee, cat = photo("coffee.png"), photo("chelsea.png")
    assert found(with_bars(coffee, blurred, 1.0), ImageOps.fit(cat, coffee.size)) == (None, False)


def test_plain_pictures_and_strips_of_a_line_are_none() -> None:
    plain, cells = np.full((24, 24), 90, np.uint8), np.arange(576, dtype=np.uint8).reshape(24, 24)
    assert bars.find_strip(plain, cells, 0.4) is None
    assert bars.find_strip(cells, plain, 0.4) is None
    assert bars.find_strip(cells, cells, 5.0) is None
    assert bars.find_strip(cells, cells, 0.0) is None


def test_a_strip_that_reaches_an_edge_has_no_two_bars() -> None:
    image = photo("coffee.png")
    lines = bars.unpack(bars.describe(jpeg_of(with_bars(image, blurred, 1.0))))
    assert not bars.has_bars(lines, (0, 0.0, 0.67))
    assert not bars.has_bars(lines, (0, 0.33, 1.0))


def test_lines_are_stored_to_three_percent() -> None:
    image = photo("rocket.jpg").convert("L")
    jpeg = jpeg_of(image)
    lines = bars.unpack(bars.describe(jpeg))
    levels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), np.float64)
    height, width = levels.shape
    assert [len(part) for part in (*lines.across, *lines.along)] == [height - 1, width - 1, height, width]
    across = np.abs(np.diff(levels, axis=0)).mean(axis=1)
    along = np.abs(np.diff(levels, axis=0)).mean(axis=0)
    assert lines.across[0] == pytest.approx(across, rel=0.035, abs=0.02)
    assert lines.along[1] == pytest.approx(along, rel=0.035, abs=0.02)


def test_what_is_no_image_is_refused() -> None:
    for data in (b"", b"no image"):
        with pytest.raises(ValueError, match="cannot be decoded"):
            bars.describe(data)


def test_pairs_of_another_shape_are_ordered() -> None:
    found = bars.another_shape(np.log(np.array([1.5, 1.51, 1.0])))
    assert found.tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
