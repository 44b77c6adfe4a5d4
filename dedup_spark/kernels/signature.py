"""All that is kept of one image, from its bytes: the one place that says what `features` holds of the pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from dedup_spark.kernels import hashing, quality
from dedup_spark.kernels.images import decode_image, to_rgb, to_srgb

_PREPROCESSING = 1
"""Raise when the same bytes would give another pixel_hash, phash, fact, thumbnail or model input."""


@dataclass(frozen=True, slots=True)
class SignatureSettings:
    """`input_px` 0 makes no model input."""

    max_pixels: int
    min_side_px: int
    thumbnail_px: int
    thumbnail_quality: int
    input_px: int

    @property
    def version(self) -> str:
        """Names everything that decides the values, so that a change can be seen in the table."""
        pillow = ".".join(PIL.__version__.split(".")[:2])
        return f"{_PREPROCESSING}/pillow-{pillow}/thumbnail-{self.thumbnail_px}-q{self.thumbnail_quality}"


@dataclass(frozen=True, slots=True)
class Signature:
    """Named as the columns of `features`; `model_input` is (input_px, input_px, 3) uint8 RGB or None."""

    pixel_hash: str
    phash: int
    width_px: int
    height_px: int
    format: str
    mode: str
    n_frames: int
    exif_orientation: int
    sharpness: float
    luma_stddev: float
    entropy_bits: float
    thumbnail: bytes
    decoder: str
    signature_version: str
    model_input: npt.NDArray[np.uint8] | None


def sign_image(data: bytes, settings: SignatureSettings) -> Signature:
    """Decode `data` once and derive everything. Raises ImageRejected."""
    image = decode_image(data, max_pixels=settings.max_pixels, min_side_px=settings.min_side_px)
    reduced = to_srgb(_reduced(to_rgb(image.pixels), max(settings.thumbnail_px, settings.input_px)), image.icc_profile)
    thumbnail = _fit(reduced, settings.thumbnail_px)
    grey = np.asarray(thumbnail.convert("L"))
    return Signature(
        pixel_hash=hashing.pixel_hash(image),
        phash=hashing.phash(image),
        width_px=image.pixels.width,
        height_px=image.pixels.height,
        format=image.format,
        mode=image.source.mode,
        n_frames=image.n_frames,
        exif_orientation=image.exif_orientation,
        sharpness=quality.sharpness(grey),
        luma_stddev=quality.luma_stddev(grey),
        entropy_bits=quality.entropy_bits(grey),
        thumbnail=_jpeg(thumbnail, settings.thumbnail_quality),
        decoder="pillow",
        signature_version=settings.version,
        model_input=model_input(reduced, settings.input_px) if settings.input_px else None,
    )


def current_versions(settings: SignatureSettings) -> frozenset[str]:
    """Every signature_version that could be made today; rows with another one are outdated."""
    return frozenset({settings.version})


def rejected_version(settings: SignatureSettings) -> str:
    """The signature_version of rejected images."""
    return settings.version


def model_input(rgb: Image.Image, input_px: int) -> npt.NDArray[np.uint8]:
    """Squash to a square, (input_px, input_px, 3) uint8.

    Bicubic and without regard to the aspect ratio: SSCD on a square loses nothing on squashed copies, and one
    fixed shape keeps batches dense.
    """
    return np.asarray(rgb.resize((input_px, input_px), Image.Resampling.BICUBIC))


def _reduced(rgb: Image.Image, side_px: int) -> Image.Image:
    """Box-reduce by the largest whole factor that leaves the shorter side at 3 x side_px or more.

    The same trade as Pillow's `reducing_gap=3`: results about a level from the slow way, one pass for all users.
    """
    factor = min(rgb.size) // (3 * side_px)
    return rgb.reduce(factor) if factor > 1 else rgb


def _fit(rgb: Image.Image, side_px: int) -> Image.Image:
    scale = side_px / max(rgb.size)
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    return rgb.resize(size, Image.Resampling.LANCZOS)


def _jpeg(rgb: Image.Image, quality_percent: int) -> bytes:
    out = io.BytesIO()
    rgb.save(out, "JPEG", quality=quality_percent)
    return out.getvalue()
