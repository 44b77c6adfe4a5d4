"""Names of members: each has its own, the same one in every pass."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from dedup_spark.sources.base import LISTING
from dedup_spark.sources.member_names import MemberNames, _name_apart


def named(*names: str) -> list[str]:
    """The names that members of these names get, in the order of the members."""
    members = MemberNames()
    rows = [row for i, name in enumerate(names) for row in members.add({"member": name, "position": i})]
    rows += members.rest()
    return [row["member"] for row in sorted(rows, key=lambda row: row["position"])]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("a b", "a b"),
        ("a a", "a a#2"),
        ("a a a b", "a a#2 a#3 b"),
        ("a a a#2 b", "a a#3 a#2 b"),
        ("a#2 a a", "a#2 a a#3"),
        ("a a a#2 a#2", "a a#3 a#2 a#2#2"),
        ("a a#3 a a", "a a#3 a#2 a#4"),
    ],
)
def test_a_repeated_name_gets_a_suffix_that_no_member_bears(names: str, found: str) -> None:
    assert named(*names.split()) == found.split()


@pytest.mark.parametrize("seed", range(20))
def test_every_member_has_a_name_of_its_own_and_the_same_in_each_pass(seed: int) -> None:
    draw = random.Random(seed)
    names = [draw.choice("ab") + "".join(draw.choices(("", "#2", "#3", "#2#2"), k=2)) for _ in range(60)]
    found = named(*names)
    assert len(set(found)) == len(found) == len(names)
    assert found == named(*names)
    assert {name for name in names if found[names.index(name)] != name} == set()  # the first keeps it


def test_a_name_that_many_members_bear_takes_no_search_per_member() -> None:
    assert named(*["a"] * 20_000)[-1] == "a#20000"


def test_members_that_a_manifest_names_alike_are_told_apart_by_their_places() -> None:
    rows = [("a.bin", None, None), ("a.bin", "x", 0), ("a.bin", "x", 0), ("a.bin", "x", 9), ("a.bin", "x", 9),
            ("a.bin", "x#2", 5), ("b.bin", "x", 9), ("c.jpg", None, None), ("c.jpg", None, None)]  # fmt: skip
    listed = [dict(zip(("uri", "member", "position"), row, strict=True)) for row in rows]
    batch = pa.RecordBatch.from_pylist(listed, schema=LISTING.arrow)
    found = [row for named in _name_apart([batch.slice(0, 3), batch.slice(3)]) for row in named.to_pylist()]
    assert sorted((row["uri"], row["member"] or "", row["position"]) for row in found if row["member"]) == [
        ("a.bin", "x", 0), ("a.bin", "x", 0), ("a.bin", "x#2", 5), ("a.bin", "x#3", 9), ("a.bin", "x#3", 9),
        ("b.bin", "x", 9),
    ]  # fmt: skip
    assert len(found) == len(rows)
