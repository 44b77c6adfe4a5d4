"""Thumbnails laid over each other: what re-encoding and resizing leave alone, and what edits and other pictures do."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.comparing import layout
from dedup_spark.kernels.comparing.layout import Differences
from dedup_spark.kernels.features.signature import PartsSettings, SignatureSettings, parts_of_image

Photo = Image.Image
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "flower.jpg", "motorcycle_left.png")
THUMBNAIL = PartsSettings(
    ("thumbnail",),
    SignatureSettings(max_pixels=10**9, min_side_px=8, thumbnail_px=256, thumbnail_quality=80, input_px=0),
)


def photos() -> list[Photo]:
    """Without their profiles, which some formats would keep and others drop."""
    found = [Image.fromarray(np.asarray(load_sample_photo(name).convert("RGB"))) for name in PHOTOS]
    for photo in found:
        photo.thumbnail((640, 640))
    return found


def stored(image: Photo, file_format: str = "JPEG", **options: int) -> bytes:
    """The file of an image."""
    return edits.encoded(image, file_format, **({"quality": 90} if file_format == "JPEG" else {}) | options)


def compared(pairs: list[tuple[bytes, bytes]]) -> Differences:
    """The files of each pair by their thumbnails."""
    described = [[layout.describe(parts_of_image(data, THUMBNAIL)["thumbnail"]) for data in pair] for pair in pairs]
    a, b = (np.stack([np.frombuffer(pair[k][0], np.uint8) for pair in described]) for k in (0, 1))
    return layout.compare(a, b, np.array([min(pair[0][1], pair[1][1]) for pair in described]))


def differ(found: Differences) -> list[bool]:
    return (found.is_changed | found.is_toned).tolist()


RE_ENCODED: dict[str, Callable[[Photo], bytes]] = {
    "JPEG 20": lambda p: stored(p, quality=20),
    "JPEG 60": lambda p: stored(p, quality=60),
    "WebP": lambda p: stored(p, "WEBP", quality=50),
    "PNG": lambda p: stored(p, "PNG"),
    "CMYK": lambda p: stored(p.convert("CMYK")),
    "half the width": lambda p: stored(edits.scaled(p, 0.5)),
    "an odd size": lambda p: stored(p.resize((p.width * 7 // 11, p.height * 7 // 11), Image.Resampling.BICUBIC)),
    "a quarter": lambda p: stored(p.resize((p.width // 4, p.height // 4), Image.Resampling.BOX)),
    "64 px": lambda p: stored(p.resize((64, 64 * p.height // p.width), Image.Resampling.LANCZOS)),
}


@pytest.mark.parametrize("way", RE_ENCODED)
def test_a_copy_that_was_re_encoded_or_resized_fits_as_it_lies(way: str) -> None:
    found = compared([(stored(p, quality=95), RE_ENCODED[way](p)) for p in photos()])
    assert differ(found) == [False] * len(PHOTOS)
    assert found.share.max() < 0.005


def marked(photo: Photo) -> Photo:
    """With a date in a corner, as cameras print it."""
    dated, size = photo.copy(), photo.height // 15
    place = (photo.width - 6 * size, photo.height - 2 * size)
    ImageDraw.Draw(dated).text(place, "2019/05/12", fill=(255, 140, 0), font=ImageFont.load_default(size=size))
    return dated


EDITED: dict[str, Callable[[Photo], Photo]] = {
    "a margin of 2 %": lambda p: edits.cropped(p, 0.02, 0.02, 0.96),
    "a watermark": lambda p: edits.watermarked(p, "example.org", 0.5, 100),
    "a date": marked,
    "a sticker": lambda p: edits.stickered(p, [(0.4, 0.6, 0.1, (250, 220, 40))]),
    "a border": lambda p: ImageOps.expand(p, p.width // 40, "white"),
    "a caption": lambda p: edits.captioned(p, "mood"),
    "brighter by 10 %": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
    "less contrast": lambda p: ImageEnhance.Contrast(p).enhance(0.85),
    "less colour": lambda p: ImageEnhance.Color(p).enhance(0.7),
    "grey": lambda p: p.convert("L").convert("RGB"),
    "sepia": lambda p: ImageOps.colorize(p.convert("L"), "#1c1206", "#fff1d6"),
    "askew": lambda p: p.rotate(1.5, Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "upside down": lambda p: p.rotate(180),
}


@pytest.mark.parametrize("edit", EDITED)
def test_an_edited_copy_differs(edit: str) -> None:
    found = compared([(stored(p), stored(EDITED[edit](p))) for p in photos()])
    assert differ(found) == [True] * len(PHOTOS)
    assert found.is_turned.tolist() == [edit in ("mirrored", "upside down")] * len(PHOTOS)


def test_a_mirrored_or_turned_copy_is_known_as_such_after_compression() -> None:
    ways = (ImageOps.mirror, ImageOps.flip, *(lambda p, a=angle: p.rotate(a, expand=True) for angle in (90, 180, 270)))
    found = compared([(stored(p), stored(way(p), quality=40)) for p in photos() for way in ways])
    assert found.is_turned.all()


def test_a_tone_alone_is_told_from_a_change_of_structure() -> None:
    found = compared([(stored(p), stored(ImageEnhance.Brightness(p).enhance(0.85))) for p in photos()])
    assert (found.is_toned & ~found.is_changed).all()


def test_other_pictures_differ_also_where_there_is_little_to_see() -> None:
    """Gradients in two directions, two star fields, two pages of one letterhead; and each has copies that fit."""
    drawn = [gradient(0), gradient(1), stars(1), stars(2), page(1), page(2)]
    strangers = compared([(stored(a, "PNG"), stored(b, "PNG")) for a, b in zip(drawn[::2], drawn[1::2], strict=True)])
    assert differ(strangers) == [True] * 3
    copies = compared([(stored(a, "PNG"), stored(a, quality=85)) for a in drawn])
    assert differ(copies) == [False] * 6


def gradient(axis: int) -> Photo:
    ramp = np.linspace(20, 230, 480).astype(np.uint8)
    plane = np.broadcast_to(ramp[:, None] if axis else ramp, (480, 480))
    return Image.fromarray(np.ascontiguousarray(np.stack([plane, plane // 2, 255 - plane], axis=2)))


def stars(seed: int) -> Photo:
    rng = np.random.default_rng(seed)
    sky = np.full((480, 640), 8, np.uint8)
    sky[rng.integers(1, 479, 260), rng.integers(1, 639, 260)] = rng.integers(90, 255, 260)
    return Image.fromarray(sky).resize((1280, 960), Image.Resampling.BICUBIC).convert("RGB")


def page(seed: int) -> Photo:
    """A letterhead, and lines of words of a length that is drawn."""
    rng = np.random.default_rng(seed)
    sheet = Image.new("RGB", (620, 877), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((40, 30), "Example & Daughters, 12 Mill Lane", fill="black", font=ImageFont.load_default(size=22))
    for y in range(160, 820, 20):
        words = " ".join("x" * int(n) for n in rng.integers(2, 11, 9))
        draw.text((40, y), words, fill="black", font=ImageFont.load_default(size=13))
    return sheet


def test_pairs_do_not_depend_on_each_other() -> None:
    pairs = [(stored(a), stored(b)) for a in photos()[:3] for b in (a, ImageOps.mirror(a))]
    together, alone = compared(pairs), [compared([pair]) for pair in pairs]
    for name in ("share", "is_changed", "is_toned", "is_turned"):
        assert getattr(together, name).tolist() == [getattr(one, name)[0] for one in alone], name


def test_no_pairs_make_no_differences() -> None:
    none = np.empty((0, layout.N_BYTES), np.uint8)
    found = layout.compare(none, none, np.empty(0, np.int64))
    assert found.share.shape == found.is_changed.shape == found.is_toned.shape == found.is_turned.shape == (0,)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="a thumbnail cannot be decoded"):
        layout.describe(b"no image")
    tiny = io.BytesIO()
    Image.new("L", (3, 200)).save(tiny, "PNG")
    described, shorter_px = layout.describe(tiny.getvalue())
    assert (len(described), shorter_px) == (layout.N_BYTES, 3)
