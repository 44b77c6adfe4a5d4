"""The edits that copies of a picture go through, in memory and seeded: they serve to measure what is found.

Two layers. Functions with explicit parameters (`cropped`, `watermarked`, ...) make one edit exactly; the demo lake is
built of them. `EDITS` names the kinds of edit, and `edited_copy` draws the parameters of one kind from a generator:
calibration, the accuracy benchmark and tests use those. Ranges are those of what people do to photos, mild to strong;
none is fitted to what any model can find.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

Photo = Image.Image
_MIN_SIDE_PX = 24
"""No edit makes a side smaller: below `extract.min_side_px` a copy would be rejected and not compared."""

_CAPTIONS = ("FRIDAY, 4 PM", "nobody:\nabsolutely nobody:", "ME, SEEKING DUPLICATES", "mood", "when it finally runs")
_MARKS = ("© demo stock", "SAMPLE", "www.example.org", "Draft 2", "press use only")
_FRAMES = (("9:41", "#101014", "white"), ("18:07", "white", "black"), ("example.org/gallery", "#dee1e6", "black"))
"""Status line, background and ink of a dark gallery app, a light chat and a browser."""


# --- one edit each, by its parameters ---------------------------------------------------------------------


def scaled(photo: Photo, factor: float) -> Photo:
    """Both sides times `factor`."""
    size = (max(1, round(photo.width * factor)), max(1, round(photo.height * factor)))
    return photo.resize(size, Image.Resampling.LANCZOS)


def cropped(photo: Photo, left: float, top: float, share: float) -> Photo:
    """Keeps `share` of each side, from `left` and `top`; all are shares of the photo's sides."""
    w, h = photo.size
    return photo.crop((round(left * w), round(top * h), round((left + share) * w), round((top + share) * h)))


def rotated(photo: Photo, degrees: float) -> Photo:
    """Turned like a careless scan; most of the black corners of a turn by up to 5 degrees are cut off."""
    turned = photo.rotate(degrees, Image.Resampling.BICUBIC)
    return ImageOps.crop(turned, round(0.05 * min(photo.size)))


def toned(photo: Photo) -> Photo:
    """A colour photo becomes grey, a grey one sepia."""
    return photo.convert("L") if photo.mode == "RGB" else ImageOps.colorize(photo, "#1c1206", "#fff1d6")


def relit(photo: Photo, brightness: float, contrast: float, saturation: float) -> Photo:
    """Factors of 1 change nothing."""
    lit = ImageEnhance.Contrast(ImageEnhance.Brightness(photo).enhance(brightness)).enhance(contrast)
    return ImageEnhance.Color(lit).enhance(saturation)


