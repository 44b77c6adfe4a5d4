"""Which way up an image is."""

from __future__ import annotations

from PIL import ExifTags, Image

from dedup_spark.kernels.decoding.decoder_errors import DECODER_ERRORS

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Upright by the EXIF orientation 1-8, as `ImageOps.exif_transpose`, which also rewrites the EXIF and may fail."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def exif_orientation(image: Image.Image) -> int:
    """1-8 as an opened image has it in its EXIF or XMP; 1 where it has none, or broken metadata around sound pixels."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
