"""All that is kept of one image, computed from its bytes: this file says what `features` holds of the pixels."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.decoding import formats
from dedup_spark.kernels.decoding.images import DecodedImage, decode_image, out_of_memory
from dedup_spark.kernels.decoding.rendering import HASHED_PX, render
from dedup_spark.kernels.features import hashing, quality
from dedup_spark.kernels.features.model_input import InputSettings, model_input
from dedup_spark.kernels.features.origin import OriginFacts, origin_facts
from dedup_spark.kernels.features.resizing import resized

_PREPROCESSING = 6
"""Raise when the same bytes would give another pixel_hash, phash, fact, thumbnail or model input; for another
pixel_hash raise `hashing.PIXEL_HASH_VERSION` too."""
OLDEST_DECIDING = 6
"""The oldest `own_version` whose facts may decide that an image is removable; those of rows made before may not, until
the image is read again. Raise to `_PREPROCESSING` when older rows lack a fact that decides, or define it otherwise."""
_LEAST_ASPECT = 1 / 4
"""Of thumbnails: 54 strips and panoramas of up to 500:1 in 252 copies were all found at this one, and 56 % of the pairs
at their own aspect; at 1/8 more strips of fine print were taken for each other."""
_REJECTED_BY = "/rejected by "
_MAX_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SignatureSettings:
    """How images are read; `input_px`, `resize` and `square` are those of InputSettings.

    The model input is made from the image or, with `from_thumbnail`, from the thumbnail. `pixels` is extract.pixels.
    """

    max_pixels: int
    min_side_px: int
    thumbnail_px: int
    thumbnail_quality: int
    input_px: int
    resize: str = "bicubic"
    from_thumbnail: bool = False
    square: str = "squash"
    pixels: str = "full"

    @property
    def input(self) -> InputSettings:
        """How the model input is made."""
        return InputSettings(self.input_px, self.resize, self.square)

    @property
    def reduced_px(self) -> int:
        """The shorter side that thumbnail and model input need."""
        return max(self.thumbnail_px, self.input.shorter_px)

    @property
    def enough_px(self) -> int:
        """The shorter side to which a JPEG may be scaled while it is decoded: twice what is made of it; 0 for none."""
        return 2 * max(self.reduced_px, HASHED_PX) if self.pixels == "scaled" else 0

    def decode(self, data: bytes) -> DecodedImage:
        """Raises ImageRejected."""
        return decode_image(data, max_pixels=self.max_pixels, min_side_px=self.min_side_px, enough_px=self.enough_px)


@dataclass(frozen=True, slots=True)
class PartsSettings:
    """Which of PARTS an image is asked for, and how they are made."""

    names: tuple[str, ...]
    signature: SignatureSettings


@dataclass(frozen=True, slots=True)
class Signature(OriginFacts):
    """Named as the columns of `features`; `model_input` is (input_px, input_px, 3) uint8 RGB or None."""

    pixel_hash: str
    phash: int
    width_px: int
    height_px: int
    format: str
    mode: str
    n_frames: int
    frames_hash: str | None
    frame_phashes: list[int] | None
    duration_ms: int | None
    described_frame: int
    exif_orientation: int
    sharpness: float
    luma_stddev: float
    entropy_bits: float
    thumbnail: bytes
    decoder: str
    signature_version: str
    model_input: UInt8 | None


def sign_image(data: bytes, settings: SignatureSettings) -> Signature:
    """Decode `data` once and derive everything. Raises ImageRejected."""
    image = settings.decode(data)
    try:
        return _derive(data, image, settings)
    except MemoryError as e:
        raise out_of_memory(e) from e


def current_versions(settings: SignatureSettings) -> frozenset[str]:
    """Every signature_version that the installed decoders can make; rows with another one are outdated."""
    made = (_version(way, d, settings) for d in formats.installed_decoders() for way in d.ways)
    return frozenset({*made, rejected_version(settings)})


def rejected_version(settings: SignatureSettings) -> str:
    """The signature_version of rejected images: everything with which they might have been accepted.

    A decoder that is installed or upgraded later, or another limit, makes the rejected rows outdated, and only them.
    """
    decoders = " ".join(f"{d.name}-{formats.decoder_version(d)}" for d in formats.installed_decoders())
    return f"{_PREPROCESSING}{_REJECTED_BY}{decoders}/pixels-{settings.max_pixels}/side-{settings.min_side_px}"


def own_version(signature_version: str | None) -> int:
    """The version of this package's own processing: the number before the first slash; 0 where there is none."""
    number = (signature_version or "").partition("/")[0]
    return int(number) if number.isdecimal() else 0


def is_of_rejects(signature_version: str) -> bool:
    """Whether `rejected_version` made it."""
    return _REJECTED_BY in signature_version


def may_decode_now(then: str, now: str) -> bool:
    """Whether an image rejected by version `then` may be readable by `now`: a decoder is new, or a limit has changed.

    A decoder that was removed since makes no more images readable.
    """
    if own_version(then) != own_version(now) or not is_of_rejects(then):
        return True
    (decoders, limits), (decoders_now, limits_now) = map(_parts_of_rejected, (then, now))
    return limits != limits_now or not decoders_now <= decoders


def _parts_of_rejected(version: str) -> tuple[set[str], str]:
    """The decoders with their versions, and the limits."""
    decoders, _, limits = version.partition(_REJECTED_BY)[2].partition("/pixels-")
    return set(decoders.split(" ")), limits


def thumbnail_kind(settings: SignatureSettings) -> str:
    """Names how thumbnails are made; the last part of the signature_version of every row that has one."""
    return f"thumbnail-{settings.thumbnail_px}-q{settings.thumbnail_quality}"