def watermarked(photo: Photo, text: str, centre: float, opacity: int = 120) -> Photo:
    """Half-transparent white text three times over the photo, around `centre` of its width, as stock agencies do."""
    marked = photo.convert("RGBA")
    layer = Image.new("RGBA", marked.size, (255, 255, 255, 0))
    font = ImageFont.load_default(size=max(min(marked.width // 9, marked.height // 5), 6))
    for row in (0.22, 0.5, 0.78):
        place = (marked.width * centre, marked.height * row)
        ImageDraw.Draw(layer).text(place, text, fill=(255, 255, 255, opacity), font=font, anchor="mm")
    return Image.alpha_composite(marked, layer).convert("RGB")


def captioned(photo: Photo, caption: str) -> Photo:
    """Under a white bar with a caption of one or more lines: a meme."""
    font_px = max(photo.width // 18, 10)
    bar_px = round(1.5 * font_px * (1 + caption.count("\n")) + font_px)
    meme = ImageOps.expand(photo, (0, bar_px, 0, 0), "white")
    font, centre = ImageFont.load_default(size=font_px), (photo.width / 2, bar_px / 2)
    ImageDraw.Draw(meme).multiline_text(centre, caption, fill="black", font=font, anchor="mm", align="center")
    return meme


def stickered(photo: Photo, spots: Sequence[tuple[float, float, float, tuple[int, int, int]]]) -> Photo:
    """Opaque discs with a face over the photo; a spot is (x, y, diameter, colour) in shares of the shorter side."""
    covered = photo.convert("RGB")
    draw, side = ImageDraw.Draw(covered), min(photo.size)
    for x, y, diameter, colour in spots:
        r, cx, cy = diameter * side / 2, x * photo.width, y * photo.height
        draw.circle((cx, cy), r, fill=colour, outline="black", width=max(1, round(r / 12)))
        for eye in (-0.35, 0.35):
            draw.circle((cx + eye * r, cy - 0.25 * r), max(1.0, 0.12 * r), fill="black")
        draw.arc((cx - 0.5 * r, cy - 0.3 * r, cx + 0.5 * r, cy + 0.6 * r), 20, 160, fill="black", width=2)
    return covered


def screenshot(photo: Photo, frame: int, bar_units: float = 2.0) -> Photo:
    """The photo between the bars of a dark gallery app, a light chat or a browser.

    Args:
        frame: 0, 1 or 2, as above.
        bar_units: height of each bar in units of a twentieth of the width. With 2 a 4:3 photo takes four fifths of
            the picture, with 7 half of it. Photos of one size get the same frame, pixel for pixel.
    """
    status, back, ink = _FRAMES[frame]
    unit = max(photo.width // 20, 14)
    bar_px = round(bar_units * unit)
    screen = ImageOps.expand(photo, (0, bar_px, 0, bar_px), back)
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(size=0.8 * unit)
    draw.text((unit, unit), status, fill=ink, font=font, anchor="lm")
    draw.rectangle((screen.width - 2 * unit, 0.7 * unit, screen.width - unit, 1.3 * unit), outline=ink)
    for k in (1, 2, 3, 4):
        draw.circle((screen.width * k / 5, screen.height - unit), 0.4 * unit, outline=ink, width=2)
    if bar_units >= 4:
        _furnish(screen, bar_px, unit, ink)
    return screen


def _furnish(screen: Photo, bar_px: int, unit: int, ink: str) -> None:
    """What high bars hold besides: a title with a rule above the photo, lines and a field for comments below it."""
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(size=1.1 * unit)
    draw.text((unit, bar_px - 1.2 * unit), "Recently added", fill=ink, font=font, anchor="lm")
    draw.line((0, bar_px - 0.3 * unit, screen.width, bar_px - 0.3 * unit), fill=ink, width=2)
    below = screen.height - bar_px
    draw.line((unit, below + 0.6 * unit, 0.6 * screen.width, below + 0.6 * unit), fill=ink, width=3)
    draw.line((unit, below + 1.1 * unit, 0.4 * screen.width, below + 1.1 * unit), fill=ink, width=3)
    field = (unit, below + 1.6 * unit, screen.width - unit, below + 2.6 * unit)
    draw.rounded_rectangle(field, 0.4 * unit, outline=ink, width=2)
    draw.text((1.6 * unit, below + 2.1 * unit), "Write a comment", fill=ink, font=font, anchor="lm")


# --- kinds of edit, with random parameters ----------------------------------------------------------------


def _resolution(photo: Photo, rng: np.random.Generator) -> Photo:
    smallest = min(1.0, _MIN_SIDE_PX / min(photo.size))
    return scaled(photo, max(smallest, rng.uniform(0.25, 0.9)))


def _crop(photo: Photo, rng: np.random.Generator) -> Photo:
    """Keeps 60 to 95 % of each side."""
    share = rng.uniform(0.6, 0.95)
    return cropped(photo, rng.uniform(0, 1 - share), rng.uniform(0, 1 - share), share)


def _rotation(photo: Photo, rng: np.random.Generator) -> Photo:
    return rotated(photo, rng.choice((-1, 1)) * rng.uniform(1, 10))


def _flip(photo: Photo, rng: np.random.Generator) -> Photo:
    return ImageOps.mirror(photo) if rng.random() < 0.5 else ImageOps.flip(photo)


def _colour(photo: Photo, rng: np.random.Generator) -> Photo:
    if rng.random() < 0.25:
        return toned(photo).convert("RGB")
    return relit(photo, rng.uniform(0.65, 1.4), rng.uniform(0.65, 1.4), rng.uniform(0.4, 1.8))


def _watermark(photo: Photo, rng: np.random.Generator) -> Photo:
    return watermarked(photo, str(rng.choice(_MARKS)), rng.uniform(0.4, 0.6), int(rng.integers(80, 200)))


def _overlay(photo: Photo, rng: np.random.Generator) -> Photo:
    """One to three stickers of a seventh to a third of the shorter side."""

    def spot() -> tuple[float, float, float, tuple[int, int, int]]:
        red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
        return rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85), rng.uniform(0.14, 0.33), (red, green, blue)

    return stickered(photo, [spot() for _ in range(int(rng.integers(1, 4)))])


def _caption(photo: Photo, rng: np.random.Generator) -> Photo:
    return captioned(photo, str(rng.choice(_CAPTIONS)))


def _screenshot(photo: Photo, rng: np.random.Generator) -> Photo:
    return screenshot(photo, int(rng.integers(len(_FRAMES))), rng.uniform(2, 7))


_OF_PIXELS: dict[str, Callable[[Photo, np.random.Generator], Photo]] = {
    "resolution": _resolution, "crop": _crop, "watermark": _watermark, "rotation": _rotation, "flip": _flip,
    "colour": _colour, "overlay": _overlay, "caption": _caption, "screenshot": _screenshot,
}  # fmt: skip
_OTHER_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("WEBP", {"quality": 80}), ("PNG", {}), ("GIF", {}), ("JPEG", {"quality": 90, "progressive": True}),
)  # fmt: skip

EDITS: tuple[str, ...] = ("format", "compression", *_OF_PIXELS)
"""Names of the kinds of edit."""


def edited_copy(photo: Photo, edits: Sequence[str], rng: np.random.Generator) -> bytes:
    """An image file: `photo` after each of `edits` in turn, parameters drawn from `rng`.

    Without `format` or `compression` among them it is a JPEG of quality 75 to 95, as a camera or an editor writes.
    """
    rgb = photo.convert("RGB")
    for edit in edits:
        rgb = _OF_PIXELS[edit](rgb, rng) if edit in _OF_PIXELS else rgb
    quality = int(rng.integers(10, 45) if "compression" in edits else rng.integers(75, 96))
    if "format" in edits:
        name, options = _OTHER_FORMATS[rng.integers(len(_OTHER_FORMATS))]
        return encoded(rgb, name, **options)
    return encoded(rgb, "JPEG", quality=quality)


def copy_generator(seed: int, image_id: int, edit_number: int) -> np.random.Generator:
    """The same parameters for the same image and edit, whichever task or order makes the copy."""
    return np.random.default_rng([seed, image_id & (2**64 - 1), edit_number])


def encoded(image: Photo, format_name: str, **options: Any) -> bytes:
    """The image as a file of that Pillow format."""
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()
