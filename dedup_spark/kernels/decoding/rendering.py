"""Decoded pixels as people see them: upright, 8 bits, sRGB, over a ground, reduced to the size that is needed."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding import deep
from dedup_spark.kernels.decoding.colours import Colours, colours_of
from dedup_spark.kernels.decoding.picture import Picture
from dedup_spark.kernels.decoding.strips import strips

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_IMAGEHASH_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"})
HASHED_PX = 256
"""The side for which a picture is rendered where its render is hashed."""
_FAINT_LEVELS = 20
"""Mean distance from white, in levels of 255, below which what is drawn would hardly show on a white ground. Yellow and
light grey (29 and 23) show, and so match their copies that were saved on white."""


def render(picture: Picture, side_px: int) -> Image.Image:
    """8-bit sRGB, box-reduced by the largest whole factor that leaves the shorter side at 3 x side_px or more.

    The same compromise as Pillow's `reducing_gap=3`: the result is about one grey level off the slow way, in one pass
    for all users. Colour profiles and alpha are applied to the reduced image: both work per pixel, so the order does
    not matter to the eye, and for 12 megapixels they would cost more than decoding. A CMYK image is converted by its
    own profile if it has one.
    """
    colours = colours_of_picture(picture)
    full = picture.source if colours is not None and colours.mode == "CMYK" else in_8_bits(picture)
    factor = _factor(full.size, side_px)
    return _to_srgb(full.reduce(factor) if factor > 1 else full, colours)


def _factor(size: tuple[int, int], side_px: int) -> int:
    """By which whole number a picture is reduced."""
    return max(1, min(size) // (3 * side_px))


def hashable(picture: Picture, rendered: Image.Image | None = None) -> Image.Image:
    """The image whose grey values are hashed: that of the decoder, or the render.

    It is the render where a person sees something else than the file's numbers (pixels are transparent, under a colour
    profile that is not sRGB, deep or in rare modes), and of pictures that `render` reduces: to reduce all pixels of 12
    megapixels again would cost as much as decoding them at half size.

    Args:
        picture: as decoded.
        rendered: what `render` makes of it for HASHED_PX, where that is at hand.
    """
    is_plain = picture.source.mode in _IMAGEHASH_MODES and picture.pixels.mode == "RGB"
    if is_plain and _factor(picture.source.size, HASHED_PX) == 1 and colours_of_picture(picture) is None:
        return picture.source
    return render(picture, HASHED_PX) if rendered is None else rendered


def colours_of_picture(picture: Picture) -> Colours | None:
    """How its profile shows its values; None where they are shown as they are."""
    mode = picture.source.mode
    return colours_of(picture.icc_profile, mode, mode in _GREY_MODES)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an 8-bit image; alpha over the ground of `over_ground`."""
    if image.mode in ("LA", "RGBA"):
        return over_ground(image if image.mode == "RGBA" else image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def over_ground(rgba: Image.Image) -> Image.Image:
    """Composed over white, or over black where white would hide it: where the visible pixels, weighted by their alpha,
    are on average less than `_FAINT_LEVELS` darker than white, as of white icons.

    Copies of other sizes and formats have the same mean, and so the same ground; the colour of fully transparent pixels
    has no weight.
    """
    below_white, weights = map(sum, zip(*map(_weighed, strips(rgba)), strict=True))
    ground = "black" if below_white < _FAINT_LEVELS * weights else "white"
    return Image.alpha_composite(Image.new("RGBA", rgba.size, ground), rgba).convert("RGB")


def _weighed(rgba: Image.Image) -> tuple[int, int]:
    """The sum of how far each pixel is below white, weighted by its alpha, and that of the weights."""
    alpha = np.asarray(rgba.getchannel("A")).astype(np.int32)
    luma = np.asarray(rgba.convert("RGB").convert("L")).astype(np.int32)
    return int(((255 - luma) * alpha).sum(dtype=np.int64)), int(alpha.sum(dtype=np.int64))


def in_8_bits(picture: Picture) -> Image.Image:
    """The values of a picture at full size; deep modes in 8 bits, others as they are."""
    return deep.in_8_bits(picture) if picture.pixels.mode in deep.MODES else picture.pixels


def _to_srgb(image: Image.Image, colours: Colours | None) -> Image.Image:
    """8-bit RGB, with the profile applied before what is transparent is composed over the ground."""
    if colours is None:
        return to_rgb(image)
    if colours.mode == "CMYK":
        return colours.shown(image)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    rgb = image.convert("RGB")
    shown = colours.shown(rgb.getchannel(0) if colours.mode == "L" else rgb)
    if alpha is None:
        return shown
    shown.putalpha(alpha)
    return over_ground(shown)
