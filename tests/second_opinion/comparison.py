"""How far our thumbnail is from what another decoder sees."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding.formats import sniff_format
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import Signature, SignatureSettings, sign_image
from second_opinion.cases import Case, Values
from second_opinion.decoders import Opinion, opinions

SETTINGS = SignatureSettings(max_pixels=10**8, min_side_px=8, thumbnail_px=256, thumbnail_quality=95, input_px=0)
WRITER = "the writer"
MEAN_LEVELS, BLOCK_LEVELS = 3.0, 20.0
"""Of two decoders of the same file, in levels of 255: of the whole picture, and of the worst block of 8 x 8 pixels."""
_BLOCK_PX = 8


@dataclass(frozen=True)
class Difference:
    """Of our picture of one file from the opinion of one decoder."""

    case: str
    decoder: str
    what: str

    def __str__(self) -> str:
        return f"{self.case} | {self.decoder} | {self.what}"


def compared(case: Case) -> list[tuple[str, Difference | None]]:
    """For each decoder that has an opinion its name, and the difference if there is one."""
    image_format = sniff_format(case.data) or ""
    try:
        ours: Signature | str = sign_image(case.data, SETTINGS)
    except ImageRejected as e:
        ours = f"rejected: {e}"
    return [(o.decoder, _difference(case, ours, o)) for o in _all_opinions(case, image_format)]


def _all_opinions(case: Case, image_format: str) -> Iterator[Opinion]:
    if case.shown is not None:
        yield Opinion(WRITER, case.shown, case.n_frames)
    yield from opinions(case, image_format)


def _difference(case: Case, ours: Signature | str, theirs: Opinion) -> Difference | None:
    found = [ours] if isinstance(ours, str) else list(_differences(case, ours, theirs))
    return Difference(case.name, theirs.decoder, "; ".join(found)) if found else None


def _differences(case: Case, ours: Signature, theirs: Opinion) -> Iterator[str]:
    height, width = theirs.values.shape[:2]
    if (ours.width_px, ours.height_px) != (width, height):
        yield f"size {ours.width_px} x {ours.height_px}, not {width} x {height}"
        return
    if theirs.n_frames is not None and ours.n_frames != theirs.n_frames:
        yield f"{ours.n_frames} frames, not {theirs.n_frames}"
    mean, block = _distance(np.asarray(Image.open(io.BytesIO(ours.thumbnail)).convert("RGB")), theirs.values)
    scale = case.like / MEAN_LEVELS if theirs.decoder == WRITER else 1.0
    if mean > MEAN_LEVELS * scale or block > BLOCK_LEVELS * scale:
        yield f"pixels {mean:.1f} levels apart, {block:.0f} in the worst block"


def _distance(ours: Values, theirs: Values) -> tuple[float, float]:
    """Mean difference in levels, of all and of the block where it is largest; over the ground that fits better."""
    return min(_apart(ours.astype(np.float64), shown) for shown in _shown(ours, theirs))


def _shown(ours: Values, theirs: Values) -> Iterator[Values]:
    """As thumbnails: over white and over black where there is alpha; deep grey as near to ours as brightness and
    contrast bring it, as each program has its own rule for them."""
    if theirs.dtype != np.uint8:
        yield _fitted(ours, theirs[..., 0].astype(np.float64))
        return
    colours = np.repeat(theirs[..., :1], 3, axis=2) if theirs.shape[2] < 3 else theirs[..., :3]
    if theirs.shape[2] in (1, 3):
        yield _as_thumbnail(colours, ours)
        return
    alpha = theirs[..., -1:] / 255.0
    for ground in (255, 0):
        yield _as_thumbnail((colours * alpha + ground * (1 - alpha)).round().astype(np.uint8), ours)


def _fitted(ours: Values, deep: Values) -> Values:
    grey = ours.mean(axis=2)
    spread = deep.std()
    gain = max(0.0, ((deep - deep.mean()) * (grey - grey.mean())).mean() / spread**2) if spread else 0.0
    fitted = (deep - deep.mean()) * gain + grey.mean()
    return np.repeat(np.clip(fitted, 0, 255)[..., None], 3, axis=2)


def _as_thumbnail(colours: Values, ours: Values) -> Values:
    image = Image.fromarray(np.ascontiguousarray(colours))
    if image.size != ours.shape[1::-1]:
        image = image.resize(ours.shape[1::-1], Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=SETTINGS.thumbnail_quality)
    return np.asarray(Image.open(out)).astype(np.float64)


def _apart(ours: Values, theirs: Values) -> tuple[float, float]:
    levels = np.abs(ours - theirs).mean(axis=2)
    height, width = (side - side % _BLOCK_PX for side in levels.shape)
    blocks = levels[:height, :width].reshape(height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX)
    return float(levels.mean()), float(blocks.mean((1, 3)).max())
