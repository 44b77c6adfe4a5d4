"""Bytes to pixels: find the decoder, refuse what is dangerous before it allocates, apply the EXIF orientation.

What cannot be decoded raises `ImageRejected` with one of `REJECT_REASONS`; the step extract makes a row of it.
"""

from __future__ import annotations

import resource
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image, features

from dedup_spark.kernels.decoding import formats, memory, openers
from dedup_spark.kernels.decoding.bmp_masks import with_usual_masks
from dedup_spark.kernels.decoding.decoder_errors import DECODER_ERRORS
from dedup_spark.kernels.decoding.endings import is_cut_off, is_raw_cut_off
from dedup_spark.kernels.decoding.films import Film, read_film
from dedup_spark.kernels.decoding.formats import sniff_format
from dedup_spark.kernels.decoding.frames import frames_of
from dedup_spark.kernels.decoding.headers import claimed_size, jpeg_frame
from dedup_spark.kernels.decoding.opened import Limits, Opened
from dedup_spark.kernels.decoding.picture import Picture
from dedup_spark.kernels.decoding.png_chunks import without_odd_chunks
from dedup_spark.kernels.decoding.raw import decode_raw
from dedup_spark.kernels.decoding.values import embedded_profile
from dedup_spark.redaction import without_secrets
from dedup_spark.vocabulary import RejectReason

__all__ = ["REJECT_REASONS", "DecodedImage", "ImageRejected", "decode_image", "out_of_memory", "sniff_format"]

REJECT_REASONS = tuple(RejectReason)
"""The closed list; see `RejectReason`."""

warnings.filterwarnings("ignore", module="PIL")  # odd EXIF or a palette with alpha: nobody reads a warning per image

_TRUNCATED = ("truncated", "end of file", "end of data", "unexpected end", "not enough", "reached eof")
_UNSUPPORTED = (
    "unsupported", "not supported", "not yet supported", "unknown pixel mode", "not implemented", "unknown pcx mode",
    "not a pcx file", "not a tga file", "unknown tga", "cannot read this xpm file", "not a spider 2d image",
)  # fmt: skip
"""In messages of decoders. A file with the structure of PCX or TGA that the plugin takes for none is of a kind that it
does not know."""
_MENDED: dict[str, Callable[[bytes], Iterator[bytes]]] = {"PNG": without_odd_chunks, "BMP": with_usual_masks}
"""Copies of a file that show the same picture and are easier to decode, the fullest first."""
_OUT_OF_MEMORY = ("out of memory", "cannot allocate memory", "memory allocation", "decoder error -9")
"""Words of errors. The last are Pillow's of a TIFF whose strips libtiff found no memory for."""
_ALLOCATED_WHEN_OPENED = frozenset({"WEBP", "JXL", "JPEG2000", "HEIF", "AVIF", "ICO"})


_READ_CHARACTERS, _SHOWN_CHARACTERS = 4000, 1000


class ImageRejected(Exception):
    """This image has no signature. `reason` is one of REJECT_REASONS, `message` is for people: one line of at most
    1,000 characters without secrets, as names and addresses in it may hold anything."""

    def __init__(self, reason: str, message: str) -> None:
        line = without_secrets(" ".join(message[:_READ_CHARACTERS].split()))
        self.reason = RejectReason(reason)
        self.message = line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}..."
        super().__init__(f"{reason}: {self.message}")


class OutOfMemory(ImageRejected):
    """It did not fit into the memory of this process; with more it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedImage(Picture):
    """The picture that describes the file, upright: the only frame, or the one that `films.py` chose.

    `size` is the width and height of the picture; of a RAW file there may be fewer pixels, and of a JPEG that was
    scaled while it was decoded there are, by `reduction` (2, 4 or 8; else 1) on each side. `decoder` is a column of
    `features`. `film` is what all frames show together; None where there is one.
    """

    size: tuple[int, int]
    format: str
    decoder: str
    exif_orientation: int
    film: Film | None = None
    reduction: int = 1

    @property
    def n_frames(self) -> int:
        """In the file, reduced copies of a page not counted."""
        return self.film.n_frames if self.film else 1


def decode_image(data: bytes, *, max_pixels: int, min_side_px: int, enough_px: int = 0) -> DecodedImage:
    """Decode one image file.

    Args:
        data: the whole file.
        max_pixels: width x height above which the file is refused before its pixels are allocated.
        min_side_px: shorter side below which an image is too small to say anything about.
        enough_px: shorter side that is enough of a JPEG: it may be decoded at 1/2, 1/4 or 1/8, with no shorter one; 0
            for all pixels.

    Raises:
        ImageRejected: with the reason; no other exception for damage that the decoders foresee.
        NeedsMemory: inside of `memory.allowed`.
    """
    image_format = _require_format(data)
    decoder = _require_decoder(image_format)

    def check_size(width: int, height: int) -> None:
        if width * height > max_pixels:
            raise ImageRejected("too_many_pixels", f"{width} x {height} pixels, the limit is {max_pixels:,}")
        if min(width, height) < min_side_px:
            raise ImageRejected(
                "too_small", f"{width} x {height} pixels, the shorter side must be at least {min_side_px}"
            )

    Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)  # plugins that allocate early refuse twice this, by themselves
    try:
        claimed = claimed_size(data, image_format)
        if claimed and claimed[0] * claimed[1] > max_pixels:
            check_size(*claimed)
        if claimed and image_format in _ALLOCATED_WHEN_OPENED:
            memory.require(memory.bytes_of_size(*claimed))
        if decoder is formats.RAW:
            return _decode_raw(data, image_format, check_size)
        return _decode_mended(data, image_format, decoder, Limits(max_pixels, check_size, enough_px))
    except DECODER_ERRORS as e:
        raise _rejection(data, image_format, e) from e


def out_of_memory(error: BaseException) -> OutOfMemory:
    """The rejection of an image that is within the limit on pixels and does not fit into the memory of this process."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    held = "the machine has" if limit == resource.RLIM_INFINITY else f"the decoder process may use ({limit:,} bytes)"
    text = f"needs more memory than {held}; raise extract.decoder_memory_bytes ({_text(error)})"
    return OutOfMemory("too_many_pixels", text)


