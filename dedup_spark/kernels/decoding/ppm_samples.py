"""The 16-bit colours of a PPM, of which Pillow gives 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding.channels import Channels
from dedup_spark.kernels.decoding.openers import open_image


def deep_colours(source: Image.Image, data: bytes) -> Channels | None:
    """The numbers of a binary PPM whose maxval has more than 8 bits; None of others, which `source` shows."""
    opened: Any = open_image(data, "PPM")
    codec, _, offset, args = opened.tile[0]
    if codec != "ppm" or args[1] <= 255:
        return None
    width, height = source.size
    values = np.frombuffer(data, ">u2", width * height * 3, offset).reshape(height, width, 3).astype(np.uint16)
    images = tuple(Image.fromarray(np.ascontiguousarray(values[..., i])) for i in range(3))
    return Channels(images=images, mode="RGB", ends=(0, args[1]), are_measured=False)
