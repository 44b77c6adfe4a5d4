"""Values of more than 8 bits in one or several channels of a picture, and the picture that they make in 8 bits.

Channels of one picture are scaled jointly, so that its colours stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from dedup_spark.kernels.decoding import deep, tiff_layout
from dedup_spark.kernels.decoding.deep import Ends
from dedup_spark.kernels.decoding.depth import bits_needed
from dedup_spark.kernels.decoding.orientation import turn
from dedup_spark.kernels.decoding.picture import Picture
from dedup_spark.kernels.decoding.strips import strips
from dedup_spark.kernels.decoding.tiff_layout import Layout
from dedup_spark.kernels.decoding.tiff_samples import Samples, inverted

_MODES = {tiff_layout.CMYK: "CMYK", tiff_layout.CIE_LAB: "LAB", tiff_layout.ICC_LAB: "LAB"}
_NO_DATA, _MAX_SAMPLE, _S_MAX_SAMPLE, _EXTRA_SAMPLES = 42113, 281, 341, 338


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Upright.

    Attributes:
        images: One of each channel, of mode L or one of `deep.MODES`.
        mode: Of the 8-bit picture that they make: L, RGB, CMYK or LAB.
        alpha: Mode L, 0 where transparent; None where the file has none.
        ends: The numbers that stand for black and white by the file; None where their mode says it.
        no_data: The number that stands for no value.
        exact: A digest of the numbers of the file, where those of `images` are rounded or cut to 8 bits.
        bits: Of each number of the file, where `exact` is one; else those of `images` tell.
        unseen: A digest of the samples of the file that are none of these channels; empty where all are.
        are_measured: Whether a number far from all others may stand for no value; of mere colours none does.
    """

    images: tuple[Image.Image, ...]
    mode: str
    alpha: Image.Image | None = None
    ends: Ends | None = None
    no_data: float | None = None
    exact: bytes = b""
    bits: int = 8
    unseen: bytes = b""
    are_measured: bool = True


def channels_of(
    samples: list[Samples], layout: Layout, tags: Mapping[int, Any], orientation: int, unseen: bytes = b""
) -> Channels:
    """The channels of a TIFF page with these samples and tags."""
    colours, alpha = samples[: len(layout.colours)], samples[len(layout.colours) :]
    no_data, ends = _no_data(tags), _ends(layout, tags)
    if alpha and _EXTRA_SAMPLES not in tags and _is_dim(alpha[0]):
        alpha = []  # a fourth band that nobody calls alpha
    if layout.is_premultiplied and alpha:
        colours = [_straight(values, alpha[0]) for values in colours]
    if layout.photometric == tiff_layout.WHITE_IS_ZERO:
        colours = [inverted(values, layout) for values in colours]
        no_data = None if no_data is None else float(inverted(no_data, layout))
    mode = _MODES.get(layout.photometric, "L" if len(colours) == 1 else "RGB")
    numbers = colours
    if mode in ("CMYK", "LAB"):
        colours = [_high_byte(values) for values in colours]
    if layout.photometric == tiff_layout.CIE_LAB:
        colours[1:] = [values ^ 128 for values in colours[1:]]  # these two are signed
    images = [_image_of(values) for values in colours]
    is_rounded = any(_is_rounded(v, i) for v, i in zip(numbers, images, strict=True))
    return Channels(
        images=tuple(turn(image, orientation) for image in images),
        mode=mode,
        alpha=turn(Image.fromarray(_of_alpha(alpha[0])), orientation) if alpha else None,
        ends=ends,
        no_data=no_data,
        exact=_digest_of(numbers) if is_rounded else b"",
        bits=layout.bits,
        unseen=unseen,
        are_measured=layout.photometric != tiff_layout.RGB or layout.kind != "u",
    )


def picture_of_channels(channels: Channels, source: Image.Image, icc_profile: bytes | None) -> Picture:
    """The picture of the channels of an image; `source` is that image, whose pixels may be those of one channel."""
    alpha = channels.alpha if channels.alpha is not None and channels.alpha.getextrema()[0] != 255 else None
    if channels.images[0].mode == "L":
        return _of_8_bits(channels, alpha, source, icc_profile)
    if channels.mode == "L":
        pixels = channels.images[0]
        return Picture(
            pixels=pixels, source=source, icc_profile=icc_profile, void=deep.void_of(pixels, channels.no_data),
            alpha=alpha, ends=channels.ends, exact=channels.exact, bits=_bits(channels), unseen=channels.unseen,
        )  # fmt: skip
    return _jointly(channels, alpha, source, icc_profile)


def _of_8_bits(
    channels: Channels, alpha: Image.Image | None, source: Image.Image, icc_profile: bytes | None
) -> Picture:
    images = channels.images
    merged = images[0] if len(images) == 1 else Image.merge(channels.mode, images)
    merged.info = source.info
    rgb = merged.convert("RGB")
    if alpha is not None:
        rgb.putalpha(alpha)
    return Picture(
        pixels=rgb, source=merged, icc_profile=icc_profile, exact=channels.exact, bits=_bits(channels),
        unseen=channels.unseen,
    )  # fmt: skip


