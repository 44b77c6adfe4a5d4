"""From the image that a decoder returned to a `Picture`: its values without loss, and which of them are seen."""

from __future__ import annotations

from typing import Any

from PIL import Image

from dedup_spark.kernels.decoding import deep, headers, png_colours, png_samples, ppm_samples
from dedup_spark.kernels.decoding.channels import Channels, picture_of_channels
from dedup_spark.kernels.decoding.depth import bits_needed, bits_of_file
from dedup_spark.kernels.decoding.picture import Picture

_PNG = b"\x89PNG"
_OPAQUE_8_BIT = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


def picture_of(source: Image.Image, image: Image.Image, data: bytes, orientation: int = 1) -> Picture:
    """The picture of `source`, one upright frame of the opened `image` whose file is `data`.

    Args:
        orientation: By which `source` was turned, EXIF's 1-8.

    Raises:
        NotImplementedError: Its pixel mode is not known here.
    """
    is_png = data[:4] == _PNG
    profile = png_colours.profile_of(image, data) if is_png else embedded_profile(image)
    channels: Channels | None = getattr(image, "channels", None)
    if is_png and data[24] == 16 and source.mode in ("RGB", "RGBA"):
        channels = png_samples.deep_colours(source, image, data, orientation)
    elif image.format == "PPM" and source.mode == "RGB":
        channels = ppm_samples.deep_colours(source, data)
    if channels is not None:
        return picture_of_channels(channels, source, profile)
    if source.mode.startswith("I;16") or source.mode in deep.MODES:
        return _of_one_deep_channel(source, data, profile)
    pixels = _of_8_bits(_with_key(source, data))
    return Picture(pixels=pixels, source=source, icc_profile=profile, bits=bits_of_file(image, data))


def embedded_profile(image: Image.Image) -> bytes | None:
    """The ICC profile of an opened image; None where it has none, and where its tag of a TIFF holds something else: a
    number, a fraction or text, as its damaged type says."""
    found = image.info.get("icc_profile")
    return found if isinstance(found, bytes) else None


def _of_one_deep_channel(source: Image.Image, data: bytes, profile: bytes | None) -> Picture:
    pixels = _deep(source)
    extremes: Any = pixels.getextrema()
    ends = png_samples.declared_ends(data, extremes[1]) if data[:4] == _PNG else None
    void, alpha = deep.void_of(pixels, None), _alpha(pixels, source)
    return Picture(
        pixels=pixels, source=source, icc_profile=profile, void=void, alpha=alpha, ends=ends, bits=bits_needed([pixels])
    )


def _of_8_bits(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        straight = image.convert("LA") if image.mode == "La" else image
        rgba = straight if straight.mode == "RGBA" else straight.convert("RGBA")
        lowest_alpha = rgba.getchannel("A").getextrema()[0]
        return rgba if lowest_alpha != 255 else rgba.convert("RGB")
    if image.mode == "RGB":
        return image
    if image.mode not in _OPAQUE_8_BIT:
        raise NotImplementedError(f"pixel mode {image.mode}")
    return image.convert("RGB")


def _deep(image: Image.Image) -> Image.Image:
    """In mode I;16, I or F; whatever the byte order of the file, as Pillow's direct way would clip."""
    if not image.mode.startswith("I;16"):
        return image
    return image if image.mode == "I;16" else image.convert("I").convert("I;16")


def _alpha(pixels: Image.Image, source: Image.Image) -> Image.Image | None:
    """From the one value that a deep PNG declares to be transparent."""
    key = source.info.get("transparency")
    if not isinstance(key, int):
        return None
    alpha = deep.other_than(pixels, key)
    return alpha if alpha.getextrema()[0] == 0 else None


def _with_key(image: Image.Image, data: bytes) -> Image.Image:
    """With the transparent value of a PNG of 2, 4 or 16 bits in the 8 bits of the decoded pixels.

    Of the frames of a film of 16 bits the lower 8 are lost: a colour that differs in them alone is transparent, too.
    """
    key = image.info.get("transparency")
    depth = headers.png_bits(data)
    if isinstance(key, int) and image.mode == "L" and depth in (2, 4):
        return _replaced_key(image, key * (255 // (2**depth - 1)))
    if isinstance(key, tuple) and depth == 16:
        return _replaced_key(image, tuple(v >> 8 for v in key))
    return image


def _replaced_key(image: Image.Image, key: Any) -> Image.Image:
    changed = image.copy()
    changed.info["transparency"] = key
    return changed
