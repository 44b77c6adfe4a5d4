"""Labelled corpora made from photos by the edits of `dedup_spark/kernels/edits.py`. Not a benchmark.

Every photo is one group, and files are named as `cluster_scores.py` expects. The photos must be distinct, which is not
checked here.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dedup_spark.kernels import edits
from dedup_spark.kernels.decoding.images import sniff_format

Files = Iterator[tuple[str, bytes]]
"""Name and content; a name without a suffix gets that of its format, as other programs choose a decoder by it."""
N_COPIES, FRAME_SHARE, FRAME_PX = 80, 0.5, (540, 405)
SEED = 20_244
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp"}


def write_corpus(kind: str, folder: Path, photos: list[bytes]) -> Path:
    """Writes the corpus `kind` of CORPORA; the same photos give the same files."""
    folder.mkdir(parents=True)
    for name, data in CORPORA[kind](photos):
        (folder / (name if "." in name else name + _SUFFIXES[sniff_format(data) or ""])).write_bytes(data)
    return folder


def ukbench(photos: list[bytes]) -> Files:
    """The five edits of imagededup's published benchmark: crop, two flips, rotation by 25 degrees, squash."""
    for i, data in enumerate(photos):
        photo, rng = _opened(data), edits.copy_generator(SEED, i, 0)
        yield f"{i:06d}__original.jpg", data
        left, top = rng.uniform(0, 0.125, 2)
        side = min(photo.size)
        copies = {
            "crop": edits.cropped(photo, left, top, 0.875),
            "hflip": ImageOps.mirror(photo),
            "vflip": ImageOps.flip(photo),
            "rot25": photo.rotate(25, Image.Resampling.BICUBIC, expand=True),
            "square": photo.resize((side, side), Image.Resampling.BICUBIC),
        }
        for edit, copy in copies.items():
            yield f"{i:06d}__{edit}.jpg", edits.encoded(copy, "JPEG", quality=90)


def mixed(photos: list[bytes]) -> Files:
    """Each kind of edit once, five copies with two edits each, and a byte copy of every fifth photo."""
    for i, data in enumerate(photos):
        photo = _opened(data)
        yield f"{i:06d}__original.jpg", data
        if i % 5 == 0:
            yield f"{i:06d}__exact.jpg", data
        for k, edit in enumerate(edits.EDITS):
            yield f"{i:06d}__{edit}", edits.edited_copy(photo, [edit], edits.copy_generator(SEED, i, k))
        for k in range(100, 105):
            rng = edits.copy_generator(SEED, i, k)
            yield f"{i:06d}__two_{k}", edits.edited_copy(photo, _drawn(rng, 2), rng)


def family(photos: list[bytes]) -> Files:
    """One picture with eighty copies; all other photos share one frame, half of each; some also occur without it.

    The frame is the same pixel for pixel, so that the pictures share more than they differ in.
    """
    hub, *others = photos
    photo = _opened(hub)
    yield "000000__original.jpg", hub
    for k in range(N_COPIES):
        rng = edits.copy_generator(SEED, 0, k)
        yield f"000000__copy_{k:02d}", edits.edited_copy(photo, _drawn(rng, int(rng.integers(1, 4))), rng)
    for i, data in enumerate(others, 1):
        inner = covering(_opened(data), *FRAME_PX)
        framed = edits.screenshot(inner, 0, bar_units_for(FRAME_SHARE, inner))
        plain = i % 3 == 0
        if plain:
            yield f"{i:06d}__original.jpg", data
        yield f"{i:06d}__{'framed' if plain else 'original'}.png", edits.encoded(framed, "PNG")


CORPORA: dict[str, Callable[[list[bytes]], Files]] = {"ukbench": ukbench, "mixed": mixed, "family": family}


def _drawn(rng: np.random.Generator, n: int) -> list[str]:
    """`n` different kinds of edit, in the order in which they were drawn."""
    return [str(edit) for edit in rng.choice(edits.EDITS, n, replace=False)]


def _opened(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def covering(photo: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """Scaled and cropped to exactly this size, so that photos in one frame can share it pixel for pixel."""
    return ImageOps.fit(photo.convert("RGB"), (width_px, height_px), Image.Resampling.LANCZOS)


def bar_units_for(share: float, photo: Image.Image) -> float:
    """The `bar_units` of `screenshot` with which the photo takes `share` of the picture."""
    bars_px = photo.height * (1 / share - 1)
    return math.floor(10 * bars_px / 2 / max(photo.width // 20, 14)) / 10
