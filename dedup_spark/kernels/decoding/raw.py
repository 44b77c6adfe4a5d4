"""Camera RAW through LibRaw: the camera's own JPEG where it is large enough, else a picture developed from sensor data.

The camera's rendering is preferred: it looks like the JPEG that was shot with the RAW file, and costs a hundredth.
rawpy is imported here, when the first RAW file comes (140 ms).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding.openers import open_image
from dedup_spark.kernels.decoding.orientation import turn

_ENOUGH_PX = 1024
"""Long side that suffices for thumbnail, hashes and model input; of a small sensor half of its long side does."""
_MAX_ASPECT_DIFFERENCE = 0.05
"""Previews of another shape are letter-boxed or show the scene in another mode of the sensor."""

_ORIENTATION_OF_FLIP = {0: 1, 3: 3, 5: 8, 6: 6}  # from LibRaw's flip to the EXIF tag


@dataclass(frozen=True, slots=True)
class RawPicture:
    """`pixels` are RGB and upright; `size` is that of the whole sensor image, upright, however the pixels were made."""

    pixels: Image.Image
    size: tuple[int, int]
    orientation: int
    way: str


def decode_raw(data: bytes, check_size: Callable[[int, int], None]) -> RawPicture:
    """Decode; `check_size` is called with width and height before memory is allocated for them.

    Raises:
        OSError: when LibRaw cannot read it; NotImplementedError: when it knows no such camera; MemoryError.
    """
    import rawpy

    raw = rawpy.RawPy()
    try:
        raw.open_buffer(io.BytesIO(data))
        sizes = raw.sizes
        check_size(sizes.raw_width, sizes.raw_height)
        full = (sizes.width, sizes.height) if sizes.flip not in (5, 6) else (sizes.height, sizes.width)
        orientation = _ORIENTATION_OF_FLIP.get(sizes.flip, 1)
        preview = _preview(raw, full, orientation)
        if preview is not None:
            return RawPicture(preview, full, orientation, "rawpy preview")
        half_size = max(full) >= 2 * _ENOUGH_PX
        rgb = raw.postprocess(half_size=half_size, use_camera_wb=True, output_bps=8)
    except (rawpy.LibRawFileUnsupportedError, rawpy.LibRawNotImplementedError) as e:
        raise NotImplementedError(_text(e)) from e
    except rawpy.LibRawUnsufficientMemoryError as e:
        raise MemoryError(_text(e)) from e
    except rawpy.LibRawError as e:
        raise OSError(_text(e)) from e
    finally:
        raw.close()
    way = "rawpy half size" if half_size else "rawpy"
    return RawPicture(Image.fromarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3))), full, orientation, way)


def _text(error: BaseException) -> str:
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _preview(raw: Any, full: tuple[int, int], flipped: int) -> Image.Image | None:
    """The largest embedded picture, upright; None when none is fit to stand for the image."""
    import rawpy

    try:
        thumb = raw.extract_thumb()
        is_jpeg = thumb.format == rawpy.ThumbFormat.JPEG
        image = open_image(thumb.data, "JPEG") if is_jpeg else Image.fromarray(thumb.data)
        orientation = image.getexif().get(0x0112, flipped)  # LibRaw adds the tag where the camera did not
        turned = image.size if orientation < 5 else image.size[::-1]
        if not _is_fit(turned, full):
            orientation, turned = 1, image.size  # some cameras turn the preview and keep the tag
        if not _is_fit(turned, full):
            return None
        return turn(image, orientation).convert("RGB")
    except (rawpy.LibRawError, NotImplementedError, OSError, SyntaxError, ValueError, TypeError, KeyError):
        return None  # a damaged preview does not damage the picture


def _is_fit(size: tuple[int, int], full: tuple[int, int]) -> bool:
    """Large enough, no larger than the sensor, and of its shape."""
    aspects = size[0] / size[1], full[0] / full[1]
    large_enough = max(size) >= min(_ENOUGH_PX, max(full) / 2) and max(size) <= 1.1 * max(full)
    return large_enough and max(aspects) / min(aspects) <= 1 + _MAX_ASPECT_DIFFERENCE
