"""Ids in hex: every spelling that a person gives is the id that is meant."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dedup_spark.commands.image_ids import condition, in_hex, is_id, readings, short_ids


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63), 0x1234567890ABCDEF])
def test_hex_digits_and_the_number_stand_for_the_same_id(value: int) -> None:
    assert (value, value) in readings(in_hex(value))
    assert (value, value) in readings(str(value))


@pytest.mark.parametrize("value", [0x0123456789ABCDEF, -2, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("digits", [4, 7, 15])
def test_the_first_digits_stand_for_all_ids_that_begin_so(value: int, digits: int) -> None:
    low, high = readings(in_hex(value)[:digits])[-1]
    assert low <= value <= high
    assert in_hex(low)[:digits] == in_hex(high)[:digits] == in_hex(value)[:digits]
    assert in_hex(low)[digits:].strip("0") == in_hex(high)[digits:].strip("f") == ""


@pytest.mark.parametrize("text", ["", "abc", "a.jpg", "0123456789abcdef0", "xyz1", "9" * 20])
def test_what_is_no_id_stands_for_none(text: str) -> None:
    assert readings(text) == []


def test_ranges_are_a_condition_of_sql() -> None:
    assert condition("a", [(1, 1), (4, 7)]) == "(a = 1 OR a BETWEEN 4 AND 7)"


def test_columns_of_ids_and_hashes_are_known_by_name_and_type() -> None:
    ids = [
        "image_id",
        "image_id_a",
        "keeper_image_id",
        "id",
        "phash",
        "previous_cluster_ids",
        "cluster_ids",
        "frame_phashes",
    ]
    assert [name for name in ids if not is_id(name, pa.int64())] == []
    assert is_id("previous_cluster_ids", pa.list_(pa.int64()))
    others = [("run_id", pa.string()), ("n_images", pa.int64()), ("model_id", pa.string()), ("width_px", pa.int32())]
    assert [name for name, kind in others if is_id(name, kind)] == []


def test_a_list_shows_as_few_digits_as_tell_an_id_from_all_others() -> None:
    ids = [0x12345678_00000000, 0x12345678_90000000, 0x12345678_9ABCDEF0, -1, 5]
    shown = short_ids(ids[:3] + [-1], ids)
    assert list(shown.values()) == ["123456780", "1234567890", "123456789a", "ffffffff"]
    for i, text in shown.items():
        low, high = readings(text)[-1]
        assert [other for other in ids if low <= other <= high] == [i]
    assert short_ids([7], []) == {7: "00000000"}
    assert short_ids([], [7]) == {}
