"""Bytes to a Pillow image that knows its size but holds no pixels yet, by the one plugin that the format needs.

A plugin is imported when the first file of its format comes. Pillow's own search through all its plugins is not used:
it would start Ghostscript for an EPS file, and drop the plugin's message.
"""

from __future__ import annotations

import functools
import importlib
import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from dedup_spark.kernels.decoding.headers import tiff_directories
from dedup_spark.kernels.decoding.old_formats import open_fits, open_tga
from dedup_spark.kernels.decoding.pillow_plugins import READ_BY
from dedup_spark.kernels.decoding.tiff_headers import with_known_header
from dedup_spark.kernels.decoding.tiff_previews import before_previews

PILLOW_FEATURES = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
"""Formats that Pillow decodes only when it was built with a library for it, as all its wheels are."""

_OPTIONAL_TIFF_CODECS = {34925: "lzma", 50000: "zstd", 50001: "webp"}
"""TIFF compressions that a build of libtiff may lack, by Pillow's names."""
_COMPRESSION = 259

_MAX_PNG_TEXT_BYTES = 16 << 20
"""Limit on a decompressed text or colour profile of a PNG. Pillow's own, 1 MiB, refuses pictures with a long prompt or
XMP."""


def open_image(data: bytes, image_format: str) -> Image.Image:
    """Raises what the plugin raises; see `decoder_errors.DECODER_ERRORS`."""
    if image_format in _OWN_OPENERS:
        return _OWN_OPENERS[image_format](data)
    module_name, factory_name = READ_BY[image_format]
    module: Any = importlib.import_module(f"PIL.{module_name}")
    if image_format == "AVIF":
        module.DEFAULT_MAX_THREADS = 1  # a child process uses one core
    elif image_format == "PNG":
        module.MAX_TEXT_CHUNK = _MAX_PNG_TEXT_BYTES
    factory: Callable[[io.BytesIO, str], Image.Image] = getattr(module, factory_name)
    return factory(io.BytesIO(data), "")


def missing_tiff_codec(data: bytes) -> str | None:
    """The compression of a TIFF file, if libtiff knows it and this build of libtiff lacks it."""
    first = next(tiff_directories(data), {})
    codec = _OPTIONAL_TIFF_CODECS.get(sum(first.get(_COMPRESSION, ())[:1]))
    return codec if codec and not _has_tiff_codec(codec) else None


@functools.cache
def _has_tiff_codec(codec: str) -> bool:
    """Whether this build of libtiff has a codec; the only way to know is to try."""
    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), "TIFF", compression=codec)
    except (OSError, RuntimeError):
        return False
    return True


def _open_tiff(data: bytes) -> Image.Image:
    from dedup_spark.kernels.decoding.tiff_plugin import TiffPages

    return TiffPages(io.BytesIO(before_previews(with_known_header(data))))


def _open_jpeg2000(data: bytes) -> Image.Image:
    from dedup_spark.kernels.decoding.jpeg2000_plugin import Jpeg2000

    return Jpeg2000(io.BytesIO(data), "")


def _open_heif(data: bytes) -> Image.Image:
    pi_heif: Any = importlib.import_module("pi_heif")  # imported so, as its types name no plugin
    pi_heif.options.DECODE_THREADS = 1
    opened: Image.Image = pi_heif.HeifImageFile(io.BytesIO(data))
    return opened


def _open_jxl(data: bytes) -> Image.Image:
    from pillow_jxl import JpegXLImagePlugin

    plugin: Any = JpegXLImagePlugin
    plugin.DECODE_THREADS = 0
    try:
        return plugin.JXLImageFile(io.BytesIO(data))
    except BaseException as e:
        if type(e).__name__ == "PanicException":  # raised by its Rust code; not a subclass of Exception
            raise ValueError(f"decoder panicked: {e}") from e
        raise


_OWN_OPENERS: dict[str, Callable[[bytes], Image.Image]] = {
    "HEIF": _open_heif, "JXL": _open_jxl, "TIFF": _open_tiff, "JPEG2000": _open_jpeg2000,
    "TGA": open_tga, "FITS": open_fits,
}  # fmt: skip
