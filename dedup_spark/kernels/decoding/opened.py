"""An opened file whose frames are decoded one at a time, upright."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from dedup_spark.kernels.decoding import memory
from dedup_spark.kernels.decoding.decoder_errors import DECODER_ERRORS
from dedup_spark.kernels.decoding.frames import Frames
from dedup_spark.kernels.decoding.headers import is_turned, jxl_orientation
from dedup_spark.kernels.decoding.jpeg_structure import coded_digest
from dedup_spark.kernels.decoding.orientation import exif_orientation, turn
from dedup_spark.kernels.decoding.picture import Picture
from dedup_spark.kernels.decoding.pixel_memory import in_one_block
from dedup_spark.kernels.decoding.values import picture_of

_LOADED_INTO = frozenset({"JPEG", "PNG"})
"""Formats whose plugins load pixels into the memory that an image has."""


_REDUCTIONS = (8, 4, 2)
"""By which libjpeg decodes a JPEG in less time, and Pillow lets it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a file is decoded.

    Attributes:
        max_pixels: Of a further frame; a larger one is damaged.
        check_size: Called with the size of the first frame before its pixels are allocated; it may raise.
        enough_px: The shorter side that is enough of a JPEG of one frame; 0: all pixels are asked for.
    """

    max_pixels: int
    check_size: Callable[[int, int], None]
    enough_px: int = 0


class Opened:
    """The image as its plugin opened it, with its file.

    Attributes:
        orientation: EXIF orientation 1-8 of the frame decoded last.
        reduction: By how much fewer pixels each side of it has than the file says.
        full_size: Its width and height by the file, upright, where that is more than 1.
    """

    def __init__(self, image: Image.Image, data: bytes, image_format: str, frames: Frames, limits: Limits) -> None:
        self._image, self._data, self._format, self._frames = image, data, image_format, frames
        self._at, self._limits = frames.main or 0, limits
        self.orientation, self.reduction = 1, 1
        self.full_size: tuple[int, int] | None = None

    def picture(self, place: int, check_size: Callable[[int, int], None]) -> Picture:
        """Of the frame at a place; `check_size` is called before its pixels are allocated.

        Raises:
            NeedsMemory: inside of `memory.allowed`; else as plugins do.
        """
        image = self._image
        if place != self._at:
            image.seek(place)
            self._at = place
        check_size(*image.size)
        stored = image.size
        self.reduction = self._reduce()
        n_bytes = memory.bytes_of_opened(image, self._data, self._format, len(self._frames.places))
        memory.require(n_bytes + (memory.bytes_of_scans(image, stored) if self.reduction > 1 else 0))
        tagged = exif_orientation(image) if self._format == "TIFF" else 1  # a TIFF is turned while it is loaded
        if image.mode == "RGB" and self._format in _LOADED_INTO and len(self._frames.places) == 1:
            image.im = in_one_block(image.size).im
        image.load()
        self.orientation = self._find_orientation(tagged)
        picture = picture_of(self._upright(), image, self._data, self.orientation)
        if self.reduction == 1:
            return picture
        self.full_size = stored if self.orientation < 5 else stored[::-1]
        return replace(picture, exact=coded_digest(self._data))

    def _reduce(self) -> int:
        """Let the decoder of a JPEG leave out pixels, as far as enough remain; by how much a side is smaller then."""
        shorter, enough = min(self._image.size), self._limits.enough_px
        if self._format != "JPEG" or len(self._frames.places) > 1 or not enough:
            return 1
        reduction = next((n for n in _REDUCTIONS if -(-shorter // n) >= enough), 1)
        if reduction > 1:
            width, height = self._image.size
            self._image.draft(None, (width // reduction, height // reduction))
        return round(shorter / min(self._image.size))

    def frame(self, place: int) -> tuple[Picture, int | None] | None:
        """A further frame, and for how many milliseconds it is shown where the decoder knows; None where it is damaged
        or larger than the limit.

        Raises:
            MemoryError: The frame is not damaged.
        """

        def check_size(width: int, height: int) -> None:
            if width * height > self._limits.max_pixels:
                raise Image.DecompressionBombError(f"a frame of {width} x {height} pixels")

        try:
            return self.picture(place, check_size), self.shown_ms
        except MemoryError:
            raise
        except DECODER_ERRORS:
            return None

    @property
    def shown_ms(self) -> int | None:
        """How long the frame decoded last is shown, by the decoder."""
        shown = self._image.info.get("duration")
        return round(shown) if isinstance(shown, int | float) else None

    def _find_orientation(self, tagged: int) -> int:
        image = self._image
        return {
            "TIFF": lambda: tagged,
            "HEIF": lambda: int(image.info.get("original_orientation") or 1) if is_turned(self._data) else 1,
            "JXL": lambda: jxl_orientation(self._data),
        }.get(self._format, lambda: exif_orientation(image))()

    def _upright(self) -> Image.Image:
        """Of several frames a copy, as the plugin puts the next frame into the same image."""
        image = self._image
        has_jpeg = getattr(image, "jpeg", False)  # a JPEG inside JPEG XL comes out as it went in
        is_upright = self._format in ("TIFF", "HEIF") or (self._format == "JXL" and not has_jpeg)
        source = image if is_upright else turn(image, self.orientation)
        return source.copy() if source is image and len(self._frames.places) > 1 else source
