"""From the image that a decoder returned to a `Picture`: its values without loss, and which of them are seen."""

from __future__ import annotations

from typing import Any

from PIL import Image

from dedup_spark.kernels.decoding import deep
from dedup_spark.kernels.decoding.channels import picture_of_channels
from dedup_spark.kernels.decoding.picture import Picture

_OPAQUE_8_BIT = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


def picture_of(source: Image.Image, image: Image.Image, data: bytes) -> Picture:
    """The picture of `source`, one upright frame of the opened `image` whose file is `data`.

    Raises:
        NotImplementedError: Its pixel mode is not known here.
    """
    profile = image.info.get("icc_profile")
    channels = getattr(image, "channels", None)
    if channels is not None:
        return picture_of_channels(channels, source, profile)
    if source.mode.startswith("I;16") or source.mode in deep.MODES:
        pixels = _deep(source)
        void = deep.void_of(pixels, None)
        return Picture(pixels=pixels, source=source, icc_profile=profile, void=void, alpha=_alpha(pixels, source))
    return Picture(pixels=_of_8_bits(_with_key(source, data)), source=source, icc_profile=profile)


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

    Of 16 bits the lower 8 are lost in the decoder: a colour that differs in them alone is transparent, too.
    """
    key = image.info.get("transparency")
    depth = data[24] if data[:4] == b"\x89PNG" and len(data) > 24 else 8
    if isinstance(key, int) and image.mode == "L" and depth in (2, 4):
        return _replaced_key(image, key * (255 // (2**depth - 1)))
    if isinstance(key, tuple) and depth == 16:
        return _replaced_key(image, tuple(v >> 8 for v in key))
    return image


def _replaced_key(image: Image.Image, key: Any) -> Image.Image:
    changed = image.copy()
    changed.info["transparency"] = key
    return changed
