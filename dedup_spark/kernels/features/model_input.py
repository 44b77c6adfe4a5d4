"""From a picture of any shape to the square of pixels that a model takes."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.decoding.pixel_memory import as_array
from dedup_spark.kernels.features.resizing import resized

_CUT_SHARE = 7 / 8
"""Side of the cut as a share of the picture's shorter side: 224 of 256 px, as torchvision's reference has it."""


@dataclass(frozen=True, slots=True)
class InputSettings:
    """How a picture becomes a model's input.

    Attributes:
        input_px: Side of the square; 0: none is made.
        resize: The filter, one of Pillow's `Image.Resampling` in small letters.
        square: `squash` keeps the whole picture and changes its aspect ratio. `crop` keeps the aspect ratio and the
            centre: it loses a sixteenth of the shorter side at either end, and more of a longer one.
    """

    input_px: int
    resize: str = "bicubic"
    square: str = "squash"

    @property
    def shorter_px(self) -> int:
        """The shorter side of the resized picture, of which the input is all (`squash`) or a part (`crop`)."""
        return round(self.input_px / _CUT_SHARE) if self.square == "crop" else self.input_px

    @property
    def name(self) -> str:
        """The part of a model_id that says how inputs were made: `squash-bicubic-256`, `crop-bilinear-256-224`."""
        sizes = f"{self.shorter_px}-{self.input_px}" if self.square == "crop" else f"{self.input_px}"
        return f"{self.square}-{self.resize}-{sizes}"


def model_input(rgb: Image.Image, settings: InputSettings) -> UInt8:
    """(input_px, input_px, 3) uint8. With `crop` it is what torchvision's Resize and CenterCrop make, bit for bit.

    Squashing is the usual way: on squares SSCD finds squashed copies as well, and no border is lost.
    """
    if settings.square == "crop":
        rgb = _scaled(rgb, settings)
        left, top = (round((side - settings.input_px) / 2.0) for side in rgb.size)
        return as_array(rgb.crop((left, top, left + settings.input_px, top + settings.input_px)))
    return as_array(resized(rgb, (settings.input_px, settings.input_px), settings.resize))


def _scaled(rgb: Image.Image, settings: InputSettings) -> Image.Image:
    """With a shorter side of `shorter_px`; the longer one is rounded down, as in torchvision.

    Of a picture that is longer than ten times its shorter side only the middle is scaled, so that a strip of 1 x
    60,000 px does not become one of 256 x 15 million.
    """
    short, long = sorted(rgb.size)
    if long > _LONGEST * short:
        rgb = _middle(rgb, _LONGEST * short)
        long = _LONGEST * short
    size = (settings.shorter_px, int(settings.shorter_px * long / short))
    return rgb.resize(size if rgb.width <= rgb.height else size[::-1], Image.Resampling[settings.resize.upper()])


_LONGEST = 10


def _middle(rgb: Image.Image, long_px: int) -> Image.Image:
    """The middle of the longer side."""
    if rgb.width > rgb.height:
        left = (rgb.width - long_px) // 2
        return rgb.crop((left, 0, left + long_px, rgb.height))
    top = (rgb.height - long_px) // 2
    return rgb.crop((0, top, rgb.width, top + long_px))
