"""Decoded pixels as people see them: upright, 8 bits, sRGB, over white, reduced to the size that is needed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_STRIP_BYTES = 1 << 20
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Upright by the EXIF orientation 1-8, as `ImageOps.exif_transpose`, which also rewrites the EXIF and may fail."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def strips(image: Image.Image) -> Iterator[Image.Image]:
    """The image from top to bottom in pieces of about 1 MiB, so that temporary copies stay small."""
    rows = max(1, _STRIP_BYTES // (4 * image.width))
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def render(pixels: Image.Image, source: Image.Image, icc_profile: bytes | None, side_px: int) -> Image.Image:
    """8-bit sRGB, box-reduced by the largest whole factor that leaves the shorter side at 3 x side_px or more.

    The same compromise as Pillow's `reducing_gap=3`: the result is about one grey level off the slow way, in one pass
    for all users. Colour profiles and alpha are applied to the reduced image: both work per pixel, so the order does
    not matter to the eye, and for 12 megapixels they would cost more than decoding.

    Args:
        pixels: as `DecodedImage.pixels`.
        source: as `DecodedImage.source`; a CMYK one is converted by its own profile if it has one.
    """
    full = source if source.mode == "CMYK" and icc_profile else to_8_bit(pixels)
    factor = min(full.size) // (3 * side_px)
    return to_srgb(full.reduce(factor) if factor > 1 else full, icc_profile, is_grey=source.mode in _GREY_MODES)


def to_rgb(pixels: Image.Image) -> Image.Image:
    """8-bit RGB: alpha over white, deep modes scaled to 8 bits."""
    pixels = to_8_bit(pixels)
    if pixels.mode == "RGBA":
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return pixels if pixels.mode == "RGB" else pixels.convert("RGB")


def to_8_bit(pixels: Image.Image) -> Image.Image:
    """Deep grey modes to L: 16-bit by its high byte, floats in 0..1 by 255, others by their range."""
    if pixels.mode not in _GREY_MODES or pixels.mode in ("1", "L", "LA", "La"):
        return pixels
    extremes = [(float(v.min()), float(v.max())) for v in map(_finite, strips(pixels))]
    low, high = min(e[0] for e in extremes), max(e[1] for e in extremes)
    result, top = Image.new("L", pixels.size), 0
    for strip in strips(pixels):
        result.paste(Image.fromarray(_scaled(_finite(strip), low, high, pixels.mode)), (0, top))
        top += strip.height
    return result


def to_srgb(image: Image.Image, icc_profile: bytes | None, is_grey: bool = False) -> Image.Image:
    """8-bit RGB with an embedded profile (RGB, grey or CMYK) applied; one that is broken or of another kind is not.

    Args:
        image: 8-bit, of any mode.
        icc_profile: as embedded.
        is_grey: whether the file holds grey values.
    """
    rgb = to_rgb(image)
    is_cmyk = image.mode == "CMYK"
    if not icc_profile or (is_srgb(icc_profile) and not is_cmyk):
        return rgb
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        space = profile.profile.xcolor_space.strip()
        if not {"RGB": not is_cmyk, "CMYK": is_cmyk, "GRAY": is_grey}.get(space, False):
            return rgb
        colours = image if is_cmyk else rgb.getchannel(0) if space == "GRAY" else rgb
        return ImageCms.profileToProfile(colours, profile, ImageCms.createProfile("sRGB"), outputMode="RGB") or rgb
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return rgb


def is_srgb(icc_profile: bytes) -> bool:
    """Whether the profile calls itself sRGB (in ASCII or UTF-16), as nearly all embedded ones do."""
    return b"sRGB" in icc_profile or "sRGB".encode("utf-16-be") in icc_profile


def _finite(strip: Image.Image) -> np.ndarray[Any, Any]:
    return np.nan_to_num(np.asarray(strip).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _scaled(values: np.ndarray[Any, Any], low: float, high: float, mode: str) -> np.ndarray[Any, Any]:
    if mode != "F" and low >= 0 and high <= 65535:
        values = values / 256 if high > 255 or mode != "I" else values
    elif low >= 0 and high <= 1:
        values = values * 255
    else:
        values = (values - low) / max(high - low, 1e-12) * 255
    return values.astype(np.uint8)
