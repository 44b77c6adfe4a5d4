"""The task that verifies pairs, without Spark: batches of thumbnails and queries to verified pairs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from photos import Grey, cropped, framed, page, photo, reencoded, rotated

from dedup_spark.errors import TableError
from dedup_spark.kernels.comparing import weighing
from dedup_spark.stages.cluster.evidence_task import DESCRIBED, VERIFIED, describe_batches, verify_batches

SCORES = pa.list_(pa.struct({"prior": pa.float64(), "hamming_bits": pa.int32(), "is_sure": pa.bool_()}))
SCHEMA = pa.schema(
    [
        ("part", pa.int32()), ("image_id", pa.int64()), ("thumbnail", pa.binary()), ("keypoints", pa.binary()),
        ("query_id", pa.int64()), ("chunk", pa.int32()), ("candidates", pa.list_(pa.int64())), ("scores", SCORES),
        ("neighbours", pa.list_(pa.int64())),
    ]
)  # fmt: skip

TO_DESCRIBE = pa.schema(
    [
        ("image_id", pa.int64()), ("parts", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        ("thumbnail", pa.binary()), ("is_aligned", pa.bool_()),
    ]
)  # fmt: skip
"""As Spark sends it, whose lists have other fields than those of DDL."""


def thumbnail(image_id: int, grey: Grey, part: int = 0) -> dict[str, Any]:
    _, encoded = cv2.imencode(".jpg", grey)
    return {"part": part, "image_id": image_id, "thumbnail": encoded.tobytes()}


def query(
    query_id: int, candidates: list[int], neighbours: list[int], part: int = 0, *, is_sure: bool = False
) -> dict[str, Any]:
    score = {"prior": 0.99 if is_sure else 0.5, "hamming_bits": 2 if is_sure else 20, "is_sure": is_sure}
    return {
        "part": part, "query_id": query_id, "chunk": 0, "candidates": candidates, "scores": [score] * len(candidates),
        "neighbours": neighbours,
    }  # fmt: skip


def verified(
    rows: list[dict[str, Any]], batch_rows: int = 100, *, join_recoloured: bool = False
) -> dict[tuple[int, int], dict[str, Any]]:
    batches = pa.Table.from_pylist(rows, schema=SCHEMA).to_batches(max_chunksize=batch_rows)
    found = [row for batch in verify_batches(batches, join_recoloured=join_recoloured) for row in batch.to_pylist()]
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


def test_a_thumbnail_that_two_parts_share_is_described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = count_descriptions(monkeypatch)
    both = [thumbnail(5, photo(1)), thumbnail(6, rotated(photo(1), 15)), query(6, [5], [])]
    again = [{**row, "part": 1} for row in both]
    assert verified([*both, *again]) == verified(both)
    assert len(found) == 4  # two by each call


def count_descriptions(monkeypatch: pytest.MonkeyPatch) -> list[Grey]:
    """Filled with the levels of each thumbnail whose keypoints are looked for."""
    seen: list[Grey] = []
    find = weighing.find_keypoints
    monkeypatch.setattr(weighing, "find_keypoints", lambda grey, **how: seen.append(grey) or find(grey, **how))
    return seen


def described(rows: list[dict[str, Any]], batch_rows: int = 100, *, is_aligned: bool = True) -> list[dict[str, Any]]:
    """The same rows, thumbnails with what `describe_batches` makes of them."""
    pictures = [{**row, "parts": [row["part"]], "is_aligned": is_aligned} for row in rows if "query_id" not in row]
    batches = pa.Table.from_pylist(pictures, schema=TO_DESCRIBE).to_batches(max_chunksize=batch_rows)
    batches = [*describe_batches(batches)]
    assert all(batch.schema.equals(DESCRIBED.arrow) for batch in batches)
    made = [row for batch in batches for row in batch.to_pylist()]
    found = iter(made)
    return [row if "query_id" in row else {**row, **next(found)} for row in rows]


def test_keypoints_found_before_give_the_same_and_are_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, expected = described(ROWS), verified(ROWS)
    assert described(ROWS, 1) == rows
    seen = count_descriptions(monkeypatch)
    assert verified(rows) == expected
    assert not seen


def test_keypoints_that_were_not_looked_for_are_found_where_they_are_needed() -> None:
    rows = described(ROWS, is_aligned=False)
    assert all(row["keypoints"] is None for row in rows if "query_id" not in row)
    assert verified(rows) == verified(ROWS)


def test_an_image_without_a_thumbnail_is_named_only_where_it_is_needed() -> None:
    without = {"part": 0, "image_id": 9, "thumbnail": None}
    rows = described([thumbnail(5, photo(1)), thumbnail(6, photo(1)), without])
    assert set(verified([*rows, query(6, [5], [])])) == {(5, 6)}
    with pytest.raises(TableError, match="image 9 has no thumbnail"):
        verified([*rows, query(6, [9], [])])


def test_the_size_of_batches_changes_nothing() -> None:
    assert verified(ROWS, 1) == verified(ROWS, 3) == verified(ROWS)


def test_a_part_knows_its_own_thumbnails_only() -> None:
    with pytest.raises(TableError, match="image 5 has no thumbnail"):
        verified([thumbnail(5, photo(1)), thumbnail(6, photo(2), part=1), query(6, [5], [], part=1)])


def test_of_plain_images_the_thumbnails_say_nothing() -> None:
    plain = np.full((200, 256), 90, np.uint8)
    found = verified([thumbnail(1, plain), thumbnail(2, plain), query(1, [2], [])])
    assert found[1, 2]["copy_probability"] <= 0.5, "no more than the scores said"


def test_a_re_encoded_copy_is_certain() -> None:
    found = verified([thumbnail(1, photo(3)), thumbnail(2, reencoded(photo(3), 30)), query(1, [2], [])])
    assert found[1, 2]["copy_probability"] > 0.99


def test_a_part_of_a_picture_covers_a_part_of_it_whichever_is_asked_about() -> None:
    rows = [thumbnail(3, photo(0)), thumbnail(8, cropped(photo(0), 0.7))]
    for query_id, other in ((3, 8), (8, 3)):
        found = verified([*rows, query(query_id, [other], [])])[3, 8]
        assert found["covered_a"] == pytest.approx(0.49, abs=0.06)
        assert found["covered_b"] > 0.95
        assert found["two_sided"] < 0.01


def test_of_pairs_that_seem_sure_those_with_other_content_are_found() -> None:
    rows = [thumbnail(i, page(seed)) for i, seed in enumerate((1, 1, 2))]
    found = verified([*rows, query(0, [1, 2], [], is_sure=True)])
    assert found[0, 1]["copy_probability"] > 0.99
    assert found[0, 2]["copy_probability"] < 0.5
    assert found[0, 2]["conclusive"]


def test_another_colour_counts_unless_recoloured_pictures_are_to_be_joined() -> None:
    rows = [coloured(1, (40, 60, 200)), coloured(2, (60, 180, 60)), query(1, [2], [], is_sure=True)]
    apart, joined = verified(rows)[1, 2], verified(rows, join_recoloured=True)[1, 2]
    assert apart["colour_change"] == joined["colour_change"] == "hue"
    assert apart["copy_probability"] < 0.5
    assert joined["copy_probability"] > 0.99


def coloured(image_id: int, bgr: tuple[int, int, int]) -> dict[str, Any]:
    """A thing of one colour, with its folds, on white."""
    image = np.full((240, 256, 3), 255, np.uint8)
    cv2.rectangle(image, (60, 40), (200, 210), bgr, -1)
    for x in range(80, 200, 24):
        cv2.line(image, (x, 60), (x - 8, 200), tuple(int(0.7 * v) for v in bgr), 3)
    return {"part": 0, "image_id": image_id, "thumbnail": cv2.imencode(".jpg", image)[1].tobytes()}
