"""Groups as rows of Arrow: each picture described by its thumbnail, then compared with the others of its label."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.rendering import render
from dedup_spark.kernels.features.origin import origin_facts
from dedup_spark.stages.cluster import consensus
from dedup_spark.stages.cluster.consensus import _DESCRIBED, _FACTS, _FOUND

PHOTO = load_sample_photo("coffee.png").convert("RGB")
FRAMED = ImageOps.expand(PHOTO, 30, "white")


def row(label: int, image_id: int, image: Any, added_share: float | None = 0.0) -> dict[str, Any]:
    width, height = image.size
    return {
        "label": label, "representative_id": image_id, "width_px": width, "height_px": height,
        "added_share": added_share, "shown_width_px": width - 60 * bool(added_share),
        "shown_height_px": height - 60 * bool(added_share), "exif_orientation": 1, "has_colour_profile": False,
        "block_sample": None,
        "thumbnail": edits.encoded(ImageOps.contain(image, (256, 256)), "JPEG", quality=80),
    }  # fmt: skip


ROWS = [
    *[row(1, i, edits.scaled(PHOTO, factor)) for i, factor in enumerate((1.0, 0.8, 0.6), 1)],
    row(1, 4, edits.watermarked(PHOTO, "SAMPLE", 0.5, 200)),
    row(2, 5, PHOTO),
    row(2, 6, FRAMED, 0.2),
    row(3, 7, PHOTO) | {"thumbnail": None},
    row(3, 8, PHOTO, None) | {"width_px": None, "shown_width_px": None, "has_colour_profile": None},
]


@pytest.mark.parametrize("rows_per_batch", [1, 3, 8])
def test_marked_and_bordered_members_are_found_however_rows_are_cut_into_batches(rows_per_batch: int) -> None:
    batches = (
        pa.RecordBatch.from_pylist(ROWS[at : at + rows_per_batch], _schema()) for at in range(0, 8, rows_per_batch)
    )
    described = list(consensus._describe_batches(batches))
    assert all(batch.schema.names == list(_DESCRIBED.names) for batch in described)
    found = [r for batch in consensus._compare_batches(described, max_images=100) for r in batch.to_pylist()]
    assert list(found[0]) == list(_FOUND.names)
    assert [r["representative_id"] for r in found] == list(range(1, 9))
    assert [r["representative_id"] for r in found if r["differs_from_most"]] == [4]
    assert [r["representative_id"] for r in found if r["has_added_border"]] == [6]


def test_copies_are_told_from_their_source_by_their_blocks() -> None:
    original = edits.encoded(edits.scaled(PHOTO, 0.7), "JPEG", quality=85)
    copy = edits.encoded(Image.open(io.BytesIO(original)), "JPEG", quality=95)
    image = Image.open(io.BytesIO(original))
    rows = [row(4, 1, image) | {"block_sample": _sample(copy)}, row(4, 2, image) | {"block_sample": _sample(original)}]
    described = consensus._describe_batches([pa.RecordBatch.from_pylist(rows, _schema())])
    found = [r for batch in consensus._compare_batches(described, max_images=100) for r in batch.to_pylist()]
    assert [r["is_made_from_another"] for r in found] == [True, False]
    assert [r["has_copies"] for r in found] == [False, True]


def _sample(data: bytes) -> bytes | None:
    image = decode_image(data, max_pixels=10**8, min_side_px=8)
    return origin_facts(data, image, render(image, 256)).block_sample


def test_a_label_beyond_the_limit_is_compared_in_pieces() -> None:
    described = list(consensus._describe_batches([pa.RecordBatch.from_pylist(ROWS[:4], _schema())]))
    found = [r for batch in consensus._compare_batches(described, max_images=2) for r in batch.to_pylist()]
    assert [r["differs_from_most"] for r in found] == [False] * 4


def _schema() -> pa.Schema:
    kinds = {
        "bigint": pa.int64(), "int": pa.int32(), "float": pa.float32(), "boolean": pa.bool_(), "binary": pa.binary(),
    }  # fmt: skip
    fields = [(name, kinds[kind]) for name, kind in _FACTS.types.items()]
    return pa.schema([*fields, ("thumbnail", pa.binary())])
