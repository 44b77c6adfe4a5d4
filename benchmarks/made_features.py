"""Makes the tables `images` and `features` of a lake of any size, as listing and extract would leave them. No claim.

Vectors are those of `vectors.py`; a twentieth of the images are in planted groups of 2 to 50, mostly of 2 and 3. The
members of a group have cosines of 0.5 to 1 to the first, pHashes that differ in up to 16 bits, and thumbnails of one
picture, cropped, brightened and compressed each in its own way. Images without a group have one of 2,000 small
thumbnails: few pairs of them are looked at. A fiftieth of the lake shares a direction, as screenshots do.

The lake is made in parts of 50,000, each by a seed of its own, so that no more than a part is in memory.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance
from vectors import TEMPLATE_COSINE, TEMPLATE_SHARE, Background, at_cosine, group_sizes, load_fit

from dedup_spark.kernels.arrays import Float32
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables

LAKE = "file:///generated"
MODEL = "sscd_distilled/generated"
"""By its name the calibration of the default model is taken, whose cosines the vectors have."""
_PART_ROWS = 50_000
_LARGEST_GROUP = 50
_THUMBNAIL_PX = 256
_PICTURE_PX = 320
_N_SINGLES, _SINGLE_PX = 2_000, 128
_OCTAVES = ((3, 1.0), (8, 0.7), (24, 0.5), (64, 0.35), (160, 0.25))
"""Cells a side of each noise, and how much it counts."""

Ids = npt.NDArray[np.int64]


def make_tables(tables: Tables, n: int, seed: int, scratch: Path) -> None:
    """Append `n` rows to both tables, and write `truth.parquet` (image_id, group) into `scratch`.

    Cost: 20 s per 50,000 rows on one core, half of them for thumbnails; 4 KB of disk per row, twice for a time.
    """
    spark, truth = tables.spark, []
    for part, rows in enumerate(_parts(n, seed)):
        for table, made in ((IMAGES, rows.images()), (FEATURES, rows.features())):
            folder = scratch / table.name
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(made, folder / f"{part:05d}.parquet")
        truth.append(rows.truth())
    pq.write_table(pa.concat_tables(truth), scratch / "truth.parquet")
    for table in (IMAGES, FEATURES):
        tables.append(table, spark.read.schema(table.schema.ddl).parquet(str(scratch / table.name)))


class _Part:
    """Rows `first` to `first + len(ids)` of the lake; `group` (n,) is -1 without one."""

    def __init__(self, first: int, vectors: Float32, group: Ids, pictures: _Pictures, rng: np.random.Generator) -> None:
        self.first, self.ids, self.vectors, self.group = first, _ids(first, len(group)), vectors, group
        self._pictures, self._rng = pictures, rng

    def truth(self) -> pa.Table:
        held = self.group >= 0
        return pa.table({"image_id": self.ids[held], "group": self.group[held]})

    def images(self) -> pa.Table:
        n = len(self.ids)
        return _of_schema(IMAGES.schema.arrow, n, {
            "image_id": self.ids,
            "lake": [LAKE] * n,
            "uri": [f"{LAKE}/{row // 1000:06d}/{row:09d}.jpg" for row in range(self.first, self.first + n)],
            "size_bytes": self._rng.integers(50_000, 5_000_000, n),
            "object_version": np.zeros(n, np.int64),
        })  # fmt: skip

    def features(self) -> pa.Table:
        n = len(self.ids)
        names = [hashlib.sha256(b"%d" % row).hexdigest() for row in range(self.first, self.first + n)]
        width = self._rng.integers(300, 4000, n).astype(np.int32)
        return _of_schema(FEATURES.schema.arrow, n, {
            "image_id": self.ids,
            "object_version": np.zeros(n, np.int64),
            "status": ["ok"] * n,
            "content_hash": names,
            "pixel_hash": names,
            "phash": self._phashes(),
            "width_px": width,
            "height_px": (width * 3 // 4).astype(np.int32),
            "magic_format": ["JPEG"] * n,
            "format": ["JPEG"] * n,
            "n_frames": np.ones(n, np.int32),
            "sharpness": np.full(n, 500, np.float32),
            "luma_stddev": np.full(n, 60, np.float32),
            "entropy_bits": np.full(n, 7.5, np.float32),
            "is_damaged": [False] * n,
            "is_lossless": [False] * n,
            "reading_key": np.arange(self.first, self.first + n),
            "thumbnail": self._thumbnails(),
            "model_id": [MODEL] * n,
            "embedding": [row.tobytes() for row in self.vectors.astype("<f2")],
        })  # fmt: skip

    def _phashes(self) -> Ids:
        """Those of a group differ in 0 to 16 bits from one of its own."""
        hashes = self._rng.integers(-(2**63), 2**63 - 1, len(self.ids))
        for members in _by_group(self.group):
            for row in members[1:]:
                bits = self._rng.choice(64, self._rng.integers(0, 9), replace=False)
                flips = np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), initial=np.uint64(0))
                hashes[row] = (hashes[members[0]].view(np.uint64) ^ flips).view(np.int64)
        return hashes

    def _thumbnails(self) -> list[bytes]:
        singles = self._pictures.singles
        found = [singles[i] for i in self._rng.integers(len(singles), size=len(self.ids))]
        for members in _by_group(self.group):
            picture = noise(_PICTURE_PX, self._rng)
            for row in members:
                found[row] = _edited(picture, self._rng)
        return found


class _Pictures:
    """Pictures that show nothing, each another one: noise of all sizes, as photos have. `singles` are thumbnails."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.singles = [_jpeg(noise(_SINGLE_PX, rng), 60) for _ in range(_N_SINGLES)]


