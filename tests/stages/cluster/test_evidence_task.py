"""The task that verifies pairs, without Spark: batches of thumbnails and queries to verified pairs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from photos import Grey, framed, photo, reencoded, rotated

from dedup_spark.errors import TableError
from dedup_spark.stages.cluster.evidence_task import VERIFIED, verify_batches

SCHEMA = pa.schema(
    [
        ("part", pa.int32()), ("image_id", pa.int64()), ("thumbnail", pa.binary()), ("query_id", pa.int64()),
        ("chunk", pa.int32()), ("candidates", pa.list_(pa.int64())), ("priors", pa.list_(pa.float64())),
        ("neighbours", pa.list_(pa.int64())),
    ]
)  # fmt: skip


def thumbnail(image_id: int, grey: Grey, part: int = 0) -> dict[str, Any]:
    _, encoded = cv2.imencode(".jpg", grey)
    return {"part": part, "image_id": image_id, "thumbnail": encoded.tobytes()}


def query(query_id: int, candidates: list[int], neighbours: list[int], part: int = 0) -> dict[str, Any]:
    return {
        "part": part, "query_id": query_id, "chunk": 0, "candidates": candidates, "priors": [0.5] * len(candidates),
        "neighbours": neighbours,
    }  # fmt: skip


def verified(rows: list[dict[str, Any]], batch_rows: int = 100) -> dict[tuple[int, int], dict[str, Any]]:
    batches = pa.Table.from_pylist(rows, schema=SCHEMA).to_batches(max_chunksize=batch_rows)
    found = [row for batch in verify_batches(batches) for row in batch.to_pylist()]
    assert all(list(row) == VERIFIED.names for row in found)
    return {(row["image_id_a"], row["image_id_b"]): row for row in found}


ROWS = [
    thumbnail(5, photo(1)),
    thumbnail(6, rotated(photo(1), 15)),
    thumbnail(7, photo(2)),
    query(6, [7, 5], []),
    *[thumbnail(20 + i, framed(photo(i)), part=1) for i in range(7)],
    thumbnail(5, photo(1), part=1),
    query(21, [20, 22, 5], [23, 24, 25, 26, 22], part=1),
]


def test_copies_are_likely_and_different_pictures_are_not_also_in_one_frame() -> None:
    found = verified(ROWS)
    assert set(found) == {(5, 6), (6, 7), (20, 21), (21, 22), (5, 21)}
    likely = {pair for pair, row in found.items() if row["copy_probability"] > 0.9}
    assert likely == {(5, 6), (5, 21)}
    assert found[20, 21]["n_inliers"] > 20
    assert found[20, 21]["contested"] > 0
    assert found[6, 7]["n_inliers"] == 0
    assert found[6, 7]["agreement"] is None


def test_the_size_of_batches_changes_nothing() -> None:
    assert verified(ROWS, 1) == verified(ROWS, 3) == verified(ROWS)


def test_a_part_knows_its_own_thumbnails_only() -> None:
    with pytest.raises(TableError, match="image 5 has no thumbnail"):
        verified([thumbnail(5, photo(1)), thumbnail(6, photo(2), part=1), query(6, [5], [], part=1)])


def test_of_plain_images_the_thumbnails_say_nothing() -> None:
    plain = np.full((200, 256), 90, np.uint8)
    found = verified([thumbnail(1, plain), thumbnail(2, plain), query(1, [2], [])])
    assert found[1, 2]["copy_probability"] < 0.5
    assert not found[1, 2]["conclusive"]


def test_a_re_encoded_copy_is_certain() -> None:
    found = verified([thumbnail(1, photo(3)), thumbnail(2, reencoded(photo(3), 30)), query(1, [2], [])])
    assert found[1, 2]["copy_probability"] > 0.99
