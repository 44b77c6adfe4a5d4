"""Pillow's plugin for JPEG 2000, with the colours of more than 8 bits that Pillow turns from white to black.

Pillow rounds each value to 8 bits and keeps the lowest byte of the result, so that what is rounded up to 256 becomes 0
(seen in Pillow 11 to 13). OpenCV, which is imported here for such a file, hands over all bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, Jpeg2KImagePlugin

from dedup_spark.kernels.decoding.headers import jpeg2000_bits

_ORDER = {"RGB": (2, 1, 0), "RGBA": (2, 1, 0, 3)}
"""Of OpenCV's channels."""


class Jpeg2000(Jpeg2KImagePlugin.Jpeg2KImageFile):
    """A JPEG 2000 file or bare codestream."""

    def load(self) -> Any:
        """Raises what the plugins do; see `decoder_errors.DECODER_ERRORS`."""
        is_first, file = bool(self.tile), self.fp
        loaded = super().load()
        if is_first and self.mode in _ORDER:
            data: bytes = file.getvalue()  # type: ignore[union-attr]
            n_bits = jpeg2000_bits(data)
            if n_bits > 8:
                self._take_high_bits(data, n_bits)
        return loaded

    def _take_high_bits(self, data: bytes, n_bits: int) -> None:
        """As OpenCV reads them. What it does not read stays as Pillow read it."""
        order, found = _ORDER[self.mode], _by_opencv(data)
        if found is not None and found.dtype == np.uint16 and found.shape == (self.height, self.width, len(order)):
            eight = np.minimum(found[..., order] >> (n_bits - 8), 255).astype(np.uint8)
            self.im = Image.fromarray(eight).im


def _by_opencv(data: bytes) -> Any:
    """(h, w, channels) in the order of OpenCV; None where it cannot read the file."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # else a line per codestream without a box
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as e:
        if e.code == cv2.Error.StsNoMem:
            raise MemoryError(e.err) from e
        return None
