"""One picture as it was decoded: its values, and what is needed to show them."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Upright, in the values of its file.

    Attributes:
        pixels: The values without loss: RGB, RGBA, or a 16-bit, 32-bit or float mode of one channel.
        source: The image as the decoder returned it, upright, in its own mode.
        icc_profile: As embedded; it is not applied yet.
        void: Of a deep mode: 255 where a pixel holds no value (no-data, not finite), else 0; None where all do.
        alpha: Of a deep mode: 0 where a pixel is transparent, else 255; None where none is.
        ends: Of a deep mode: the numbers that stand for black and white by the file; None where the mode says it.
        exact: A digest of the numbers of the file where `pixels` are rounded ones; empty where they are not.
        bits: Of each channel that the numbers of the file have: see `depth.py`.
        unseen: A digest of channels that `pixels` do not show, as the fourth band of a satellite; empty without any.
    """

    pixels: Image.Image
    source: Image.Image
    icc_profile: bytes | None
    void: Image.Image | None = None
    alpha: Image.Image | None = None
    ends: tuple[float, float] | None = None
    exact: bytes = b""
    bits: int = 8
    unseen: bytes = b""

    @property
    def is_transparent(self) -> bool:
        """Whether a pixel is, in part or fully."""
        return self.pixels.mode == "RGBA" or self.alpha is not None
