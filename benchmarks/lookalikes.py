"""A labelled corpus of look-alikes: pictures that agree in layout, frame and colour, and differ in content. Drawn by
script, the same for the same seed; no photo is needed. Not a benchmark.

Each kind is a family of strangers, say slides of one template, and each of its pictures is one group with its own
edited copies, which must still be found. Files are named as `cluster_scores.py` expects: group, two underscores, edit.

    python benchmarks/lookalikes.py /tmp/lookalikes
    python benchmarks/accuracy.py --corpus /tmp/lookalikes
"""

from __future__ import annotations

import argparse
import colorsys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dedup_spark.kernels import edits

Rng = np.random.Generator
Picture = Image.Image
Drawn = Callable[[ImageDraw.ImageDraw, Rng], None]
SEED, N_PICTURES = 20_251, 5
_WORDS = (
    "harbour", "survey", "pilot", "north", "valve", "ledger", "copper", "winter", "anchor", "granite", "ferry",
    "tariff", "willow", "signal", "quarry", "lantern", "budget", "orchard", "turbine", "saddle", "meadow",
    "cargo", "violin", "marble", "kettle", "bishop", "canyon", "relay", "sugar", "timber", "walnut", "zenith",
)  # fmt: skip


def _font(size_px: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


def _words(rng: Rng, n: int) -> str:
    return " ".join(str(w) for w in rng.choice(_WORDS, n))


def _hue(rng: Rng, saturation: float = 0.8, value: float = 0.75) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _family(size: tuple[int, int], ground: str, frame: Drawn, content: Drawn) -> Callable[[Rng, int], list[Picture]]:
    """Pictures with one `frame`, drawn by one generator for all, and another `content` in each."""

    def draw(rng: Rng, n: int) -> list[Picture]:
        of_frame, made = int(rng.integers(2**31)), []
        for _ in range(n):
            picture = Image.new("RGB", size, ground)
            frame(ImageDraw.Draw(picture), np.random.default_rng(of_frame))
            content(ImageDraw.Draw(picture), rng)
            made.append(picture)
        return made

    return draw


def _nothing(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    """A family without a common frame but its ground."""


# --- documents --------------------------------------------------------------------------------------------


def _slide_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    colour = _hue(rng)
    draw.rectangle((0, 0, 960, 26), fill=colour)
    draw.rectangle((0, 500, 960, 540), fill=colour)
    draw.text((40, 508), _words(rng, 3), fill="white", font=_font(18))


def _slide(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((60, 60), _words(rng, 3).title(), fill="#222", font=_font(44))
    for k in range(int(rng.integers(3, 6))):
        draw.ellipse((64, 166 + 60 * k, 74, 176 + 60 * k), fill="#444")
        draw.text((90, 155 + 60 * k), _words(rng, int(rng.integers(3, 7))), fill="#333", font=_font(27))


def _letter_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((80, 60), _words(rng, 2).upper(), fill=_hue(rng), font=_font(40))
    draw.line((80, 120, 740, 120), fill="black", width=3)
    draw.text((80, 1080), _words(rng, 7), fill="#555", font=_font(15))


def _letter(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((80, 160), _words(rng, 2).title(), fill="black", font=_font(18))
    for k in range(int(rng.integers(22, 30))):
        draw.text((80, 240 + 27 * k), _words(rng, int(rng.integers(8, 11))), fill="black", font=_font(17))


def _receipt_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((200, 50), _words(rng, 1).upper(), fill="black", font=_font(42), anchor="mm")
    draw.text((200, 90), _words(rng, 4), fill="black", font=_font(16), anchor="mm")


def _receipt(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    n = int(rng.integers(8, 16))
    for k in range(n + 1):
        name, font = ("TOTAL", _font(26)) if k == n else (_words(rng, 2), _font(19))
        draw.text((30, 130 + 32 * k), name, fill="black", font=font)
        draw.text((370, 130 + 32 * k), f"{rng.uniform(1, 99):.2f}", fill="black", font=font, anchor="ra")


def _form_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((50, 40), _words(rng, 4).title(), fill="black", font=_font(30))
    for k in range(12):
        draw.text((50, 110 + 56 * k), _words(rng, 1), fill="black", font=_font(17))
        draw.rectangle((220, 100 + 56 * k, 700, 140 + 56 * k), outline="black", width=2)


def _form(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for k in range(12):
        draw.text((235, 106 + 56 * k), _words(rng, int(rng.integers(1, 4))), fill="#1a2a7a", font=_font(24))


def _chat_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.rectangle((0, 0, 540, 80), fill=_hue(rng, 0.6, 0.5))
    draw.text((90, 40), _words(rng, 1).title(), fill="white", font=_font(28), anchor="lm")
    draw.rounded_rectangle((20, 880, 520, 940), 28, outline="#999", width=2)


def _chat(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    top = 110
    while top < 790:
        lines = int(rng.integers(1, 4))
        left = 20 if rng.random() < 0.5 else 170
        draw.rounded_rectangle(
            (left, top, left + 350, top + 30 + 30 * lines), 16, fill="#fff" if left == 20 else "#cdeab8"
        )
        for k in range(lines):
            draw.text((left + 16, top + 14 + 30 * k), _words(rng, 3), fill="black", font=_font(21))
        top += 52 + 30 * lines


def _chart_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((60, 24), _words(rng, 4).title(), fill="black", font=_font(26))
    draw.line((70, 80, 70, 410, 660, 410), fill="black", width=3)
    for k in range(1, 6):
        draw.line((70, 410 - 60 * k, 660, 410 - 60 * k), fill="#ccc")
        draw.text((60, 410 - 60 * k), str(20 * k), fill="black", font=_font(16), anchor="rm")


def _bars(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for k in range(9):
        draw.rectangle((92 + 63 * k, 410 - rng.uniform(20, 310), 134 + 63 * k, 410), fill="#33658a")


def _lines(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for colour in ("#c1121f", "#003049"):
        level = np.clip(160 + np.cumsum(rng.normal(0, 26, 24)), 8, 320)
        draw.line([(80 + 25 * k, 410 - y) for k, y in enumerate(level.tolist())], fill=colour, width=4)


def _calendar_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.rectangle((0, 0, 700, 110), fill=_hue(rng))
    for k, day in enumerate("MTWTFSS"):
        draw.text((80 + 90 * k, 150), day, fill="#666", font=_font(26), anchor="mm")


def _calendar(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    month = int(rng.integers(12))
    draw.text((350, 55), _words(rng, 1).title(), fill="white", font=_font(50), anchor="mm")
    for day in range(28 + month % 4):
        row, column = divmod(day + int(month * 5 % 7), 7)
        draw.text((80 + 90 * column, 205 + 62 * row), str(day + 1), fill="black", font=_font(28), anchor="mm")


def _staves(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((350, 50), _words(rng, 2).title(), fill="black", font=_font(34), anchor="mm")
    for top in range(130, 900, 110):
        for k in range(5):
            draw.line((50, top + 11 * k, 650, top + 11 * k), fill="black", width=2)


def _notes(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for top in range(130, 900, 110):
        for x in np.cumsum(rng.uniform(28, 60, 12)).tolist():
            y = top + 5.5 * float(rng.integers(-1, 10))
            draw.ellipse((60 + x, y - 6, 76 + x, y + 6), fill="black")
            draw.line((75 + x, y, 75 + x, y - 38), fill="black", width=2)


def _handwriting(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for top in range(70, 520, 58):
        x = 40.0
        while x < 600:
            steps = np.arange(0, float(rng.uniform(50, 130)), 4)
            wave = 11 * np.sin(steps / rng.uniform(4, 7) + rng.uniform(0, 6)) + rng.normal(0, 3, len(steps))
            draw.line(
                [(x + s, top + w) for s, w in zip(steps.tolist(), wave.tolist(), strict=True)], fill="#223", width=3
            )
            x += float(steps[-1]) + 28


def _ruled(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for top in range(95, 560, 58):
        draw.line((0, top, 700, top), fill="#b8cbe6", width=2)


# --- products, signs and codes ----------------------------------------------------------------------------


_SHIRT = [
    (60, 130), (220, 60), (380, 60), (540, 130), (490, 240), (430, 210), (430, 590), (170, 590), (170, 210), (110, 240),
]  # fmt: skip


def _shirts(rng: Rng, n: int) -> list[Picture]:
    """One shape in n colours, evenly spread around the circle of hues."""
    start, made = rng.random(), []
    for k in range(n):
        rgb = colorsys.hsv_to_rgb((start + k / n) % 1, 0.75, 0.8)
        picture = Image.new("RGB", (600, 640), "white")
        colour, shade = (tuple(round(full * v) for v in rgb) for full in (255, 200))
        ImageDraw.Draw(picture).polygon(_SHIRT, fill=colour)
        for fold in range(4):
            ImageDraw.Draw(picture).line((220 + 55 * fold, 260, 205 + 60 * fold, 560), fill=shade, width=6)
        made.append(picture.filter(ImageFilter.GaussianBlur(1.5)))
    return made


def _bottle_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    glass = _hue(rng, 0.7, 0.35)
    draw.rectangle((165, 40, 235, 230), fill=glass)
    draw.rounded_rectangle((110, 200, 290, 760), 46, fill=glass)
    draw.rectangle((110, 400, 290, 640), fill="#f3ead6")


def _label(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((200, 440), _words(rng, 1).upper(), fill="#4a1010", font=_font(34), anchor="mm")
    x, y, r = rng.uniform(150, 250), rng.uniform(500, 540), rng.uniform(20, 40)
    draw.regular_polygon((x, y, r), int(rng.integers(3, 9)), fill="#8a6d2f")
    draw.text((200, 610), str(rng.integers(1960, 2026)), fill="#4a1010", font=_font(28), anchor="mm")


def _carton_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    colour = _hue(rng)
    draw.polygon([(120, 150), (260, 60), (400, 150)], fill=tuple(round(0.7 * v) for v in colour))
    draw.rectangle((120, 150, 400, 640), fill=colour)
    draw.text((260, 240), _words(rng, 1).upper(), fill="white", font=_font(60), anchor="mm")


def _flavour(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((260, 380), _words(rng, 1), fill="white", font=_font(44), anchor="mm")
    draw.text((260, 570), f"{int(rng.integers(1, 40)) * 25} g", fill="white", font=_font(52), anchor="mm")


def _logo(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    colour = _hue(rng)
    draw.regular_polygon((95, 100, 62), 6, fill=colour)
    draw.text((190, 100), _words(rng, 1).title(), fill=colour, font=_font(76), anchor="lm")


def _flags(rng: Rng, n: int) -> list[Picture]:
    made = []
    for _ in range(n):
        picture = Image.new("RGB", (600, 400))
        for k in range(3):
            colour = _hue(rng, float(rng.choice((0.0, 0.85, 0.85))), 0.85)
            ImageDraw.Draw(picture).rectangle((200 * k, 0, 200 * k + 200, 400), fill=colour)
        made.append(picture)
    return made


def _plate_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.rounded_rectangle((8, 8, 512, 112), 12, outline="black", width=5)
    draw.rectangle((12, 12, 56, 108), fill="#003399")
    draw.text((34, 82), "X", fill="white", font=_font(28), anchor="mm")


def _plate(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    letters = "".join(rng.choice(list("ABCDEFGHJKLMNPRSTUVWXYZ"), 4))
    number = f"{letters[:2]} {letters[2:]} {rng.integers(100, 9999)}"
    draw.text((285, 60), number, fill="black", font=_font(66), anchor="mm")


def _digit(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    place = (150 + rng.uniform(-12, 12), 150 + rng.uniform(-12, 12))
    draw.text(place, str(rng.integers(10, 100)), fill="white", font=_font(float(rng.uniform(170, 200))), anchor="mm")


def _board_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for row in range(8):
        for column in range(8):
            fill = "#eeeed2" if (row + column) % 2 else "#6f9450"
            draw.rectangle((60 * column, 60 * row, 60 * column + 60, 60 * row + 60), fill=fill)


def _pieces(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for square in rng.choice(64, int(rng.integers(10, 22)), replace=False).tolist():
        x, y, ink = 30 + 60 * (square % 8), 30 + 60 * (square // 8), "white" if rng.random() < 0.5 else "black"
        draw.regular_polygon((x, y, 20), int(rng.integers(3, 8)), fill=ink, outline="#333")


def _code_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for x, y in ((40, 40), (360, 40), (40, 360)):
        draw.rectangle((x, y, x + 97, y + 97), fill="black")
        draw.rectangle((x + 14, y + 14, x + 83, y + 83), fill="white")
        draw.rectangle((x + 28, y + 28, x + 69, y + 69), fill="black")


def _modules(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    dark = rng.random((30, 30)) < 0.5
    dark[:8, :8] = dark[:8, 22:] = dark[22:, :8] = False
    for row, column in np.argwhere(dark).tolist():
        x, y = 40 + 14 * column, 40 + 14 * row
        draw.rectangle((x, y, x + 13, y + 13), fill="black")


def _barcode(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    x = 40.0
    while x < 540:
        width = float(rng.integers(1, 5)) * 4
        draw.rectangle((x, 30, x + width - 1, 220), fill="black")
        x += width + float(rng.integers(1, 5)) * 4
    draw.text((300, 250), str(rng.integers(10**11, 10**12)), fill="black", font=_font(34), anchor="mm")


def _tiles(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    for place in range(36):
        x, y = 80 * (place % 6), 80 * (place // 6)
        grey = int(rng.integers(150, 220))
        draw.rectangle((x + 3, y + 3, x + 76, y + 76), fill=(grey, grey - 12, grey - 28))
        draw.arc((x + 12, y + 12, x + 66, y + 66), int(rng.integers(360)), int(rng.integers(360)), fill="#774", width=6)


def _poster_frame(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.rectangle((0, 0, 600, 800), fill=_hue(rng, 0.5, 0.3))
    for _ in range(9):
        x, y, r = rng.uniform(0, 600), rng.uniform(60, 480), rng.uniform(30, 130)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_hue(rng, 0.7, 0.8))
    draw.text((300, 90), _words(rng, 2).upper(), fill="white", font=_font(58), anchor="mm")


def _poster(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
    draw.text((300, 620), f"{rng.integers(1, 29)}. {_words(rng, 1)}", fill="white", font=_font(52), anchor="mm")
    draw.text((300, 710), _words(rng, 3), fill="white", font=_font(34), anchor="mm")


# --- measurements -----------------------------------------------------------------------------------------


def _smooth(rng: Rng, side_px: int, sigma: float) -> np.ndarray:
    """(side_px, side_px) blurred noise, 0 to 1."""
    noise = Image.fromarray(rng.integers(0, 256, (side_px, side_px), np.uint8))
    found = np.asarray(noise.filter(ImageFilter.GaussianBlur(sigma)), np.float64)
    return (found - found.min()) / (found.max() - found.min())


def _slices(rng: Rng, n: int) -> list[Picture]:
    """Neighbouring slices of a body: one outline, and tissue that changes from slice to slice."""
    y, x = np.mgrid[-1:1:400j, -1:1:400j]
    inside = (x / 0.75) ** 2 + (y / 0.9) ** 2 < 1
    skull = inside & ((x / 0.68) ** 2 + (y / 0.83) ** 2 > 1)
    first, second = _smooth(rng, 400, 9), _smooth(rng, 400, 9)
    made = []
    for k in range(n):
        turn = 1.1 * k
        tissue = 90 + 130 * (np.cos(turn) * (first - 0.5) + np.sin(turn) * (second - 0.5))
        made.append(
            Image.fromarray(
                np.clip(np.where(skull, 235, np.where(inside, tissue, 4)), 0, 255).astype(np.uint8)
            ).convert("RGB")
        )
    return made


def _spectrograms(rng: Rng, n: int) -> list[Picture]:
    made = []
    for _ in range(n):
        level = 0.35 * _smooth(rng, 420, 2)[:256]
        for _ in range(int(rng.integers(5, 9))):
            row, start, length = rng.integers(20, 240), int(rng.integers(0, 330)), int(rng.integers(40, 90))
            for k in range(length):
                level[int(np.clip(row + 14 * np.sin(k / 11), 2, 252)) + np.arange(3), start + k] = 1.0
        rgb = np.stack([level, level**2, 0.4 - 0.3 * level], axis=-1)
        made.append(Image.fromarray((255 * rgb).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2)))
    return made


LOOKALIKES: dict[str, Callable[[Rng, int], list[Picture]]] = {
    "slide": _family((960, 540), "white", _slide_frame, _slide),
    "letter": _family((820, 1160), "white", _letter_frame, _letter),
    "receipt": _family((400, 720), "white", _receipt_frame, _receipt),
    "form": _family((760, 820), "white", _form_frame, _form),
    "chat": _family((540, 960), "#ece5dd", _chat_frame, _chat),
    "bars": _family((700, 450), "white", _chart_frame, _bars),
    "lines": _family((700, 450), "white", _chart_frame, _lines),
    "calendar": _family((700, 580), "white", _calendar_frame, _calendar),
    "music": _family((700, 980), "white", _staves, _notes),
    "note": _family((700, 560), "#fbf8ec", _ruled, _handwriting),
    "shirt": _shirts,
    "bottle": _family((400, 800), "white", _bottle_frame, _label),
    "carton": _family((520, 700), "white", _carton_frame, _flavour),
    "logo": _family((560, 200), "white", _nothing, _logo),
    "flag": _flags,
    "plate": _family((520, 120), "#f4f4f4", _plate_frame, _plate),
    "digit": _family((300, 300), "black", _nothing, _digit),
    "board": _family((480, 480), "white", _board_frame, _pieces),
    "code": _family((500, 500), "white", _code_frame, _modules),
    "barcode": _family((600, 290), "white", _nothing, _barcode),
    "tiles": _family((480, 480), "#d8d4cc", _nothing, _tiles),
    "poster": _family((600, 800), "white", _poster_frame, _poster),
    "slice": _slices,
    "spectrogram": _spectrograms,
}


def copies(picture: Picture, rng: Rng) -> Iterator[tuple[str, bytes]]:
    """Name of the edit with suffix, and file: what a lake holds beside an original, nothing that hides its content."""

    def jpeg(edited: Picture, low: int = 60, high: int = 95) -> bytes:
        return edits.encoded(edited.convert("RGB"), "JPEG", quality=int(rng.integers(low, high)))

    share = rng.uniform(0.85, 0.95)
    left, top = rng.uniform(0, 1 - share, 2)
    yield "original.png", edits.encoded(picture, "PNG")
    yield "jpeg.jpg", jpeg(picture, 30, 60)
    yield "webp.webp", edits.encoded(picture, "WEBP", quality=80)
    yield "small.jpg", jpeg(edits.scaled(picture, rng.uniform(0.25, 0.8)))
    yield "crop.jpg", jpeg(edits.cropped(picture, left, top, share))
    yield "grey.jpg", jpeg(picture.convert("L"))
    yield "dim.jpg", jpeg(edits.relit(picture, rng.uniform(0.7, 0.9), rng.uniform(0.8, 1.1), rng.uniform(0.7, 1.2)))
    yield "mark.jpg", jpeg(edits.watermarked(picture, "SAMPLE", 0.5, int(rng.integers(60, 120))))
    yield (
        "turn.jpg",
        jpeg(picture.rotate(float(rng.uniform(-2, 2)), Image.Resampling.BICUBIC, fillcolor=picture.getpixel((1, 1)))),
    )


def lookalikes(kinds: list[str], n: int = N_PICTURES, seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file; group `kind_number`."""
    for kind in kinds:
        rng = np.random.default_rng([seed, list(LOOKALIKES).index(kind)])
        for k, picture in enumerate(LOOKALIKES[kind](rng, n)):
            for name, data in copies(picture, rng):
                yield f"{kind}_{k:02d}__{name}", data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files go; it is made")
    parser.add_argument("--kinds", nargs="*", choices=list(LOOKALIKES), default=list(LOOKALIKES))
    parser.add_argument("--pictures", type=int, default=N_PICTURES, help="strangers of each kind")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    for name, data in lookalikes(options.kinds, options.pictures, options.seed):
        (options.folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
