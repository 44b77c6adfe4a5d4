"""Groups as rows of Arrow: each picture described by its thumbnail, then compared with the others of its label."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from PIL import ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.stages.cluster import consensus
from dedup_spark.stages.cluster.consensus import _DESCRIBED, _FACTS, _FOUND

PHOTO = load_sample_photo("coffee.png").convert("RGB")
FRAMED = ImageOps.expand(PHOTO, 30, "white")


def row(label: int, image_id: int, image: Any, added_share: float | None = 0.0) -> dict[str, Any]:
    width, height = image.size
    return {
        "label": label, "representative_id": image_id, "width_px": width, "height_px": height,
        "added_share": added_share, "shown_width_px": width - 60 * bool(added_share),
        "shown_height_px": height - 60 * bool(added_share),
        "thumbnail": edits.encoded(ImageOps.contain(image, (256, 256)), "JPEG", quality=80),
    }  # fmt: skip


ROWS = [
    *[row(1, i, edits.scaled(PHOTO, factor)) for i, factor in enumerate((1.0, 0.8, 0.6), 1)],
    row(1, 4, edits.watermarked(PHOTO, "SAMPLE", 0.5, 200)),
    row(2, 5, PHOTO),
    row(2, 6, FRAMED, 0.2),
    row(3, 7, PHOTO) | {"thumbnail": None},
    row(3, 8, PHOTO, None) | {"width_px": None, "shown_width_px": None},
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


def test_a_label_beyond_the_limit_is_compared_in_pieces() -> None:
    described = list(consensus._describe_batches([pa.RecordBatch.from_pylist(ROWS[:4], _schema())]))
    found = [r for batch in consensus._compare_batches(described, max_images=2) for r in batch.to_pylist()]
    assert [r["differs_from_most"] for r in found] == [False] * 4


def _schema() -> pa.Schema:
    kinds = {"bigint": pa.int64(), "int": pa.int32(), "float": pa.float32()}
    fields = [(name, kinds[kind]) for name, kind in _FACTS.types.items()]
    return pa.schema([*fields, ("thumbnail", pa.binary())])
