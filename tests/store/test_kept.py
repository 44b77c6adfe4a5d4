"""What executors keep between tasks: the last ones used, within bytes, and never fewer than the work in hand needs."""

from __future__ import annotations

import pytest

from dedup_spark.store.kept import Kept


def made(kept: Kept[bytes], asked: str, size: int = 10) -> str:
    """The keys, in the order asked for, that had to be made anew."""
    new: list[str] = []

    def make(key: str) -> bytes:
        new.append(key)
        return key.encode() * size

    for key in asked:
        assert kept.get(key, lambda key=key: make(key)) == key.encode() * size
    return "".join(new)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("abcabc", "abc"),
        ("abcdabcd", "abcdabcd"),  # a round trip through more than it holds gains nothing
        ("abcadab", "abcdb"),  # a was used again, so b goes for d
    ],
)
def test_the_least_recently_used_go_first(asked: str, expected: str) -> None:
    assert made(Kept(30, 1, len), asked) == expected


def test_so_many_as_the_work_needs_stay_whatever_they_take() -> None:
    assert made(Kept(5, 2, len), "ababcbc") == "abc"


def test_a_value_that_is_false_is_kept_and_clear_forgets_all() -> None:
    kept = Kept(30, 1, len)
    assert made(kept, "aa", size=0) == "a"
    kept.clear()
    assert made(kept, "a", size=0) == "a"
