"""Colour profiles: what they do to colours decides, not what they are called.

A profile is tried on a grid of colours once, and the answer is kept, as nearly all images have one of a dozen profiles.
What changes no colour of the grid by more than `_EQUAL_LEVELS` is sRGB, whatever its name. Profiles that change all of
them alike (Display P3 of two cameras) are one.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

_EQUAL_LEVELS = 3
"""Levels of 255 in the worst colour of the grid. Of the profiles that call themselves sRGB those with the curve and the
primaries of sRGB are within 1, those that approximate its curve within 3; linear light is 70 off, gamma 2.2 about 7."""
_MAX_KEPT_BYTES = 2 << 20
_ODD_PROFILES = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


@dataclass(frozen=True, slots=True)
class Colours:
    """How a profile shows the colours of an image.

    Attributes:
        mode: Of the 8-bit image that is given to `shown`: RGB, L or CMYK.
        key: Equal for profiles that show all colours of the grid alike.
    """

    mode: str
    key: bytes
    _transform: ImageCms.ImageCmsTransform

    def shown(self, image: Image.Image) -> Image.Image:
        """8-bit sRGB of an image of `mode`, by the perceptual intent, as viewers show it."""
        return ImageCms.applyTransform(image, self._transform) or image.convert("RGB")


def colours_of(icc_profile: bytes | None, source_mode: str, is_grey: bool) -> Colours | None:
    """None where the values are shown as they are: no profile, sRGB, one that is broken or of another kind.

    Args:
        icc_profile: As embedded.
        source_mode: Pillow's mode of the decoded image.
        is_grey: Whether the file holds grey values; a profile of RGB is applied to these, too.

    Cost: 2 microseconds for a profile that was met before, else some 3 ms.
    """
    if not icc_profile:
        return None
    find = _kept_colours if len(icc_profile) <= _MAX_KEPT_BYTES else _colours
    return find(icc_profile, source_mode == "CMYK", is_grey)


def _colours(icc_profile: bytes, is_cmyk: bool, is_grey: bool) -> Colours | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        space = profile.profile.xcolor_space.strip()
        mode = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}.get(space)
        if mode is None or (mode == "CMYK") != is_cmyk or (mode == "L" and not is_grey):
            return None
        transform = ImageCms.buildTransform(profile, _srgb(), mode, "RGB")
        grid = _grid(mode)
        shown = ImageCms.applyTransform(grid, transform)
    except _ODD_PROFILES:
        return None
    if shown is None or (mode != "CMYK" and _most_levels(grid.convert("RGB"), shown) <= _EQUAL_LEVELS):
        return None
    return Colours(mode, hashlib.sha256(mode.encode() + shown.tobytes()).digest(), transform)


_kept_colours = functools.lru_cache(maxsize=32)(_colours)


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@functools.cache
def _grid(mode: str) -> Image.Image:
    """A row of colours: all greys, and a coarse grid of the whole space."""
    n_channels = len(Image.new(mode, (1, 1)).getbands())
    levels = range(0, 256, 51) if n_channels == 3 else range(0, 256, 85)
    colours = [(v,) * n_channels for v in range(256)]
    colours += itertools.product(levels, repeat=n_channels) if n_channels > 1 else ()
    values = np.array(colours, np.uint8)[None]
    return Image.fromarray(values[..., 0] if n_channels == 1 else values, mode if n_channels == 4 else None)


def _most_levels(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a).astype(np.int16) - np.asarray(b)).max())
