"""What Pillow leaves out of a PNG: the lower bytes of its 16-bit colours, and how many of its bits are significant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding import deep
from dedup_spark.kernels.decoding.channels import Channels
from dedup_spark.kernels.decoding.deep import Ends
from dedup_spark.kernels.decoding.headers import unpack
from dedup_spark.kernels.decoding.openers import open_image
from dedup_spark.kernels.decoding.orientation import turn

_GREY_ALPHA = 4
_LOW_BYTES = {"RGB": "RGB;16L", "RGBA": "RGBA;16L"}
"""Pillow's names of the way back: of numbers with the high byte first it takes the second one."""
_MAX_CHUNKS = 256


def depth_of(data: bytes) -> int:
    """Bits per sample of a PNG; 8 for other files."""
    return data[24] if data[:4] == b"\x89PNG" and len(data) > 24 else 8


def deep_colours(source: Image.Image, image: Image.Image, data: bytes, orientation: int) -> Channels | None:
    """The whole numbers of a PNG of 16-bit colours; None where their high bytes, which are `source`, show them.

    They do not where they fill but a small part of their range, and where one colour is transparent: others may have
    its high bytes.

    Args:
        source: The upright image of the decoder, RGB or RGBA.
        image: As the plugin opened it.
        data: The file.
        orientation: By which `source` was turned.
    """
    key = image.info.get("transparency")
    extremes: Any = source.getextrema()
    low, high = min(least for least, _ in extremes[:3]), max(most for _, most in extremes[:3])
    if getattr(image, "n_frames", 1) > 1 or (deep.fills(256 * low, 256 * high + 255, (0, 65_535)) and key is None):
        return None
    numbers = _numbers(source, data, orientation)
    alpha = source.getchannel("A") if source.mode == "RGBA" else None
    if isinstance(key, tuple):
        is_key = np.all([n == k for n, k in zip(numbers, key, strict=True)], axis=0)
        alpha = Image.fromarray(np.where(is_key, 0, 255).astype(np.uint8))
    ends = declared_ends(data, max(int(n.max()) for n in numbers))
    images = tuple(Image.fromarray(n) for n in numbers)
    return Channels(images=images, mode="RGB", alpha=alpha, ends=ends, are_measured=False)


def _numbers(source: Image.Image, data: bytes, orientation: int) -> list[np.ndarray]:
    """(h, w) uint16 of red, green and blue."""
    low = open_image(data, "PNG")
    is_grey = data[25] == _GREY_ALPHA  # whose four bytes come out as they are, the two of grey in front
    args = "RGBA" if is_grey else _LOW_BYTES[source.mode]
    low.tile = [tile._replace(args=args) for tile in low.tile]  # type: ignore[attr-defined]
    low_bytes = turn(low, orientation).split()
    pairs = [(0, 1)] * 3 if is_grey else [(i, i) for i in range(3)]
    highs, lows = low_bytes if is_grey else source.split(), low_bytes
    return [np.asarray(highs[h]).astype(np.uint16) << 8 | np.asarray(lows[lo]) for h, lo in pairs]


def declared_ends(data: bytes, highest: float) -> Ends | None:
    """By the chunk sBIT, where a writer left the significant bits at the lower end; None where it did not, or has no
    such chunk.

    They belong to the upper end (PNG, 11.3.2.4), and numbers above them say that they are there.
    """
    n_bits = max((max(body, default=0) for name, body in chunks(data) if name == b"sBIT"), default=16)
    white = (1 << n_bits) - 1
    return (0, white) if n_bits < depth_of(data) and highest <= white else None


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk of a PNG before its pixels."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        length, name = sum(unpack(">I", data, at)), data[at + 4 : at + 8]
        if name in (b"IDAT", b""):
            return
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length
