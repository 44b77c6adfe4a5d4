"""Gives sample photos and edits of them, as grey levels at the size of a thumbnail."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dedup_spark.commands.demo_lake import load_sample_photo

Grey = npt.NDArray[np.uint8]

_NAMES = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png", "brick.png", "grass.png", "gravel.png",
    "moon.png", "page.png", "coins.png",
)  # fmt: skip


def photo(number: int) -> Grey:
    """One of eleven photos, longest side 256 px; beyond these, quarters of the first four."""
    if number < len(_NAMES):
        return thumbnail(_load(_NAMES[number]))
    quarter, source = divmod(number - len(_NAMES), 4)
    whole = _load(_NAMES[source])
    h, w = (s // 2 for s in whole.shape)
    return thumbnail(whole[(quarter // 2) * h :, (quarter % 2) * w :][:h, :w])


def _load(name: str) -> Grey:
    image = np.asarray(load_sample_photo(name))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image, np.uint8)


def thumbnail(grey: Grey) -> Grey:
    scale = 256 / max(grey.shape)
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def rotated(grey: Grey, degrees: float) -> Grey:
    h, w = grey.shape
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 0.8)
    return np.asarray(cv2.warpAffine(grey, turn, (w, h)), np.uint8)


def squashed(grey: Grey) -> Grey:
    return np.asarray(cv2.resize(grey, (min(grey.shape), min(grey.shape))), np.uint8)


def cropped(grey: Grey, share: float) -> Grey:
    h, w = grey.shape
    top, left = int(h * (1 - share) / 2), int(w * (1 - share) / 2)
    return thumbnail(grey[top : h - top, left : w - left])


def reencoded(grey: Grey, quality_percent: int) -> Grey:
    _, jpeg = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality_percent])
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE), np.uint8)


def with_sticker(grey: Grey, seed: int) -> Grey:
    """A copy with a patterned square on it, a twelfth of its area."""
    rng = np.random.default_rng(seed)
    side = int((grey.size / 12) ** 0.5)
    top, left = (int(rng.integers(0, s - side)) for s in grey.shape)
    pattern = rng.integers(0, 256, (6, 6)).astype(np.uint8)
    copy = grey.copy()
    copy[top : top + side, left : left + side] = cv2.resize(pattern, (side, side), interpolation=cv2.INTER_NEAREST)
    return copy


def framed(grey: Grey) -> Grey:
    """The photo, small, in a screen full of text and buttons that is the same for all."""
    rng = np.random.default_rng(99)
    screen = np.full((224, 256), 235, np.uint8)
    for line in range(14):
        for word in range(9):
            text = "".join(chr(int(c)) for c in rng.integers(97, 123, 4))
            cv2.putText(screen, text, (3 + 28 * word, 14 + 16 * line), cv2.FONT_HERSHEY_PLAIN, 0.7, 40, 1)
    screen[70:160, 80:200] = cv2.resize(grey, (120, 90), interpolation=cv2.INTER_AREA)
    return screen


def page(seed: int) -> Grey:
    """A page with one letterhead and the words of this seed, as bars of their length in lines."""
    rng, sheet = np.random.default_rng(seed), np.full((768, 560), 255, np.uint8)
    cv2.putText(sheet, "NORTHWIND", (40, 80), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 30, 4)
    for top in range(150, 720, 26):
        left = 40
        while left < 500:
            width = int(rng.integers(16, 90))
            cv2.putText(sheet, "".join(rng.choice(list("aebdgmnost"), width // 12 + 1)), (left, top),
                        cv2.FONT_HERSHEY_SIMPLEX, 0.55, 0, 1)  # fmt: skip
            left += width + 14
    return thumbnail(sheet)