def _version(way: str, decoder: formats.Decoder, settings: SignatureSettings) -> str:
    """Names everything that determines the values of a decoded image."""
    decoded_by = f"{way}-{formats.decoder_version(decoder)}"
    pixels = "" if settings.pixels == "full" else f"/pixels-{settings.pixels}"
    return f"{_PREPROCESSING}/{decoded_by}{pixels}/{thumbnail_kind(settings)}"


def _derive(data: bytes, image: DecodedImage, settings: SignatureSettings) -> Signature:
    reduced = render(image, settings.reduced_px)
    thumbnail = _fit(reduced, settings.thumbnail_px)
    grey = np.asarray(thumbnail.convert("L"))
    stored = _jpeg(thumbnail, settings.thumbnail_quality)
    return Signature(
        **_named(origin_facts(data, image, reduced)),
        pixel_hash=hashing.pixel_hash(image),
        phash=hashing.phash(image, reduced if settings.reduced_px == HASHED_PX else None),
        width_px=image.size[0],
        height_px=image.size[1],
        format=image.format,
        mode=image.source.mode,
        n_frames=image.n_frames,
        **_film_facts(image),
        exif_orientation=image.exif_orientation,
        sharpness=quality.sharpness(grey),
        luma_stddev=quality.luma_stddev(grey),
        entropy_bits=quality.entropy_bits(grey),
        thumbnail=stored,
        decoder=image.decoder,
        signature_version=_version(image.decoder, formats.decoder_by_way(image.decoder), settings),
        model_input=_input_of(reduced, stored, settings) if settings.input_px else None,
    )


def _named(facts: OriginFacts) -> dict[str, Any]:
    """By column; `dataclasses.asdict` would copy each value."""
    return {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}


def _film_facts(image: DecodedImage) -> dict[str, Any]:
    """What is known of several frames; nothing of a single one."""
    film = image.film
    return {
        "frames_hash": film.pictures_digest if film else None,
        "frame_phashes": hashing.frame_phashes(image),
        "duration_ms": min(film.duration_ms, _MAX_INT) if film and film.duration_ms is not None else None,
        "described_frame": film.described if film else 0,
    }


def input_of_image(data: bytes, settings: SignatureSettings) -> UInt8:
    """The model input alone, as `sign_image` makes it from the same bytes. Raises ImageRejected."""
    image = settings.decode(data)
    try:
        reduced = render(image, settings.reduced_px)
        return model_input(reduced, settings.input)
    except MemoryError as e:
        raise out_of_memory(e) from e


def parts_of_image(data: bytes, settings: PartsSettings) -> dict[str, Any]:
    """The named values, as `sign_image` makes them from the same bytes, and `dhash`; the others are not computed.

    Raises ImageRejected.
    """
    signed = settings.signature
    image = signed.decode(data)
    try:
        reduced = _Reduced(image, signed)
        return {name: PARTS[name](image, reduced) for name in settings.names}
    except MemoryError as e:
        raise out_of_memory(e) from e


class _Reduced:
    """The small renderings of an image, each made when it is first asked for."""

    def __init__(self, image: DecodedImage, settings: SignatureSettings) -> None:
        self._image, self._settings = image, settings

    @functools.cached_property
    def rgb(self) -> Image.Image:
        return render(self._image, self._settings.reduced_px)

    @functools.cached_property
    def thumbnail(self) -> bytes:
        return _jpeg(_fit(self.rgb, self._settings.thumbnail_px), self._settings.thumbnail_quality)

    @functools.cached_property
    def model_input(self) -> UInt8:
        stored = self.thumbnail if self._settings.from_thumbnail else b""
        return _input_of(self.rgb, stored, self._settings)


PARTS: dict[str, Callable[[DecodedImage, _Reduced], Any]] = {
    "pixel_hash": lambda image, _: hashing.pixel_hash(image),
    "phash": lambda image, _: hashing.phash(image),
    "dhash": lambda image, _: hashing.dhash(image),
    "width_px": lambda image, _: image.size[0],
    "height_px": lambda image, _: image.size[1],
    "format": lambda image, _: image.format,
    "thumbnail": lambda _, reduced: reduced.thumbnail,
    "model_input": lambda _, reduced: reduced.model_input,
}
"""What `parts_of_image` can give, named as in `Signature`."""


def input_of_thumbnail(jpeg: bytes, settings: SignatureSettings) -> UInt8:
    """The model input from a stored thumbnail, as `sign_image` makes it with `from_thumbnail`."""
    with Image.open(io.BytesIO(jpeg)) as thumbnail:
        return model_input(thumbnail.convert("RGB"), settings.input)


def _input_of(reduced: Image.Image, thumbnail: bytes, settings: SignatureSettings) -> UInt8:
    if settings.from_thumbnail:
        return input_of_thumbnail(thumbnail, settings)
    return model_input(reduced, settings.input)


def _fit(rgb: Image.Image, side_px: int) -> Image.Image:
    """At most `side_px` a side. A strip is widened to a quarter of its length, as what is a few pixels high, or one,
    cannot be compared."""
    scale = min(1.0, side_px / max(rgb.size))
    least = round(max(rgb.size) * scale * _LEAST_ASPECT)
    size = (max(1, least, round(rgb.width * scale)), max(1, least, round(rgb.height * scale)))
    return rgb if size == rgb.size else resized(rgb, size, "lanczos")


def _jpeg(rgb: Image.Image, quality_percent: int) -> bytes:
    out = io.BytesIO()
    rgb.save(out, "JPEG", quality=quality_percent)
    return out.getvalue()
