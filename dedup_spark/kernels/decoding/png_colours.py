"""The colours of a PNG without a profile that says by numbers how they look: cICP, or gAMA with cHRM.

They become a profile, so that all that is done for profiles holds for them. As PNG says (third edition, 4.3): cICP goes
before iCCP and sRGB, and these before gAMA and cHRM.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

import numpy as np
from PIL import Image

from dedup_spark.kernels.arrays import Float64
from dedup_spark.kernels.decoding.png_samples import chunks

Primaries = tuple[tuple[float, float], ...]
"""x and y of white, red, green and blue."""

_D65 = (0.3127, 0.329)
_BT709: Primaries = (_D65, (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
_P3: Primaries = (_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
_BT2020: Primaries = (_D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046))
_CODED_PRIMARIES = {1: _BT709, 9: _BT2020, 12: _P3}
_CODED_GAMMAS = {1: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
"""By ITU-T H.273, of those that are shown on a screen as they are; None is the curve of sRGB, for which viewers take
those of video."""
_SCREEN, _SAME_GAMMA = 2.2, 0.05
"""As libpng has it: a file whose gamma is within 5 % of that of a screen is shown as it is."""
_GAMMAS = (0.1, 10.0)
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_FIRST_CHUNKS_BYTES = 4096


def profile_of(image: Image.Image, data: bytes) -> bytes | None:
    """The ICC profile of a PNG: by cICP, the embedded one, or made of gAMA and cHRM; None where it is that of sRGB.

    Args:
        image: As the plugin opened it.
        data: The file.
    """
    info = image.info
    if data.find(b"cICP", 0, _FIRST_CHUNKS_BYTES) > 0 and (coded := _coded(data)):
        return _made(*coded)
    if "icc_profile" in info or "srgb" in info or "gamma" not in info:
        embedded: bytes | None = info.get("icc_profile")
        return embedded
    gamma = 1 / info["gamma"] if info["gamma"] else 0
    if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        return None
    is_screen = abs(_SCREEN / gamma - 1) <= _SAME_GAMMA
    numbers = tuple(info.get("chromaticity") or ())
    primaries = tuple(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) == 8 else _BT709
    return _made(primaries, None if is_screen else gamma)


def _coded(data: bytes) -> tuple[Primaries, float | None] | None:
    """By the numbers of cICP; None where they are those of another chunk, of YCbCr or of high dynamic range."""
    body = next((body for name, body in chunks(data) if name == b"cICP"), b"")
    if len(body) != 4 or body[0] not in _CODED_PRIMARIES or body[1] not in _CODED_GAMMAS or body[2]:
        return None
    return _CODED_PRIMARIES[body[0]], _CODED_GAMMAS[body[1]]


@functools.lru_cache(maxsize=64)
def _made(primaries: Primaries, gamma: float | None) -> bytes | None:
    """A display profile (ICC.1, version 2) with one curve: a power, or that of sRGB; None where colours are those of
    sRGB, or none."""
    if gamma is None and np.allclose(primaries, _BT709, atol=0.002):
        return None
    try:
        columns = _adapted(primaries)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    if not np.isfinite(columns).all() or np.abs(columns).max() > 2:
        return None
    curve = _curve(gamma)
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 4) + b"PNG" + bytes(79), b"wtpt": _xyz(_D50)}
    tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(tags)


def _adapted(primaries: Primaries) -> Float64:
    """(3, 3) the XYZ of red, green and blue in columns, under the white D50."""
    white, *colours = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in primaries)
    matrix = np.stack(colours, axis=1)
    matrix = matrix * np.linalg.solve(matrix, white)
    cones = _BRADFORD @ np.array(_D50) / (_BRADFORD @ white)
    adapted: Float64 = np.linalg.inv(_BRADFORD) @ (cones[:, None] * (_BRADFORD @ matrix))
    return adapted


def _curve(gamma: float | None) -> bytes:
    shown: Float64 = np.linspace(0, 1, 1024)
    light = shown**gamma if gamma is not None else _light_of_srgb(shown)
    return b"curv" + bytes(4) + struct.pack(">I", len(light)) + (light * 65_535).round().astype(">u2").tobytes()


def _light_of_srgb(shown: Float64) -> Float64:
    return np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)


def _xyz(values: Any) -> bytes:
    return b"XYZ " + bytes(4) + np.round(np.asarray(values) * 65_536).astype(">i4").tobytes()


def _profile(tags: dict[bytes, bytes]) -> bytes:
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s", at + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12)
    head += b"acsp" + bytes(28) + np.round(np.array(_D50) * 65_536).astype(">i4").tobytes() + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body
