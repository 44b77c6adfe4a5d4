"""Hashes are of the picture that a person sees: profiles by what they do, transparency, values that are none."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
import tifffile
from odd_bytes import encoded, icc_profile, png, png_rows
from PIL import Image, ImageCms, ImageDraw

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.decoding import colours
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.features.signature import (
    PartsSettings,
    Signature,
    SignatureSettings,
    parts_of_image,
    sign_image,
)

SETTINGS = SignatureSettings(max_pixels=10**8, min_side_px=8, thumbnail_px=256, thumbnail_quality=90, input_px=64)
SIZE = (120, 96)


def signed(data: bytes) -> Signature:
    return sign_image(data, SETTINGS)


def bits(a: Signature, b: Signature) -> int:
    return ((a.phash ^ b.phash) & (2**64 - 1)).bit_count()


def photo(name: str = "coffee.png") -> Image.Image:
    return load_sample_photo(name).convert("RGB").resize(SIZE, Image.Resampling.BOX)


def thumbnail(signature: Signature) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(signature.thumbnail)).convert("RGB")).astype(int)


def with_curve(profile: bytes, gamma: float) -> bytes:
    """The RGB profile with primaries of sRGB and another curve and name."""
    made = profile.replace(b"curv\0\0\0\0\0\0\0\1\x02\x33", b"curv\0\0\0\0\0\0\0\1" + round(gamma * 256).to_bytes(2))
    assert gamma == 2.2 or made != profile
    return made


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LINEAR = with_curve(icc_profile("RGB"), 1.0)


def in_linear_light(image: Image.Image) -> Image.Image:
    """The numbers under the profile LINEAR that look like `image`."""
    as_linear = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), io.BytesIO(LINEAR), "RGB", "RGB")
    found = ImageCms.applyTransform(image, as_linear)
    return Image.fromarray(np.asarray(found))  # without the profile, which Pillow adds


@pytest.mark.parametrize("name", [b"odd RGB", b"my sRGB"])
def test_a_profile_of_linear_light_is_applied_whatever_its_name(name: bytes) -> None:
    plain = signed(encoded(photo(), "PNG"))
    linear = signed(encoded(in_linear_light(photo()), "PNG", icc_profile=LINEAR.replace(b"odd RGB", name)))
    assert bits(plain, linear) <= 2
    assert np.abs(thumbnail(plain) - thumbnail(linear)).mean() < 4
    as_numbers = signed(encoded(in_linear_light(photo()), "PNG"))
    assert linear.pixel_hash != as_numbers.pixel_hash


def test_profiles_that_show_the_same_are_one_and_srgb_is_none() -> None:
    plain, named = encoded(photo(), "PNG"), encoded(photo(), "PNG", icc_profile=SRGB)
    assert signed(plain).pixel_hash == signed(named).pixel_hash
    one, other = (encoded(photo(), "PNG", icc_profile=LINEAR.replace(b"odd", word)) for word in (b"odd", b"own"))
    assert signed(one).pixel_hash == signed(other).pixel_hash != signed(plain).pixel_hash
    adobe = load_sample_photo("rocket.jpg").info["icc_profile"]
    assert signed(encoded(photo(), "PNG", icc_profile=adobe)).pixel_hash not in {
        signed(plain).pixel_hash, signed(one).pixel_hash,
    }  # fmt: skip


def test_a_profile_is_tried_once_and_a_broken_one_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(colours.ImageCms, "buildTransform", lambda *args: tried.append(args) or 1 / 0)
    fresh = LINEAR.replace(b"odd", b"new")
    with pytest.raises(ZeroDivisionError):
        colours.colours_of(fresh, "RGB", False)
    monkeypatch.undo()
    assert colours.colours_of(fresh, "RGB", False) is colours.colours_of(bytes(bytearray(fresh)), "RGB", False)
    assert colours.colours_of(b"no profile", "RGB", False) is None
    assert colours.colours_of(SRGB, "RGB", False) is None
    assert len(tried) == 1


def drawing(seed: int, colour: str, hidden: str = "black") -> Image.Image:
    """A few strokes; `hidden` is the colour under what is transparent."""
    rng = np.random.default_rng(seed)
    alpha = Image.new("L", SIZE)
    pen = ImageDraw.Draw(alpha)
    for _ in range(5):
        x, y, width, height = (int(v) for v in rng.integers(5, 60, 4))
        pen.ellipse((x, y, x + width, y + height), outline=255, width=4)
        pen.line((y, x, 100 - height, width), fill=160, width=5)
    rgb = Image.new("RGB", SIZE, hidden)
    rgb.paste(colour, (0, 0, *SIZE), alpha.point(lambda v: 255 * (v > 0)))
    rgb.putalpha(alpha)
    return rgb


@pytest.mark.parametrize("colour", ["black", "white", "yellow", "#808080", "#eeeeee"])
def test_drawings_on_a_transparent_ground_are_told_apart_and_their_copies_found(colour: str) -> None:
    drawings = [signed(encoded(drawing(seed, colour), "PNG")) for seed in range(6)]
    assert min(bits(a, b) for a, b in itertools.combinations(drawings, 2)) > 8
    assert min(d.luma_stddev for d in drawings) > 2  # not blank
    for seed, original in enumerate(drawings):
        assert signed(encoded(drawing(seed, colour, "pink"), "PNG")).pixel_hash == original.pixel_hash
        assert bits(original, signed(encoded(drawing(seed, colour, "green"), "WEBP", quality=85))) <= 3
        large = drawing(seed, colour).resize((240, 192), Image.Resampling.LANCZOS)
        assert bits(original, signed(encoded(large, "PNG"))) <= 3


def test_what_was_saved_on_white_matches_the_transparent_original() -> None:
    for seed, colour in enumerate(("black", "red", "yellow", "#dddddd")):
        original = drawing(seed, colour)
        on_white = Image.alpha_composite(Image.new("RGBA", SIZE, "white"), original).convert("RGB")
        assert bits(signed(encoded(original, "PNG")), signed(encoded(on_white, "JPEG", quality=90))) <= 6


def test_alpha_is_seen_by_the_pixel_hash_and_what_is_under_it_is_not() -> None:
    one = photo().convert("RGBA")
    one.putalpha(200)
    other = one.copy()
    other.putalpha(201)
    assert signed(encoded(one, "PNG")).pixel_hash != signed(encoded(other, "PNG")).pixel_hash
    hidden = one.copy()
    hidden.putpixel((3, 3), (9, 9, 9, 0))
    also = one.copy()
    also.putpixel((3, 3), (200, 9, 9, 0))
    assert signed(encoded(hidden, "PNG")).pixel_hash == signed(encoded(also, "PNG")).pixel_hash


def test_pictures_that_are_wholly_transparent_are_blank_and_equal_only_where_all_numbers_are() -> None:
    pictures = [photo(name).convert("RGBA") for name in ("coffee.png", "chelsea.png")]
    for picture in pictures:
        picture.putalpha(0)
    one, other = (signed(encoded(p, "PNG")) for p in pictures)
    assert one.pixel_hash != other.pixel_hash
    assert one.luma_stddev == other.luma_stddev == 0


def grey_png(values: np.ndarray, n_bits: int, key: int) -> bytes:
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., -n_bits:].reshape(len(values), -1), axis=1)
    return png(png_rows(packed), values.shape[::-1], n_bits, 0, [(b"tRNS", key.to_bytes(2))])


@pytest.mark.parametrize("n_bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_a_png_is_found_at_every_depth(n_bits: int) -> None:
    highest = 2**n_bits - 1
    values = np.tile((np.arange(32) * 51 % (highest + 1)).astype(np.uint8), (16, 1))
    image = decode_image(grey_png(values, n_bits, highest), max_pixels=10**6, min_side_px=8)
    assert np.array_equal(np.asarray(image.pixels)[..., 3] == 0, values == highest)


def test_the_transparent_value_of_a_deep_png_is_no_part_of_the_picture() -> None:
    values = np.asarray(photo().convert("L")).astype(np.uint16) * 200
    values[:40, :60] = 60_000
    keyed = signed(png(png_rows(values), SIZE, 16, 0, [(b"tRNS", (60_000).to_bytes(2))]))
    assert keyed.pixel_hash != signed(png(png_rows(values), SIZE, 16, 0)).pixel_hash
    shown = Image.fromarray((values // 256).astype(np.uint8))
    shown.paste(255, (0, 0, 60, 40))
    assert bits(keyed, signed(encoded(shown, "PNG"))) <= 3
    other = np.where(values == 60_000, 55_001, values)
    again = signed(png(png_rows(other), SIZE, 16, 0, [(b"tRNS", (55_001).to_bytes(2))]))
    assert again.pixel_hash == keyed.pixel_hash


def test_the_transparent_colour_of_a_png_of_16_bits_is_transparent() -> None:
    values = np.asarray(photo()).astype(np.uint16) * 200
    values[:40, :60] = (60_000, 1_000, 60_000)
    key = b"".join(v.to_bytes(2) for v in (60_000, 1_000, 60_000))
    image = decode_image(png(png_rows(values), SIZE, 16, 2, [(b"tRNS", key)]), max_pixels=10**6, min_side_px=8)
    assert np.asarray(image.pixels)[10, 10, 3] == 0
    assert np.asarray(image.pixels)[80, 80, 3] == 255


@pytest.mark.parametrize("mode", ["La", "RGBa", "LA", "PA"])
def test_premultiplied_and_rare_modes_with_alpha_are_shown_like_straight_ones(mode: str) -> None:
    straight = drawing(1, "#606060")
    grey = straight.convert("LA") if mode in ("La", "LA") else straight
    from dedup_spark.kernels.decoding.rendering import to_rgb
    from dedup_spark.kernels.decoding.values import picture_of

    picture = picture_of(grey.convert(mode), grey, b"")
    assert picture.pixels.mode == "RGBA"
    expected = np.asarray(to_rgb(straight)).astype(int)
    assert np.abs(np.asarray(to_rgb(picture.pixels)).astype(int) - expected).max() <= 3


def heights(seed: int) -> np.ndarray:
    """A made-up landscape of 300 to 800 m."""
    coarse = np.random.default_rng(seed).normal(size=(8, 10)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC))
    return (300 + 500 * (fine - fine.min()) / (fine.max() - fine.min())).round()


def tiff_of(values: np.ndarray, **how: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, photometric="minisblack", metadata=None, **how)
    return out.getvalue()


HOLE = np.zeros(SIZE[::-1], bool)
HOLE[60:, 80:] = HOLE[:20, :30] = True


@pytest.mark.parametrize(
    ("fill", "dtype"),
    [
        (-3.4028234663852886e38, np.float32), (-9999, np.float32), (np.nan, np.float32), (np.inf, np.float32),
        (1e20, np.float32), (-99999, np.float32), (-32768, np.int16), (65535, np.uint16), (-2147483648, np.int32),
    ],
)  # fmt: skip
def test_a_no_data_value_hides_no_height_map(fill: float, dtype: type) -> None:
    maps = [signed(tiff_of(np.where(HOLE, fill, heights(seed)).astype(dtype))) for seed in range(4)]
    assert min(bits(a, b) for a, b in itertools.combinations(maps, 2)) > 10
    for seed, holed in enumerate(maps):
        whole = signed(tiff_of(heights(seed).astype(dtype)))
        assert bits(holed, whole) <= 12
        assert holed.pixel_hash != whole.pixel_hash
        assert holed.luma_stddev > 20


def test_maps_that_differ_only_in_the_number_for_no_data_show_the_same_pixels() -> None:
    fills = (-3.4028234663852886e38, np.nan, -9999)
    maps = [signed(tiff_of(np.where(HOLE, fill, heights(1)).astype(np.float32))) for fill in fills]
    assert len({m.pixel_hash for m in maps}) == 1
    assert signed(tiff_of(np.where(~HOLE, -9999, heights(1)).astype(np.float32))).pixel_hash != maps[0].pixel_hash


def test_the_no_data_value_that_gdal_declares_counts() -> None:
    values = np.where(HOLE, 301, heights(2)).astype(np.float32)
    declared = signed(tiff_of(values, extratags=[(42113, "s", 0, "301", True)]))
    assert declared.pixel_hash != signed(tiff_of(values)).pixel_hash
    assert bits(declared, signed(tiff_of(np.where(HOLE, np.nan, values).astype(np.float32)))) == 0
    odd = signed(tiff_of(values, extratags=[(42113, "s", 0, "none", True)]))
    assert odd.pixel_hash == signed(tiff_of(values)).pixel_hash


def test_a_slice_of_12_bits_in_16_looks_like_its_8_bit_window() -> None:
    values = (np.asarray(photo().convert("L")).astype(np.uint16) * 1_176) // 255
    slice_of_16 = signed(encoded(Image.fromarray(values), "PNG"))
    export = signed(tiff_of((values // 5).astype(np.uint8)))
    assert bits(slice_of_16, export) <= 2
    assert slice_of_16.luma_stddev > 20


def test_a_tiff_whose_zero_is_white_is_not_a_negative() -> None:
    values = np.asarray(photo().convert("L")).astype(np.uint16) * 257
    out = io.BytesIO()
    tifffile.imwrite(out, 65_535 - values, photometric="miniswhite", metadata=None)
    assert signed(out.getvalue()).pixel_hash == signed(encoded(Image.fromarray(values), "PNG")).pixel_hash


def test_functions_for_sql_compute_what_the_step_does() -> None:
    names = ("pixel_hash", "phash", "thumbnail", "model_input")
    files = [encoded(drawing(1, "white"), "PNG"), tiff_of(np.where(HOLE, -9999, heights(1)).astype(np.float32))]
    for data in files:
        found, whole = parts_of_image(data, PartsSettings(names, SETTINGS)), signed(data)
        for name in names:
            assert np.array_equal(found[name], getattr(whole, name)), name
