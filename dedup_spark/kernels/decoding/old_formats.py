"""Plugins of Pillow whose pixels are not yet those of the file, with what is missing."""

from __future__ import annotations

import functools
import io
import re
from typing import Any

import numpy as np
from PIL import Image

_DESCRIPTOR_AT, _ALPHA_BITS = 17, 0x0F
_FITS_BLOCK_BYTES, _MAX_FITS_BLOCKS = 2880, 32
_BZERO = re.compile(rb"BZERO   =\s*([-+]?\d+)")


def open_tga(data: bytes) -> Image.Image:
    """A Targa file whose alpha is zero everywhere is opaque, where its header says that it has no bits of alpha."""
    image: Any = _tga_class()(io.BytesIO(data), "")
    image.has_alpha_bits = bool(data[_DESCRIPTOR_AT] & _ALPHA_BITS)
    return image


def open_fits(data: bytes) -> Image.Image:
    """FITS holds signed integers and a number to be added to them (standard 4.0, 4.4.2.5); Pillow gives their bits."""
    image: Any = _fits_class()(io.BytesIO(data), "")
    found = _BZERO.search(data, 0, _FITS_BLOCK_BYTES * _MAX_FITS_BLOCKS)
    image.added = int(found[1]) if found else 0
    return image


@functools.cache
def _tga_class() -> type:
    from PIL import TgaImagePlugin  # imported when the first file comes

    class Tga(TgaImagePlugin.TgaImageFile):
        has_alpha_bits = True

        def load_end(self) -> None:
            super().load_end()
            if self.mode == "RGBA" and not self.has_alpha_bits and self.im.getband(3).getextrema() == (0, 0):
                self.im.fillband(3, 255)

    return Tga


@functools.cache
def _fits_class() -> type:
    from PIL import FitsImagePlugin

    class Fits(FitsImagePlugin.FitsImageFile):
        added = 0

        def load_end(self) -> None:
            super().load_end()
            if self.mode == "I;16" and abs(self.added) < 1 << 30:
                values = np.asarray(self).view(np.int16).astype(np.int32) + self.added
                fits = values.min() >= 0 and values.max() < 1 << 16
                shown = Image.fromarray(values.astype(np.uint16) if fits else values)
                self.im, self._mode = shown.im, shown.mode

    return Fits
