"""The picture of a TIFF is its first whole page, wherever its reduced copies and masks are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from odd_bytes import DNG, STRIPS, raw_file, tiff, tiff_tags
from odd_files import picture

from dedup_spark.kernels.decoding.formats import sniff_format
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.tiff_previews import before_previews

RGB = picture()
SMALL, GREY = RGB[::4, ::4].copy(), RGB[::4, ::4, 0].copy()
DEEP = RGB.astype(np.uint16) * 257


def written(*pages: tuple[np.ndarray, dict[str, Any]], **how: Any) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out, **how) as writer:
        for values, tags in pages:
            writer.write(values, metadata=None, photometric="rgb" if values.ndim == 3 else "minisblack", **tags)
    return out.getvalue()


REDUCED = {"subfiletype": 1}
OLD = [{"extratags": [(255, 3, 1, kind, True)]} for kind in (1, 2)]
FILES = {
    "in the chain": [(SMALL, REDUCED), (RGB, {})],
    "by the older tag": [(SMALL, OLD[1]), (RGB, OLD[0])],
    "behind": [(RGB, {}), (SMALL, REDUCED), (GREY, REDUCED)],
    "above it": [(SMALL, REDUCED | {"subifds": 1}), (RGB, {})],
    "above 16 bits": [(GREY, REDUCED | {"subifds": 1}), (DEEP, {})],
    "above another": [(SMALL, REDUCED | {"subifds": 2}), (SMALL, REDUCED), (RGB, {})],
    "below it": [(RGB, {"subifds": 1}), (SMALL, REDUCED)],
}


@pytest.mark.parametrize("how", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=["", "MM", "big"])
@pytest.mark.parametrize("name", FILES)
def test_the_picture_is_the_whole_page(name: str, how: dict[str, Any]) -> None:
    image = decode_image(written(*FILES[name], **how), max_pixels=10**6, min_side_px=8)
    assert image.n_frames == 1
    assert np.array_equal(np.asarray(image.pixels), RGB)


@pytest.mark.parametrize("kind", [4, 5])
def test_a_mask_is_no_picture(kind: int) -> None:
    mask = tiff_tags(96, 64, 4, 1, 1) | {254: (4, [kind])}
    page = tiff_tags(96, 64, 2, 8, 3)
    data = tiff((mask, bytes(12 * 64), STRIPS), (page, RGB.tobytes(), STRIPS))  # the page below its mask
    assert np.array_equal(np.asarray(decode_image(data, max_pixels=10**6, min_side_px=8).pixels), RGB)


def test_a_file_of_previews_alone_shows_the_first_and_is_left_as_it_is() -> None:
    data = written((SMALL, REDUCED), (RGB, REDUCED))
    assert before_previews(data) is data
    assert decode_image(data, max_pixels=10**6, min_side_px=8).size == (24, 16)


def test_a_preview_above_sensor_data_is_still_camera_raw() -> None:
    assert sniff_format(raw_file(RGB, (b"Test", b"Odd"))) == "RAW"
    assert sniff_format(raw_file(RGB, (b"Test", b"Odd"), more=DNG)) == "DNG"
    nef = written((SMALL, REDUCED | {"subifds": 1, "extratags": [(271, "s", 0, "NIKON CORPORATION", True)]}), (RGB, {}))
    assert sniff_format(nef) == "NEF"
    assert sniff_format(written(*FILES["above it"])) == "TIFF"
