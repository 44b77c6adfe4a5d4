"""The previews of camera RAW that may stand for the image."""

from __future__ import annotations

import numpy as np
import pytest
from odd_bytes import DNG, encoded, raw_file
from odd_files import DNG_CAMERA, exif, picture
from PIL import Image

from dedup_spark.kernels.decoding import raw
from dedup_spark.kernels.decoding.images import decode_image


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


@pytest.mark.parametrize(("side", "shown"), [(2046, 2046), (2048, 1024)])
def test_a_raw_file_is_halved_only_where_half_of_it_is_enough(side: int, shown: int) -> None:
    rgb = np.asarray(Image.fromarray(picture()).resize((side, side * 2 // 3 // 2 * 2), Image.Resampling.BICUBIC))
    image = decode_image(raw_file(rgb, DNG_CAMERA, more=DNG), max_pixels=10**7, min_side_px=8)
    assert image.size[0] == side
    assert image.pixels.size[0] == shown


def test_a_preview_that_has_an_orientation_of_its_own_is_turned_by_it() -> None:
    lying = Image.fromarray(np.ascontiguousarray(picture()[::-1, ::-1]))
    jpeg = encoded(lying, "JPEG", quality=95, exif=exif(3))
    preview = jpeg[:2] + jpeg[20:]  # without the JFIF header, as cameras write it: the EXIF header comes first
    image = decode_image(raw_file(picture(), DNG_CAMERA, preview, more=DNG), max_pixels=10**7, min_side_px=8)
    assert image.decoder == "rawpy preview"
    assert np.abs(np.asarray(image.pixels).astype(int) - picture()).mean() < 15
