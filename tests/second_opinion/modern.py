"""AVIF, HEIF and JPEG XL of several depths and subsamplings, and every orientation in every container that has one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import odd_files
import pillow_heif
from odd_bytes import encoded
from PIL import Image

from second_opinion import cases
from second_opinion.cases import Case

_TURNED = ("JPEG", "MPO", "TIFF", "PNG", "WEBP", "HEIF", "AVIF", "JXL", "JPEG in JXL")


def all_modern() -> Iterator[Case]:
    yield from _avifs()
    yield from _heifs()
    yield from _jxls()
    yield from _turned()


def _avifs() -> Iterator[Case]:
    rgb, image = cases.rgb(), Image.fromarray(cases.rgb())
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:0:0"):
        shown = rgb if subsampling != "4:0:0" else cases.grey()
        data = encoded(image, "AVIF", quality=95, subsampling=subsampling)
        yield Case(f"avif {subsampling}", data, shown, like=16)
    for n_bits in (8, 10, 12):
        deep = cases.quantised(rgb, n_bits)
        data = imagecodecs.avif_encode(deep, 95, speed=8, bitspersample=n_bits, pixelformat="YUV444", numthreads=1)
        yield Case(f"avif {n_bits} bits", data, rgb, like=12, n_bits=n_bits)
    clear = np.dstack([rgb, cases.alpha()])
    yield Case("avif with alpha", encoded(Image.fromarray(clear), "AVIF", quality=95), clear, like=16)
    other = Image.fromarray(rgb[::-1])
    film = encoded(image, "AVIF", quality=95, save_all=True, append_images=[other, image], duration=60)
    yield Case("avif of three frames", film, rgb, 3, like=16)


def _heifs() -> Iterator[Case]:
    rgb, image = cases.rgb(), Image.fromarray(cases.rgb())
    for chroma in (444, 422, 420):
        yield Case(f"heif {chroma}", encoded(image, "HEIF", quality=95, chroma=chroma), rgb, like=16)
    yield Case("heif grey", encoded(image.convert("L"), "HEIF", quality=95), cases.grey(), like=8)
    clear = np.dstack([rgb, cases.alpha()])
    yield Case("heif with alpha", encoded(Image.fromarray(clear), "HEIF", quality=95), clear, like=16)
    deep = pillow_heif.from_bytes("RGB;16", cases.SIZE, cases.quantised(rgb, 16).tobytes())
    out = io.BytesIO()
    deep.save(out, format="HEIF", quality=95, chroma=444)
    yield Case("heif 10 bits", out.getvalue(), rgb, like=12)
    yield Case("heif of tiles", encoded(image, "HEIF", quality=95, tile_size=64), rgb, like=16)


def _jxls() -> Iterator[Case]:
    rgb, grey = cases.rgb(), cases.grey()
    how: dict[str, Any] = {"numthreads": 1, "effort": 3, "transfer": imagecodecs.JPEGXL.TRANSFER_FUNCTION.SRGB}
    yield Case("jxl", imagecodecs.jpegxl_encode(rgb, distance=1.0, **how), rgb, like=12)
    yield Case("jxl, lossless", imagecodecs.jpegxl_encode(rgb, lossless=True, **how), rgb)
    yield Case("jxl, box", imagecodecs.jpegxl_encode(rgb, lossless=True, usecontainer=True, **how), rgb)
    yield Case("jxl grey", imagecodecs.jpegxl_encode(grey[..., 0].copy(), lossless=True, **how), grey)
    deep = cases.quantised(grey, 16)
    yield Case("jxl grey 16", imagecodecs.jpegxl_encode(deep[..., 0].copy(), lossless=True, **how), deep)
    deep_rgb = cases.quantised(rgb, 16)
    yield Case("jxl rgb 16", imagecodecs.jpegxl_encode(deep_rgb, lossless=True, **how), rgb)
    real = (grey / 255).astype(np.float32)
    yield Case("jxl grey float", imagecodecs.jpegxl_encode(real[..., 0].copy(), lossless=True, **how), real)
    clear = np.dstack([rgb, cases.alpha()])
    yield Case("jxl with alpha", imagecodecs.jpegxl_encode(clear, lossless=True, **how), clear)


def _turned() -> Iterator[Case]:
    for image_format in _TURNED:
        for orientation in range(1, 9):
            data = odd_files.oriented(image_format, orientation)
            n_frames = 1
            yield Case(f"{image_format.lower()} turned by {orientation}", data, odd_files.picture(), n_frames, like=12,
                       is_turned=orientation > 1)  # fmt: skip
