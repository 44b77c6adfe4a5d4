"""The task that lays thumbnails over each other, without Spark: Arrow batches in, relations out, however cut."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.stages.cluster import relations

_COLUMNS = pa.schema(
    [
        ("keeper_representative_id", pa.int64()), ("representative_id", pa.int64()), ("is_member", pa.bool_()),
        ("covered", pa.float32()), ("changed", pa.float32()), ("two_sided", pa.float32()),
        ("colour_change", pa.string()), ("n_inliers", pa.int32()),
        ("width_px", pa.int32()), ("height_px", pa.int32()), ("n_frames", pa.int32()),
        ("frame_phashes", pa.list_(pa.int64())), ("duration_ms", pa.int32()),
        ("captured_at", pa.timestamp("us", "UTC")), ("camera", pa.string()), ("thumbnail", pa.binary()),
    ]
)  # fmt: skip


def thumbnail(photo: Image.Image, quality: int = 80) -> bytes:
    data = io.BytesIO()
    photo.save(data, "JPEG", quality=quality)
    return data.getvalue()


def photo(name: str) -> Image.Image:
    return load_sample_photo(name).convert("RGB").resize((256, 192))


def row(keeper: int, image: int, jpeg: bytes | None, **facts: Any) -> dict[str, Any]:
    plain = {"width_px": 400, "height_px": 300, "n_frames": 1}
    ids = {"keeper_representative_id": keeper, "representative_id": image, "is_member": keeper != image}
    return dict.fromkeys(_COLUMNS.names) | ids | plain | {"thumbnail": jpeg} | facts


def two_groups() -> list[dict[str, Any]]:
    """Of 10: re-encoded in half the size, mirrored, under a sticker, unseen, a film. Of 20: cropped, say keypoints."""
    cat, cup = photo("chelsea.png"), photo("coffee.png")
    stickered = cat.copy()
    ImageDraw.Draw(stickered).ellipse((60, 60, 110, 110), fill="yellow", outline="black", width=3)
    cropped = cup.crop((40, 30, 230, 170)).resize((256, 192))
    return [
        row(10, 10, thumbnail(cat)),
        row(10, 11, thumbnail(cat, 40), width_px=200, height_px=150),
        row(10, 12, thumbnail(ImageOps.mirror(cat))),
        row(10, 13, thumbnail(stickered), covered=1.0, changed=0.06, two_sided=0.0, colour_change="none"),
        row(10, 14, None),
        row(10, 15, thumbnail(cat), n_frames=9),
        row(20, 20, thumbnail(cup)),
        row(20, 21, thumbnail(cropped), covered=0.54, changed=0.0, two_sided=0.0, colour_change="none"),
    ]


RELATED = {
    11: ("reencoded", None), 12: ("edited_copy", "turned"), 13: ("edited_copy", "marked"), 14: ("edited_copy", None),
    15: ("still", None), 21: ("edited_copy", "cropped"),
}  # fmt: skip


@pytest.mark.parametrize("rows_per_batch", [1, 2, 3, 8])
def test_each_member_is_related_to_its_keeper_however_rows_are_cut_into_batches(rows_per_batch: int) -> None:
    rows = two_groups()
    batches = [
        pa.RecordBatch.from_pylist(rows[i : i + rows_per_batch], schema=_COLUMNS)
        for i in range(0, len(rows), rows_per_batch)
    ]
    described = relations._describe_batches(batches)
    found = [r for batch in relations._relate_batches(described) for r in batch.to_pylist()]
    assert {r["representative_id"]: (r["relation"], r["edit"]) for r in found} == RELATED
    assert all(list(r) == relations.RELATED.names for r in found)
    share = {r["representative_id"]: r["differing_share"] for r in found}
    assert share[14] is None
    assert share[11] < 0.005 < share[13] < share[12]