def noise(side_px: int, rng: np.random.Generator) -> Image.Image:
    """Its amplitude falls with the frequency, as that of natural pictures does (Field, JOSA A 1987)."""
    levels = np.zeros((side_px, side_px, 3), np.float32)
    for n, weight in _OCTAVES:
        small = Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8))
        levels += weight * np.asarray(small.resize((side_px, side_px), Image.Resampling.BICUBIC), np.float32)
    levels -= levels.min()
    return Image.fromarray((levels * (255 / max(1.0, float(levels.max())))).astype(np.uint8))


def _parts(n: int, seed: int) -> Iterator[_Part]:
    common = np.random.default_rng(seed)
    pictures = _Pictures(common)
    background = Background.of(load_fit(), common)
    template = background.draw(1, common)[0]
    n_groups = 0
    for part, first in enumerate(range(0, n, _PART_ROWS)):
        rng, size = np.random.default_rng([seed, part]), min(_PART_ROWS, n - first)
        x, group, places = background.draw(size, rng), np.full(size, -1, np.int64), rng.permutation(size)
        shared, places = np.split(places, [int(TEMPLATE_SHARE * size)])
        x[shared] = at_cosine(template, x[shared], np.full(len(shared), np.sqrt(TEMPLATE_COSINE), np.float32))
        for n_members in group_sizes(size, _LARGEST_GROUP, rng):
            members, places = places[:n_members], places[n_members:]
            cosine = rng.uniform(0.5, 1, len(members) - 1).astype(np.float32)
            x[members[1:]] = at_cosine(x[members[0]], x[members[1:]], cosine)
            group[members] = n_groups
            n_groups += 1
        yield _Part(first, x, group, pictures, rng)


def _ids(first: int, n: int) -> Ids:
    """Spread over the whole range as hashes are, and distinct: an odd multiplier permutes the numbers of 64 bits."""
    return (np.arange(first, first + n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)


def _by_group(group: Ids) -> list[Ids]:
    held = np.flatnonzero(group >= 0)
    order = held[np.argsort(group[held], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []


def _crop(picture: Image.Image, at_least: float, rng: np.random.Generator) -> Image.Image:
    """A part of at least this share of each side."""
    share = rng.uniform(at_least, 1)
    w, h = (max(1, int(side * share)) for side in picture.size)
    x, y = rng.integers(picture.width - w + 1), rng.integers(picture.height - h + 1)
    return picture.crop((int(x), int(y), int(x) + w, int(y) + h))


def _edited(picture: Image.Image, rng: np.random.Generator) -> bytes:
    edited = ImageEnhance.Brightness(_crop(picture, 0.85, rng)).enhance(rng.uniform(0.85, 1.15))
    edited.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    return _jpeg(edited, 80)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _of_schema(schema: pa.Schema, n: int, columns: dict[str, object]) -> pa.Table:
    """Columns that are not named are null."""
    return pa.table([
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(n, field.type)
        for field in schema
    ], schema)  # fmt: skip