def _require_format(data: bytes) -> str:
    if not data:
        raise ImageRejected("empty", "the object has 0 bytes")
    image_format = sniff_format(data)
    if image_format is None:
        raise ImageRejected("not_an_image", f"no image format begins with {data[:12]!r}")
    return image_format


def _require_decoder(image_format: str) -> formats.Decoder:
    decoder = formats.decoder_of(image_format)
    if decoder is None:
        text = f"nothing here decodes {image_format}: {formats.why_not_decoded(image_format)}"
        raise ImageRejected("unsupported_format", text)
    if not formats.is_installed(decoder):
        text = f"{image_format} needs {decoder.name}: pip install '{decoder.requirement}'"
        raise ImageRejected("unsupported_format", text)
    return decoder


def _decode_mended(data: bytes, image_format: str, decoder: formats.Decoder, limits: Limits) -> DecodedImage:
    """Decode the file as it is or, where that fails, as `_MENDED` puts it. Raises the last error."""
    try:
        return _decode(data, image_format, decoder, limits)
    except (MemoryError, Image.DecompressionBombError):
        raise
    except DECODER_ERRORS as e:
        last = e.with_traceback(None)  # its frames hold what was unpacked so far
    for copy in _MENDED[image_format](data) if image_format in _MENDED else ():
        try:
            return _decode(copy, image_format, decoder, limits)
        except DECODER_ERRORS as e:
            last = e.with_traceback(None)
    raise last


def _decode(data: bytes, image_format: str, decoder: formats.Decoder, limits: Limits) -> DecodedImage:
    image = openers.open_image(data, image_format)
    frames = frames_of(image, data, image_format)
    opened = Opened(image, data, image_format, frames, limits)
    picture, film = opened.picture(frames.places[0], limits.check_size), None
    if len(frames.places) > 1:
        picture, film = read_film(frames, (picture, opened.shown_ms), opened.frame, data)
    return DecodedImage(
        pixels=picture.pixels,
        source=picture.source,
        icc_profile=picture.icc_profile,
        void=picture.void,
        alpha=picture.alpha,
        ends=picture.ends,
        exact=picture.exact,
        bits=picture.bits,
        unseen=picture.unseen,
        size=opened.full_size or picture.source.size,
        format=image.format or image_format,
        decoder=decoder.ways[0],
        exif_orientation=opened.orientation,
        film=film,
        reduction=opened.reduction,
    )


def _decode_raw(data: bytes, image_format: str, check_size: Callable[[int, int], None]) -> DecodedImage:
    def check_raw(width: int, height: int) -> None:
        check_size(width, height)
        memory.require(memory.bytes_of_raw(width, height))

    picture = decode_raw(data, check_raw)
    if is_raw_cut_off(data, image_format):
        raise ImageRejected("truncated", "the file ends before its sensor data")
    return DecodedImage(
        pixels=picture.pixels,
        source=picture.pixels,
        size=picture.size,
        format=image_format,
        decoder=picture.way,
        exif_orientation=picture.orientation,
        icc_profile=embedded_profile(picture.pixels),
    )


def _rejection(data: bytes, image_format: str, error: BaseException) -> ImageRejected:
    """The rejection with the reason behind an exception of a decoder."""
    text, lower = _text(error), str(error).lower()
    if isinstance(error, MemoryError) or any(words in lower for words in _OUT_OF_MEMORY):
        return out_of_memory(error)
    if isinstance(error, Image.DecompressionBombError) or "security limit exceeded: image size" in lower:
        return ImageRejected("too_many_pixels", text)
    if image_format == "JPEG" and (frame := jpeg_frame(data)) and (frame[0] == 0xF7 or frame[1] != 8):
        kind = "JPEG-LS" if frame[0] == 0xF7 else f"JPEG with {frame[1]} bits per sample"
        return ImageRejected("unsupported_format", f"{kind}; the decoder reads 8-bit JPEG ({text})")
    if is_cut_off(data, image_format) or any(words in lower for words in _TRUNCATED):
        return ImageRejected("truncated", text)
    feature = openers.PILLOW_FEATURES.get(image_format)
    if feature and not features.check(feature):
        return ImageRejected("unsupported_format", f"this build of Pillow has no {feature}; its wheels have")
    if image_format == "TIFF" and (codec := openers.missing_tiff_codec(data)):
        return ImageRejected("unsupported_format", f"TIFF compressed by {codec}, which this build of libtiff lacks")
    if isinstance(error, SyntaxError) and isinstance(error.__cause__, KeyError):
        return ImageRejected("unsupported_format", f"{image_format} of a kind that the decoder does not know: {text}")
    if formats.decoder_of(image_format) is formats.RAW:  # LibRaw: "Data error or unsupported file format"
        lower = ""
    is_foreign = isinstance(error, NotImplementedError) or any(words in lower for words in _UNSUPPORTED)
    return ImageRejected("unsupported_format" if is_foreign else "corrupt", text)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
