"""What Pillow leaves out of a PNG: the lower bytes of its 16-bit colours, and how many of its bits are significant."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding import deep
from dedup_spark.kernels.decoding.channels import Channels
from dedup_spark.kernels.decoding.deep import Ends
from dedup_spark.kernels.decoding.headers import png_bits, unpack
from dedup_spark.kernels.decoding.openers import open_image
from dedup_spark.kernels.decoding.orientation import turn

_GREY_ALPHA = 4
_LOW_BYTES = {"RGB": "RGB;16L", "RGBA": "RGBA;16L"}
"""Pillow's names of the way back: of numbers with the high byte first it takes the second one."""
_MAX_CHUNKS, _MAX = 256, 65_535


def deep_colours(source: Image.Image, image: Image.Image, data: bytes, orientation: int) -> Channels | None:
    """The whole numbers of a PNG of 16-bit colours; None of a film, of which `source` has the high bytes.

    Args:
        source: The upright image of the decoder, RGB or RGBA.
        image: As the plugin opened it.
        data: The file.
        orientation: By which `source` was turned.
    """
    if getattr(image, "n_frames", 1) > 1:
        return None
    key = image.info.get("transparency")
    numbers = _numbers(source, data, orientation)
    alpha = source.getchannel("A") if source.mode == "RGBA" else None
    if isinstance(key, tuple):
        is_key = np.all([n == k for n, k in zip(numbers, key, strict=True)], axis=0)
        alpha = Image.fromarray(np.where(is_key, 0, 255).astype(np.uint8))
    low, high = min(int(n.min()) for n in numbers), max(int(n.max()) for n in numbers)
    is_whole = deep.fills(low, high, (0, _MAX)) and key is None
    ends = None if is_whole else declared_ends(data, high)
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
    return (0, white) if n_bits < png_bits(data) and highest <= white else None


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk of a PNG before its pixels."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        length, name = sum(unpack(">I", data, at)), data[at + 4 : at + 8]
        if name in (b"IDAT", b""):
            return
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length
