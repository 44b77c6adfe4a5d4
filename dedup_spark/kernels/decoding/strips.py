"""Images piece by piece, so that temporary copies of large ones stay small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

_STRIP_BYTES = 1 << 20


def strips(image: Image.Image) -> Iterator[Image.Image]:
    """The image from top to bottom in pieces of about 1 MiB."""
    rows = max(1, _STRIP_BYTES // (4 * image.width))
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def mapped(image: Image.Image, change: Callable[[Any], Any], *others: Image.Image) -> Image.Image:
    """A uint8 image of mode L, made strip by strip by `change` of the (h, w) arrays of `image` and `others`."""
    result, top = Image.new("L", image.size), 0
    for pieces in zip(strips(image), *map(strips, others), strict=True):
        result.paste(Image.fromarray(change(*map(np.asarray, pieces))), (0, top))
        top += pieces[0].height
    return result