def _jointly(channels: Channels, alpha: Image.Image | None, source: Image.Image, icc_profile: bytes | None) -> Picture:
    """RGB, or RGBA where pixels are transparent; what holds no value in any channel is shown as the mean."""
    void = _void_in_any(channels)
    shown, is_whole = deep.jointly_in_8_bits(channels.images, void, alpha, channels.ends)
    rgb = Image.merge("RGB", shown)
    rgb.info = source.info
    pixels = rgb if alpha is None else Image.merge("RGBA", (*shown, alpha))
    bits = _bits(channels)
    exact = channels.exact or (b"" if is_whole and bits == 8 else _digest_of_seen(channels, void, alpha))
    return Picture(pixels=pixels, source=rgb, icc_profile=icc_profile, exact=exact, bits=bits, unseen=channels.unseen)


def _bits(channels: Channels) -> int:
    return channels.bits if channels.exact else bits_needed(channels.images)


def _void_in_any(channels: Channels) -> Image.Image | None:
    void = None
    for image in channels.images:
        one = deep.void_of(image, channels.no_data, guess=channels.are_measured)
        void = one if void is None or one is None else ImageChops.lighter(void, one)
    return void


def _digest_of_seen(channels: Channels, void: Image.Image | None, alpha: Image.Image | None) -> bytes:
    """Of the numbers that are shown: of such as stand for none, or are transparent, it has zeros."""
    hidden = deep.hidden_of(void, alpha)
    digest = hashlib.sha256()
    for image in channels.images:
        masks = strips(hidden) if hidden is not None else (None for _ in strips(image))
        for strip, mask in zip(strips(image), masks, strict=True):
            values = np.asarray(strip)
            digest.update(values.tobytes() if mask is None else np.where(np.asarray(mask), 0, values).tobytes())
    return digest.digest()


def _digest_of(colours: list[Samples]) -> bytes:
    digest = hashlib.sha256()
    for values in colours:
        digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def _image_of(values: Samples) -> Image.Image:
    """In the mode that holds the numbers, or in single precision."""
    kind, n_bytes = values.dtype.kind, values.dtype.itemsize
    if kind == "u" and n_bytes <= 2:
        return Image.fromarray(values)
    if kind != "f" and (n_bytes < 4 or (values.min() >= -(2**31) and values.max() < 2**31)):
        return Image.fromarray(values.astype(np.int32))
    with np.errstate(over="ignore"):  # of 64 bits the upper 32, as floats of a larger magnitude stand for no value
        return Image.fromarray((values if kind == "f" or n_bytes == 4 else values / 2**32).astype(np.float32))


def _is_rounded(values: Samples, image: Image.Image) -> bool:
    if image.mode == "L":
        return values.dtype.itemsize > 1
    return image.mode == "F" and values.dtype not in (np.float16, np.float32)


def _high_byte(values: Samples) -> Samples:
    """Of the whole range of a type; of floating-point numbers in 0 to 1, 255 times the value."""
    kind, n_bits = values.dtype.kind, 8 * values.dtype.itemsize
    if kind == "f":
        return (np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    return (values.view(f"u{n_bits // 8}") >> (n_bits - 8)).astype(np.uint8)


def _is_dim(alpha: Samples) -> bool:
    """Whether not even the most opaque pixel comes near to what is opaque in this type."""
    return alpha.dtype.kind == "u" and int(alpha.max()) < np.iinfo(alpha.dtype).max // 4


def _of_alpha(alpha: Samples) -> Samples:
    """uint8; of numbers that fill but a part of their type, as those of the colours beside them, by the greatest."""
    most = int(alpha.max()) if _is_dim(alpha) else 0
    return (alpha * (255 / most)).astype(np.uint8) if most else _high_byte(alpha)


def _straight(values: Samples, alpha: Samples) -> Samples:
    """Colours that were multiplied by alpha, before that."""
    if values.dtype.kind != "u":
        return values
    highest = int(alpha.max()) if _is_dim(alpha) else np.iinfo(values.dtype).max
    return np.minimum(values * (highest / np.maximum(alpha, 1)), highest).astype(values.dtype)


def _ends(layout: Layout, tags: Mapping[int, Any]) -> Ends | None:
    """The range of numbers that is declared, up to 16 bits."""
    if layout.kind == "f" or layout.bits > 16:
        return None
    half = 1 << (layout.bits - 1)
    if layout.kind == "i":
        return -half, half - 1
    declared = [v for v in (_first(tags, _MAX_SAMPLE), _first(tags, _S_MAX_SAMPLE)) if v is not None and v > 0]
    return 0, min([2 * half - 1, *declared])


def _first(tags: Mapping[int, Any], number: int) -> float | None:
    value = tags.get(number)
    value = value[0] if isinstance(value, tuple) and value else value
    return float(value) if isinstance(value, int | float) else None


def _no_data(tags: Mapping[int, Any]) -> float | None:
    """What GDAL declares to be no value, as text."""
    try:
        return float(str(tags.get(_NO_DATA)).strip(" \0"))
    except ValueError:
        return None
