"""JPEG of every subsampling, colour space, order of coefficients and depth that some library here writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import imagecodecs
import numpy as np
from odd_bytes import encoded, icc_profile
from PIL import Image

from second_opinion import cases
from second_opinion.cases import Case, Values

_FACTORS = {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:2:0": 0x221111, "4:4:0": 0x121111, "4:1:1": 0x411111}
"""Horizontal and vertical factors of the three components."""
_ADOBE_TRANSFORM = 11
"""Bytes from the name Adobe to the number that says which colour space is stored."""


def all_jpegs() -> Iterator[Case]:
    yield from _subsampled()
    yield from _colour_spaces()
    yield from _deep()
    image = Image.fromarray(cases.rgb())
    other = Image.fromarray(cases.rgb()[::-1])
    several = encoded(image, "MPO", save_all=True, append_images=[other], quality=95)
    yield Case("jpeg of two pictures (MPO)", several, cases.rgb(), 2, like=8)


def _subsampled() -> Iterator[Case]:
    rgb = cases.rgb()
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    for name, factors in _FACTORS.items():
        for is_progressive in (0, 1):
            how = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors,
                   cv2.IMWRITE_JPEG_PROGRESSIVE, is_progressive]  # fmt: skip
            data = cv2.imencode(".jpg", bgr, how)[1].tobytes()
            yield Case(f"jpeg {name}{', progressive' * is_progressive}", data, rgb, like=16)
    image = Image.fromarray(rgb)
    for name in ("4:4:4", "4:2:2", "4:2:0"):
        fine: dict[str, Any] = {"quality": 95, "subsampling": name}
        yield Case(f"jpeg {name}, restarts", encoded(image, "JPEG", restart_marker_blocks=3, **fine), rgb, like=16)
        yield Case(f"jpeg {name}, optimised", encoded(image, "JPEG", optimize=True, **fine), rgb, like=16)
    both = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2, cv2.IMWRITE_JPEG_QUALITY, 95]
    yield Case("jpeg progressive, restarts", cv2.imencode(".jpg", bgr, both)[1].tobytes(), rgb, like=16)


def _colour_spaces() -> Iterator[Case]:
    rgb = cases.rgb()
    image = Image.fromarray(rgb)
    fine: dict[str, Any] = {"quality": 95, "subsampling": 0}
    yield Case("jpeg grey", encoded(image.convert("L"), "JPEG", quality=95), cases.grey(), like=6)
    yield Case("jpeg grey, progressive", encoded(image.convert("L"), "JPEG", quality=95, progressive=True),
               cases.grey(), like=6)  # fmt: skip
    yield Case("jpeg stored as rgb", encoded(image, "JPEG", keep_rgb=True, **fine), rgb, like=6)
    for is_progressive in (False, True):
        how = fine | {"progressive": is_progressive}
        inks = encoded(image.convert("CMYK"), "JPEG", **how)
        at, end = inks.index(b"\xff\xee"), ", progressive" * is_progressive
        yield Case(f"jpeg cmyk by Adobe{end}", inks, rgb, like=8)
        yield Case(f"jpeg ycck{end}", _ycck(rgb, how), rgb, like=8)
        plain = inks[:at] + inks[at + 16 :]
        yield Case(f"jpeg cmyk without Adobe's marker{end}", plain, like=8)
    profiled = encoded(image, "JPEG", icc_profile=icc_profile("RGB"), **fine)
    yield Case("jpeg with a profile", profiled, has_profile=True)
    inks = encoded(image.convert("CMYK"), "JPEG", icc_profile=icc_profile("CMYK"), **fine)
    yield Case("jpeg cmyk with a profile", inks, has_profile=True)


def _ycck(rgb: Values, how: dict[str, Any]) -> bytes:
    """YCbCr in the inverted ink channels, declared in the Adobe marker."""
    ycc = np.asarray(Image.fromarray(255 - rgb).convert("YCbCr"))
    inks = np.dstack([255 - ycc, np.zeros(rgb.shape[:2], np.uint8)])
    data = bytearray(encoded(Image.fromarray(inks, "CMYK"), "JPEG", **how))
    data[data.index(b"Adobe") + _ADOBE_TRANSFORM] = 2
    return bytes(data)


def _deep() -> Iterator[Case]:
    """12 bits, lossless (SOF3) and JPEG-LS."""
    deep = np.ascontiguousarray(cases.quantised(cases.grey(), 12)[..., 0])
    deep_rgb = cases.quantised(cases.rgb(), 12)
    yield Case("jpeg 12 bits grey", imagecodecs.jpeg8_encode(deep, 95, bitspersample=12), deep[..., None])
    yield Case("jpeg 12 bits rgb", imagecodecs.jpeg8_encode(deep_rgb, 95, bitspersample=12), cases.rgb(), like=16)
    grey = np.ascontiguousarray(cases.grey()[..., 0])
    yield Case("jpeg lossless 8 bits grey", imagecodecs.jpeg8_encode(grey, lossless=True), cases.grey())
    yield Case("jpeg lossless 8 bits rgb", imagecodecs.jpeg8_encode(cases.rgb(), lossless=True), cases.rgb())
    yield Case("jpeg lossless 16 bits grey", imagecodecs.jpeg8_encode(cases.quantised(grey, 16), lossless=True),
               cases.quantised(cases.grey(), 16))  # fmt: skip
    yield Case("jpeg-ls grey", imagecodecs.jpegls_encode(grey), cases.grey())
