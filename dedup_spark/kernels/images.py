"""Bytes to pixels: decode with Pillow, apply EXIF orientation, refuse what is dangerous before allocating.

What cannot be decoded raises `ImageRejected` with one of `REJECT_REASONS`; the extract stage makes a row of it.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

REJECT_REASONS = (
    "empty", "not_an_image", "unsupported_format", "truncated", "corrupt", "too_many_pixels", "too_small",
    "missing", "forbidden", "changed_since_listing", "too_large", "decoder_crashed", "decoder_timeout",
)  # fmt: skip
"""The closed list. The last six are about reading the object; the others are said here."""

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before pixels are allocated, as a rejected row
warnings.filterwarnings("ignore", module="PIL")  # odd EXIF or a palette with alpha: nobody reads a warning an image

_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    NotImplementedError, AttributeError, ZeroDivisionError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's plugins are known to raise on damaged files. Anything else counts as a crash of the decoder."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"), (b"\xff\x4f\xff\x51", "JPEG2000"), (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x0a", "JXL"), (b"\0\0\0\x0cJXL ", "JXL"), (b"8BPS", "PSD"), (b"gimp xcf", "XCF"),
)  # fmt: skip
_BRANDS = {b"heic": "HEIF", b"heix": "HEIF", b"heim": "HEIF", b"hevc": "HEIF", b"mif1": "HEIF", b"msf1": "HEIF",
           b"avif": "AVIF", b"avis": "AVIF", b"crx ": "RAW"}  # fmt: skip
_OPAQUE_8_BIT = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
_DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


class ImageRejected(Exception):
    """This image gives no signature. `reason` is one of REJECT_REASONS, `message` is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The first frame, upright.

    `pixels` holds the decoded values without loss (RGB, RGBA, or a 16-bit, 32-bit or float mode); `source` is
    the image as Pillow decoded it, upright, in its own mode; `icc_profile` is not applied yet.
    """

    pixels: Image.Image
    source: Image.Image
    format: str
    n_frames: int
    exif_orientation: int
    icc_profile: bytes | None


def sniff_format(data: bytes) -> str | None:
    """Image format by the first bytes, or None when they are not those of an image."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return _BRANDS.get(data[8:12]) if data[4:8] == b"ftyp" else None


def decode_image(data: bytes, *, max_pixels: int, min_side_px: int) -> DecodedImage:
    """Decode one image file.

    Args:
        data: the whole file.
        max_pixels: width x height above which the file is refused before its pixels are allocated.
        min_side_px: shorter side below which an image is too small to say anything about.

    Raises:
        ImageRejected: with the reason; never another exception for the damage that Pillow foresees.
    """
    if not data:
        raise ImageRejected("empty", "the object has 0 bytes")
    magic = sniff_format(data)
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as e:
        raise _unidentified(data, magic) from e
    except _DECODER_ERRORS as e:
        raise _damaged(data, magic, e) from e
    width, height = image.size
    if width * height > max_pixels:
        raise ImageRejected("too_many_pixels", f"{width} x {height} pixels, the limit is {max_pixels:,}")
    if min(width, height) < min_side_px:
        raise ImageRejected("too_small", f"{width} x {height} pixels, the shorter side must be at least {min_side_px}")
    try:
        n_frames = int(getattr(image, "n_frames", 1))
        image.seek(0)
        image.load()
        orientation = _orientation(image)
        upright = ImageOps.exif_transpose(image) if orientation != 1 else image
        pixels = _lossless(upright)
    except _DECODER_ERRORS as e:
        raise _damaged(data, image.format, e) from e
    return DecodedImage(
        pixels, upright, image.format or "unknown", n_frames, orientation, image.info.get("icc_profile")
    )


def to_rgb(pixels: Image.Image) -> Image.Image:
    """8-bit RGB for looking at: alpha over white, deep modes scaled to 8 bits."""
    if pixels.mode == "RGB":
        return pixels
    if pixels.mode == "RGBA":
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return Image.fromarray(_to_8_bit(np.asarray(pixels))).convert("RGB")


def to_srgb(rgb: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Apply an embedded RGB profile; an unreadable or non-RGB profile leaves the image as it is.

    Profiles are applied to the reduced image only: colour conversion is per pixel, so the order does not
    matter to the eye, and 12 megapixels would cost more than their decoding.
    """
    if not icc_profile or is_srgb(icc_profile):
        return rgb
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        if source.profile.xcolor_space.strip() != "RGB":
            return rgb
        converted = ImageCms.profileToProfile(rgb, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return rgb
    return converted or rgb


def is_srgb(icc_profile: bytes) -> bool:
    """Whether the profile calls itself sRGB (in ASCII or UTF-16), as nearly all embedded ones do."""
    return b"sRGB" in icc_profile or "sRGB".encode("utf-16-be") in icc_profile


def _lossless(image: Image.Image) -> Image.Image:
    has_alpha = image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info
    if has_alpha:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        lowest_alpha = rgba.getchannel("A").getextrema()[0]
        return rgba if lowest_alpha != 255 else rgba.convert("RGB")
    if image.mode in _DEEP:
        return image
    if image.mode not in _OPAQUE_8_BIT:
        raise ImageRejected("unsupported_format", f"pixel mode {image.mode}")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(h, w) integers or floats to uint8: 16-bit by its high byte, floats in 0..1 by 255, others by their range."""
    v = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(v.min()), float(v.max())
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= 65535:
        scaled = v / 256 if high > 255 or values.dtype.itemsize == 2 else v
    elif low >= 0 and high <= 1:
        scaled = v * 255
    else:
        scaled = (v - low) / max(high - low, 1e-12) * 255
    return scaled.astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except _DECODER_ERRORS:  # broken metadata around sound pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _unidentified(data: bytes, magic: str | None) -> ImageRejected:
    if magic is None:
        return ImageRejected("not_an_image", f"no image format begins with {data[:12]!r}")
    if magic not in Image.MIME and magic not in ("TIFF", "BMP", "ICO", "JPEG2000"):
        return ImageRejected("unsupported_format", f"{magic} needs a decoder that is not installed")
    return _damaged(data, magic, ValueError("the header cannot be read"))


def _damaged(data: bytes, image_format: str | None, error: BaseException) -> ImageRejected:
    text = f"{type(error).__name__}: {error}"[:500]
    cut_off = "truncated" in str(error) or _is_cut_off(data, image_format)
    return ImageRejected("truncated" if cut_off else "corrupt", text)


def _is_cut_off(data: bytes, image_format: str | None) -> bool:
    """Whether the end that the format prescribes is missing."""
    if image_format in ("JPEG", "MPO"):
        return b"\xff\xd9" not in data[-64:]
    if image_format == "PNG":
        return b"IEND" not in data[-64:]
    if image_format == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if image_format == "WEBP":
        return len(data) < 12 or len(data) < int.from_bytes(data[4:8], "little") + 8
    if image_format == "BMP":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False
