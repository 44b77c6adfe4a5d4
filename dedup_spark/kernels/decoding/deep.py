"""Deep values of one channel (16-bit, 32-bit, floats): which of them are values, and how they are shown in 8 bits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from dedup_spark.kernels.decoding.picture import Picture
from dedup_spark.kernels.decoding.strips import mapped, strips

MODES = frozenset({"I", "F", "I;16"})
WHITE = 255
"""The highest of 8 bits."""

_NO_MAGNITUDE = 1e19
"""From here on a number is no measurement but the fill value of a program: -3.4e38, 1e20, 9.97e36, -1.8e308."""
_FILL_VALUES = frozenset(
    {sign * float(10**n - 1) for n in range(3, 8) for sign in (1, -1)}
    | {-32768.0, -32767.0, 32767.0, 65535.0, -2147483648.0, 2147483647.0}
)
"""What else programs write where there is no value; taken for that where it is further from all other values than these
are from each other. Any other number but 0 is taken for it `_FAR` times as far away, where it would leave the others no
more than a few grey levels."""
_FAR = 20
_LEAST_HIGH, _LEAST_SPAN, _LEAST_SIGNED_SPAN = 1 / 4, 1 / 16, 1 / 2
"""Numbers that stay below a quarter of the declared range, or do not fill a sixteenth of it, are shown by their own
range, as cameras, scanners and microscopes store 10 to 14 bits in 16: their high byte would show next to nothing. Of
signed numbers, whose zero lies in the middle, they must fill half of it."""
_ENDS = {"I;16": (0.0, 65_535.0), "I": (0.0, 65_535.0), "F": (0.0, 1.0)}

Values = np.ndarray[Any, Any]
Ends = tuple[float, float]
"""The numbers that stand for black and for white."""


def void_of(pixels: Image.Image, no_data: float | None, *, guess: bool = True) -> Image.Image | None:
    """255 where a pixel of a deep mode holds no value, else 0; None where all do.

    That is what is not finite, of an absurd magnitude, equal to the file's own `no_data`, or, where it may be
    guessed, a fill value by its distance from all others. Four passes over the pixels at most.
    """
    known = {np.float32(no_data) if pixels.mode == "F" else no_data} if no_data is not None else set()
    fills = known | (_fill_values(pixels, known) if guess else set())
    return _mask(pixels, fills) if fills or pixels.mode == "F" else None


def _mask(pixels: Image.Image, fills: set[Any]) -> Image.Image | None:
    mask = mapped(pixels, lambda values: np.where(_is_value(values, fills), 0, 255).astype(np.uint8))
    return mask if mask.getextrema()[1] else None


def _is_value(values: Values, fills: set[Any]) -> Values:
    good = np.abs(values) < _NO_MAGNITUDE if values.dtype.kind == "f" else np.ones(values.shape, bool)
    for fill in fills:
        good &= values != fill
    return good


def _fill_values(pixels: Image.Image, known: set[Any]) -> set[float]:
    """The lowest and the highest value, where they are fill values by their distance from all others."""
    low, high = _range(_values(pixels, known))
    return {fill for fill in (low, high) if fill and _is_apart(fill, _range(_values(pixels, known | {fill})))}


def _is_apart(fill: float, others: tuple[float, float]) -> bool:
    low, high = others
    gap = max(low - fill, fill - high)
    return low < high < np.inf and gap > (1 if fill in _FILL_VALUES else _FAR) * (high - low)


def _values(pixels: Image.Image, fills: set[Any]) -> Iterator[Values]:
    for strip in strips(pixels):
        values = np.asarray(strip)
        yield values[_is_value(values, fills)]


def _range(pieces: Iterator[Values]) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for values in pieces:
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def in_8_bits(picture: Picture) -> Image.Image:
    """L, or LA where pixels are transparent. What holds no value is shown as the mean of what does, so that it adds no
    structure of its own; a picture without any value is black.

    Integers up to 255 are 8 bits. Others that use the range which their file or type declares are scaled by it: the
    high byte of 16 bits, shares of white in 0..1. All others are spread over their own range.
    """
    (grey,), _ = jointly_in_8_bits((picture.pixels,), picture.void, picture.alpha, picture.ends)
    return grey if picture.alpha is None else Image.merge("LA", (grey, picture.alpha))


def jointly_in_8_bits(
    channels: Sequence[Image.Image], void: Image.Image | None, alpha: Image.Image | None, ends: Ends | None
) -> tuple[list[Image.Image], bool]:
    """Each channel of a picture in mode L, all by one scale, and whether it is the declared one of `ends`, by default
    that of their mode. See `in_8_bits`."""
    hidden, mode = hidden_of(void, alpha), channels[0].mode
    low, high = _range(piece for channel in channels for piece in _shown_values(channel, hidden))
    if low > high:
        return [Image.new("L", channel.size) for channel in channels], False
    declared = ends or _ENDS[mode]
    is_whole = fills(low, high, declared) or (mode == "I;16" and high > WHITE and are_8_bits(channels))
    scale, offset = _scale(low, high, declared if is_whole else None, mode)
    shown = [mapped(channel, lambda values: _scaled(values, scale, offset)) for channel in channels]
    return [_with_mean(grey, void) for grey in shown], is_whole


def hidden_of(void: Image.Image | None, alpha: Image.Image | None) -> Image.Image | None:
    """255 for each pixel without a value, and where nothing is visible; None where there is none."""
    unseen = None if alpha is None else alpha.point(lambda v: 0 if v else 255)
    if void is None or unseen is None:
        return unseen if void is None else void
    return ImageChops.lighter(void, unseen)


def _with_mean(grey: Image.Image, void: Image.Image | None) -> Image.Image:
    if void is not None:
        total = n = 0.0
        for shown, none in zip(strips(grey), strips(void), strict=True):
            kept = np.asarray(shown)[np.asarray(none) == 0]
            total, n = total + float(kept.sum(dtype=np.float64)), n + kept.size
        grey.paste(round(total / n), None, void)
    return grey


def _shown_values(channel: Image.Image, hidden: Image.Image | None) -> Iterator[Values]:
    if hidden is None:
        yield from (np.asarray(strip) for strip in strips(channel))
        return
    for strip, mask in zip(strips(channel), strips(hidden), strict=True):
        yield np.asarray(strip)[np.asarray(mask) == 0]


def fills(low: float, high: float, ends: Ends) -> bool:
    """Whether numbers from low to high use the range between the ends."""
    black, white = ends
    span = white - black
    least_span = _LEAST_SIGNED_SPAN if black < 0 else _LEAST_SPAN
    is_high = high - black >= _LEAST_HIGH * span
    return black <= low and high <= white and is_high and high - low >= least_span * span


def are_8_bits(channels: Sequence[Image.Image]) -> bool:
    """Whether 16 bits hold 8 as their high byte: the low one is a copy of it, or zero."""
    steps = {257, 256}
    for strip in itertools.chain.from_iterable(map(strips, channels)):
        values = np.asarray(strip)
        steps = {step for step in steps if not (values % step).any()}
        if not steps:
            return False
    return True


def _scale(low: float, high: float, ends: Ends | None, mode: str) -> tuple[float, float]:
    """(factor, offset): a value v is shown as (v - offset) x factor; `ends` where they are used."""
    if mode != "F" and low >= 0 and high <= WHITE:
        return 1.0, 0.0
    if ends is None:
        return 255 / max(high - low, 1e-12), low
    black, white = ends
    return (255.0 if mode == "F" else 256 / (white - black + 1)), black


def _scaled(values: Values, factor: float, offset: float) -> Values:
    if values.dtype == np.uint16 and (factor, offset) == (1 / 256, 0):
        return (values >> 8).astype(np.uint8)
    shown = (np.nan_to_num(values.astype(np.float64), nan=offset, posinf=offset, neginf=offset) - offset) * factor
    return np.clip(shown, 0, 255).astype(np.uint8)


def other_than(pixels: Image.Image, key: float) -> Image.Image:
    """255 where a pixel of a deep mode is not `key`, else 0."""
    return mapped(pixels, lambda values: np.where(values == key, 0, 255).astype(np.uint8))
