"""Names of members: each has its own, the same one in every pass."""

from __future__ import annotations

import random

import pytest

from dedup_spark.sources.member_names import MemberNames


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
