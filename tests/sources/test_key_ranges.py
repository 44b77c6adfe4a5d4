"""Ranges of keys: every key is in one of them, none asks for more pages than its keys take, and odd keys are keys."""

from __future__ import annotations

import bisect

import numpy as np
import pytest

from dedup_spark.sources.key_ranges import KeyRange, Page, UnorderedError, key_ranges

ODD = ["", "a", "a/", "a//", "a/\x01", "~", "é", "e\u0301", "\uffff", "\U00010000", "\U0010ffff", "\U0010ffff" * 3, " "]


class Store:
    """Keys as S3 gives them, in pages of `page_keys`; `n_asked` counts the questions."""

    def __init__(self, keys: list[str], page_keys: int = 10) -> None:
        assert sorted(keys) == sorted(keys, key=lambda key: key.encode())  # the order of S3
        self.keys, self.page_keys, self.n_asked = sorted(set(keys)), page_keys, 0

    def page(self, prefix: str, after: str) -> Page:
        self.n_asked += 1
        here = [key for key in self.keys[bisect.bisect_right(self.keys, after) :] if key.startswith(prefix)]
        return Page(here[: self.page_keys], len(here) <= self.page_keys)

    def of(self, one: KeyRange) -> list[str]:
        return [key for key in self.keys if key > one.after and (one.until is None or key <= one.until)]


def folders_of(n: int, per_folder: int, name: str = "lake/{:06d}/{}.jpg") -> list[str]:
    return [name.format(i, j) for i in range(n) for j in range(per_folder)]


LAKES = {
    "nothing": [],
    "one page": [f"lake/{i}" for i in range(7)],
    "many small folders": folders_of(3000, 2),
    "one flat folder": [f"lake/{i:07d}.jpg" for i in range(5000)],
    "long names that are alike": [f"lake/{'x' * 200}/{i:05d}{'y' * 100}" for i in range(3000)],
    "one large and many small": folders_of(500, 1) + [f"lake/m/{i}" for i in range(4000)],
    "a key that is the beginning of others": [f"lake/{'a' * i}" for i in range(1, 400)],
    "odd": [f"lake/{a}{b}{c}" for a in ODD for b in ODD for c in ODD if a + b + c],
}


@pytest.mark.parametrize("name", LAKES)
@pytest.mark.parametrize("wanted", [1, 8, 64])
def test_every_key_is_in_one_range_and_the_ranges_are_asked_for_by_few_questions(
    name: str, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup_spark.sources.key_ranges._KEYS_WORTH_A_RANGE", 50)
    store = Store(LAKES[name])
    ranges = key_ranges(store.page, "lake/", wanted)
    found = [key for one in ranges for key in store.of(one)]
    assert found == store.keys
    assert len(ranges) == 1 or all(store.of(one) for one in ranges)
    enough = 1 if name == "a key that is the beginning of others" else min(wanted, len(store.keys) // 100)
    assert len(ranges) >= enough
    assert store.n_asked <= 60 + 40 * wanted


def test_ranges_of_many_small_folders_are_about_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup_spark.sources.key_ranges._KEYS_WORTH_A_RANGE", 50)
    store = Store(folders_of(8000, 2))
    sizes = [len(store.of(one)) for one in key_ranges(store.page, "lake/", 60)]
    assert max(sizes) <= 12 * np.mean(sizes)


def test_keys_that_come_while_the_lake_is_listed_are_in_one_range_too() -> None:
    store = Store(folders_of(1000, 3))
    ranges = key_ranges(store.page, "lake/", 30)
    later = Store([*store.keys, *(f"lake/{odd}{i}" for odd in ODD for i in range(50)), "lake/000500/1.jpg0"])
    assert [key for one in ranges for key in later.of(one)] == later.keys


@pytest.mark.parametrize("how", ["in no order", "always from the beginning"])
def test_a_store_of_another_order_has_no_ranges(how: str) -> None:
    store, rng = Store(folders_of(300, 3)), np.random.default_rng(51)

    def page(prefix: str, after: str) -> Page:
        found = store.page(prefix, "" if how == "always from the beginning" else after)
        return Page(rng.permutation(found.keys).tolist(), found.is_last) if how == "in no order" else found

    with pytest.raises(UnorderedError):
        key_ranges(page, "lake/", 30)


def test_a_short_page_is_not_taken_for_the_last() -> None:
    """S3 may give less than 1,000 keys and say that there are more."""
    store = Store(folders_of(40, 3), page_keys=1)
    ranges = key_ranges(store.page, "lake/", 4)
    assert [key for one in ranges for key in store.of(one)] == store.keys
