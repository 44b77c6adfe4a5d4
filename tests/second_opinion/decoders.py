"""What OpenCV, libvips, tifffile and imagecodecs see in a file: four programs that share little code with Pillow.

Each gives None for what it does not read or does not claim to show. A colour profile is applied by libvips alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pyvips
import tifffile

from dedup_spark.kernels.decoding.headers import tiff_directories
from second_opinion.cases import Case, Values

logging.getLogger("pyvips").setLevel(logging.ERROR)  # what it cannot read is no news here
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_UPRIGHT: dict[int, Callable[[Values], Values]] = {
    2: lambda v: v[:, ::-1], 3: lambda v: v[::-1, ::-1], 4: lambda v: v[::-1], 5: lambda v: v.swapaxes(0, 1),
    6: lambda v: np.rot90(v, -1), 7: lambda v: v[::-1, ::-1].swapaxes(0, 1), 8: lambda v: np.rot90(v, 1),
}  # fmt: skip
_FILMS = ("GIF", "PNG", "WEBP", "AVIF")
_NOT_IN_LIBVIPS = (34925, 50000, 50001)
"""TIFF by LZMA, Zstandard and WebP: its wheels lack them, and tiles that they compress come out black."""


@dataclass(frozen=True)
class Opinion:
    """`values` are upright (h, w, 1 to 4): grey, grey and alpha, RGB or RGBA; uint8, or grey of any type. `n_frames` is
    None where the decoder does not count them."""

    decoder: str
    values: Values
    n_frames: int | None = None


def opinions(case: Case, image_format: str) -> Iterator[Opinion]:
    """Of every decoder that has one. `image_format` is by the first bytes of the file."""
    for name, ask in (("libvips", _vips), ("OpenCV", _opencv), ("tifffile", _tifffile), ("imagecodecs", _imagecodecs)):
        if case.has_profile and ask is not _vips:
            continue
        found = ask(case, image_format)
        if found is not None:
            values = found[0] if found[0].ndim == 3 else found[0][..., None]
            yield Opinion(name, values, found[1])


def _in_8_bits(values: Values, n_bits: int = 0) -> Values:
    """Colours in 8 bits; grey as it is, as many rules show deep grey. `n_bits` are used, 0 for all of the type."""
    if values.dtype == np.uint8 or values.ndim == 2 or values.shape[2] == 1:
        return values
    if values.dtype.kind == "f":
        return (np.clip(np.nan_to_num(values), 0, 1) * 255).round().astype(np.uint8)
    return (values >> ((n_bits or 8 * values.dtype.itemsize) - 8)).astype(np.uint8)


def _from_inks(inks: Values) -> Values:
    """RGB of cyan, magenta, yellow and black as programs without colour management show them."""
    light = 255 - _in_8_bits(inks).astype(np.float64)
    return (light[..., :3] * light[..., 3:4] / 255).round().astype(np.uint8)


def _vips(case: Case, image_format: str) -> tuple[Values, int | None] | None:
    if image_format == "TIFF" and next(tiff_directories(case.data), {}).get(259, (1,))[0] in _NOT_IN_LIBVIPS:
        return None
    try:
        image = pyvips.Image.new_from_buffer(case.data, "", fail_on="error")  # else what it cannot read is black
        known = image.get_fields()
        n_frames = image.get("n-pages") if "n-pages" in known else None
        image = image.autorot()
        if "icc-profile-data" in known and case.has_profile:
            image = image.icc_transform("srgb", embedded=True, intent="perceptual")
        if image.interpretation in ("lab", "labs"):
            image = image.colourspace("srgb")
        values = image.numpy()
    except pyvips.Error:
        return None
    if image.interpretation == "cmyk":
        return _from_inks(values), n_frames
    if image.interpretation == "scrgb":
        values = np.asarray(values, np.float64)
    return _in_8_bits(values[..., :3] if values.ndim == 3 and values.shape[2] > 4 else values), n_frames


def _opencv(case: Case, image_format: str) -> tuple[Values, int | None] | None:
    data = np.frombuffer(case.data, np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if found is None:
        return None
    if case.is_turned or found.ndim < 3 or found.shape[2] < 4:
        found = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    n_frames = None
    if image_format in _FILMS:
        n_frames = len(cv2.imdecodeanimation(data)[1].frames)
    elif image_format == "TIFF":
        n_frames = len(cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)[1])
    if found is None or found.ndim == 2:
        return None if found is None else (found, n_frames or None)
    return _in_8_bits(found[..., [2, 1, 0, 3][: found.shape[2]]], case.n_bits), n_frames or None


def _tifffile(case: Case, image_format: str) -> tuple[Values, int | None] | None:
    if image_format != "TIFF":
        return None
    try:
        with tifffile.TiffFile(io.BytesIO(case.data)) as file:
            pages: list[Any] = [page for page in file.pages if not page.is_reduced]
            return _of_page(pages[0]), len(pages)
    except (ValueError, tifffile.TiffFileError, RuntimeError, TypeError, NotImplementedError, KeyError):
        return None


def _of_page(page: Any) -> Values:
    values = page.asarray()
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    kind = int(page.photometric)
    if kind == 3:
        values = (np.moveaxis(page.colormap, 0, -1)[values.astype(np.uint8)] >> 8).astype(np.uint8)
    elif kind == 5:
        values = _from_inks(values)
    elif kind in (8, 9) or (kind == 6 and page.compression != 7):
        raise NotImplementedError("tifffile gives the stored values of these")
    values = _straight(_in_8_bits(_of_few_bits(values, page)), page)
    if kind == 0:
        values = ~values if values.dtype.kind in "ui" else values.max() - values
    orientation = page.tags[274].value if 274 in page.tags else 1
    return _UPRIGHT.get(int(orientation), lambda v: v)(values)


def _of_few_bits(values: Values, page: Any) -> Values:
    """In 8 bits what has fewer; the values of 12 bits as they are."""
    n_bits = page.bitspersample
    if n_bits < 8 and int(page.photometric) != 3:
        return np.round(values / float(2**n_bits - 1) * 255).astype(np.uint8)
    return values


def _straight(values: Values, page: Any) -> Values:
    """Without samples that are no alpha, and not premultiplied."""
    extra = [int(e) for e in page.extrasamples]
    if int(page.photometric) == 2 and len(extra) and extra[0] not in (1, 2):
        return values[..., :3]
    if extra[:1] == [1]:
        alpha = np.maximum(values[..., 3:4], 1) / 255.0
        return np.dstack([np.clip(values[..., :3] / alpha, 0, 255).round(), values[..., 3]]).astype(np.uint8)
    return values


_DECODE: dict[str, Callable[[bytes], Values]] = {
    "JPEG": imagecodecs.jpeg8_decode, "PNG": imagecodecs.png_decode, "WEBP": imagecodecs.webp_decode,
    "JPEG2000": imagecodecs.jpeg2k_decode, "JXL": imagecodecs.jpegxl_decode, "AVIF": imagecodecs.avif_decode,
    "GIF": imagecodecs.gif_decode, "BMP": imagecodecs.bmp_decode, "QOI": imagecodecs.qoi_decode,
}  # fmt: skip


def _imagecodecs(case: Case, image_format: str) -> tuple[Values, int | None] | None:
    """It applies no orientation but that of JPEG XL."""
    if image_format not in _DECODE or (case.is_turned and image_format != "JXL"):
        return None
    values = None
    with contextlib.suppress(RuntimeError, ValueError, NotImplementedError, TypeError):
        values = _DECODE[image_format](case.data)
    if values is None:
        return None
    n_frames = None
    if values.ndim == 4 or (values.ndim == 3 and values.shape[2] > 4):
        n_frames, values = len(values), values[0]
    if image_format == "JPEG" and values.ndim == 3 and values.shape[2] == 4:
        values = _from_inks(255 - values)
    return _in_8_bits(values, case.n_bits), n_frames
