"""Edits: every kind gives an image that still decodes, the same one each time, and does what its name says."""

from __future__ import annotations

import inspect
import io
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps

from dedup_spark.kernels import edits
from dedup_spark.kernels.decoding.images import decode_image

SEED = 20_243


def photo(width_px: int = 240, height_px: int = 180) -> Image.Image:
    """Smooth shapes and some texture, no two corners alike."""
    y, x = np.mgrid[0:height_px, 0:width_px] / height_px
    texture = np.random.default_rng(SEED).normal(0, 12, (height_px, width_px))
    channels = [120 + 90 * np.sin(a * x + b * y * y) + texture for a, b in ((3, 5), (7, 2), (2, 9))]
    return Image.fromarray(np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8))


def copied(kinds: tuple[str, ...], image_id: int = 1, source: Image.Image | None = None) -> bytes:
    return edits.edited_copy(source or photo(), kinds, edits.copy_generator(SEED, image_id, 0))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("kind", edits.EDITS)
def test_a_copy_is_the_same_bytes_each_time_and_another_with_another_image(kind: str) -> None:
    assert copied((kind,)) == copied((kind,))
    assert len({copied((kind,), image_id) for image_id in range(12)}) > 1


@pytest.mark.parametrize("kind", edits.EDITS)
@pytest.mark.parametrize("size", [(240, 180), (75, 56), (40, 300)], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_copy_of_any_photo_is_read_by_the_decoder_of_the_product(kind: str, size: tuple[int, int], mode: str) -> None:
    for image_id in range(4):
        data = copied((kind,), image_id, photo(*size).convert(mode))
        assert min(decode_image(data, max_pixels=10**7, min_side_px=16).size) >= 16


def test_negative_ids_have_copies_of_their_own() -> None:
    assert copied(("crop",), -5) != copied(("crop",), 5)


def test_edits_add_up_in_the_order_given() -> None:
    framed = opened(copied(("flip", "screenshot")))
    assert framed.height > photo().height
    assert framed.width == photo().width


@pytest.mark.parametrize("kind", ["compression", "format", "resolution"])
def test_re_encoding_keeps_the_hash_near(kind: str) -> None:
    for image_id in range(8):
        assert imagehash.phash(opened(copied((kind,), image_id))) - imagehash.phash(photo()) <= 8


def test_compression_is_stronger_than_a_plain_save() -> None:
    assert max(len(copied(("compression",), i)) for i in range(8)) < min(len(copied((), i)) for i in range(8))


def test_a_flip_mirrors_one_axis() -> None:
    mirrors = [np.asarray(turned(photo())).astype(int) for turned in (ImageOps.mirror, ImageOps.flip)]
    found = {
        int(np.argmin([np.abs(np.asarray(opened(copied(("flip",), i))).astype(int) - m).mean() for m in mirrors]))
        for i in range(12)
    }
    assert found == {0, 1}


def test_a_crop_keeps_at_least_three_fifths_of_each_side() -> None:
    for image_id in range(20):
        width, height = opened(copied(("crop",), image_id)).size
        assert 0.59 * 240 <= width <= 0.96 * 240
        assert 0.59 * 180 <= height <= 0.96 * 180


RANGES = {
    "resolution": ("scaled", {"factor": (0.25, 0.9)}),
    "crop": ("cropped", {"left": (0, 0.4), "top": (0, 0.4), "share": (0.6, 0.95)}),
    "rotation": ("rotated", {"degrees": (-10, 10)}),
    "colour": ("relit", {"brightness": (0.65, 1.4), "contrast": (0.65, 1.4), "saturation": (0.4, 1.8)}),
    "watermark": ("watermarked", {"centre": (0.4, 0.6), "opacity": (80, 199)}),
    "screenshot": ("screenshot", {"frame": (0, 2), "bar_units": (2, 7)}),
}


@pytest.mark.parametrize("edit", RANGES)
def test_parameters_are_drawn_from_the_whole_of_their_range(edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, ranges = RANGES[edit]
    signature = inspect.signature(getattr(edits, name))
    drawn: list[dict[str, Any]] = []

    def record(*values: Any, **named: Any) -> Image.Image:
        drawn.append(signature.bind(*values, **named).arguments)
        return drawn[-1]["photo"]

    monkeypatch.setattr(edits, name, record)
    photo, rng = Image.new("RGB", (400, 300)), np.random.default_rng(1)
    for _ in range(1500):
        edits._OF_PIXELS[edit](photo, rng)
    for parameter, (low, high) in ranges.items():
        found = [d[parameter] for d in drawn]
        assert low <= min(found) <= low + 0.1 * (high - low), parameter
        assert high - 0.1 * (high - low) <= max(found) <= high, parameter
    if edit == "rotation":
        assert min(abs(d["degrees"]) for d in drawn) >= 1


def test_one_to_three_stickers_lie_anywhere_but_at_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(edits, "stickered", lambda photo, spots: drawn.append(spots) or photo)
    rng = np.random.default_rng(1)
    for _ in range(500):
        edits._OF_PIXELS["overlay"](Image.new("RGB", (40, 30)), rng)
    assert {len(spots) for spots in drawn} == {1, 2, 3}
    for place, (low, high) in enumerate([(0.15, 0.85), (0.15, 0.85), (0.14, 0.33)]):
        found = [spot[place] for spots in drawn for spot in spots]
        assert low <= min(found) < low + 0.02
        assert high - 0.02 < max(found) <= high
    assert {max(spot[3][c] for spots in drawn for spot in spots) for c in range(3)} == {255}


def test_a_watermark_stands_at_three_heights_of_the_photo() -> None:
    marked = np.asarray(edits.watermarked(Image.new("RGB", (400, 400)), "SAMPLE", 0.5, 255).convert("L"))
    inked = np.flatnonzero(marked.max(axis=1) > 128)
    lines = np.split(inked, np.flatnonzero(np.diff(inked) > 20) + 1)
    assert [round(float(line.mean()) / 400, 1) for line in lines] == [0.2, 0.5, 0.8]
