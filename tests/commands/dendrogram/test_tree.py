"""The groups of a tree at any cut, what becomes of the published clusters, and heights that are none."""

from __future__ import annotations

import pytest
from known_trees import known_tree

from dedup_spark.commands.dendrogram.texts import describe_groups, describe_part, to_json, to_newick, what_becomes
from dedup_spark.commands.dendrogram.tree import axis_of, require_height
from dedup_spark.errors import ConfigError
from dedup_spark.vocabulary import DistanceUnit


def groups_at(height: float) -> list[tuple[list[int], str]]:
    return [([leaf.image_id - 100 for leaf in g.leaves], g.change) for g in known_tree(at=height).groups]


def test_at_the_cut_of_the_run_groups_are_as_published_or_were_divided_after_it() -> None:
    assert groups_at(0.5) == [([0, 1, 2], "as published"), ([3, 4], "divided after the cut"), ([5], "as published")]


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (0.0, [([0], "splits"), ([1], "splits"), ([2], "splits"), ([3], "as published"), ([4], "as published"),
               ([5], "as published")]),
        (0.1, [([0, 1], "splits"), ([2], "splits"), ([3], "as published"), ([4], "as published"),
               ([5], "as published")]),
        (0.35, [([0, 1], "splits"), ([2], "splits"), ([3, 4], "divided after the cut"), ([5], "as published")]),
        (0.8, [([0, 1, 2, 3, 4], "joins"), ([5], "as published")]),
        (1.0, [([0, 1, 2, 3, 4, 5], "joins")]),
    ],
)  # fmt: skip
def test_at_another_cut_it_is_said_which_clusters_would_be_joined_or_split(
    height: float, expected: list[tuple[list[int], str]]
) -> None:
    assert groups_at(height) == expected


def test_a_group_with_a_part_of_one_cluster_and_another_cluster_joins_and_splits() -> None:
    whole = known_tree(at=0.35)
    leaves = list(whole.leaves)
    leaves[2] = type(leaves[2])(102, "file:///l/2.jpg", 1, 11)  # cluster 11 holds 2 and 3, which the tree has apart
    group = known_tree(leaves=tuple(leaves), at=0.3, cut=0.8).groups[2]
    assert [leaf.image_id for leaf in group.leaves] == [103, 104]
    assert group.change == "joins and splits"
    assert what_becomes(group) == "would join parts of cluster 000000000000000b, 000000000000000c"


def test_groups_are_listed_with_their_clusters_and_an_example() -> None:
    text = describe_groups(known_tree(at=0.8))
    assert "cut at 0.8 (1 - copy probability; the run cut it at 0.5), average linkage: 2 groups" in text
    row = next(line for line in text.split("\n") if "would join" in line)
    clusters = ["000000000000000a,", "000000000000000b,", "000000000000000c"]
    assert row.split() == ["1", "5", "6", "would", "join", "cluster", *clusters, "file:///l/0.jpg"]
    at_the_cut = describe_groups(known_tree())
    assert "where the run cut it" in at_the_cut
    assert (
        "divided after the cut into cluster 000000000000000b, 000000000000000c: its keeper does not reach" in at_the_cut
    )
    assert "as published: 1 picture in no cluster" in at_the_cut


def test_a_part_says_where_it_joins_the_rest() -> None:
    assert describe_part(known_tree()) == "component 100 of 6 pictures"
    part = describe_part(known_tree(n_pictures=900, joins_at=0.97))
    assert part == "6 pictures of component 100 of 900 pictures: the branch that joins the rest at 0.97"


def test_json_holds_leaves_merges_groups_and_the_newick_text() -> None:
    import json

    found = json.loads(to_json(known_tree(at=0.8)))
    assert found["axis"] == "1 - copy probability"
    assert (found["cut"], found["at"]) == (0.5, 0.8)
    assert found["merges"][2] == {"left": 2, "right": 6, "height": 0.4, "n_pictures": 3}
    assert [g["leaves"] for g in found["groups"]] == [[0, 1, 2, 3, 4], [5]]
    assert found["groups"][0]["cluster_ids"] == [10, 11, 12]
    assert found["newick"] == to_newick(known_tree())
    assert "thumbnail" not in found["leaves"][0]


@pytest.mark.parametrize(
    ("unit", "method", "value", "said"),
    [
        (DistanceUnit.COPY_PROBABILITY, "average", 1.1, "from 0 to 1; the unit of this tree is: 1 - copy probability"),
        (DistanceUnit.SIMILARITY, "complete", -0.1, "from 0 to 2; the unit of this tree is: 1 - cosine"),
        (DistanceUnit.HAMMING_BITS, "average", 65, "from 0 to 64; the unit of this tree is: bits of 64 that differ"),
        (DistanceUnit.SIMILARITY, "ward", -1, "from 0 or more; the unit of this tree is: Ward's height over sqrt"),
        (DistanceUnit.COPY_PROBABILITY, "average", float("nan"), "from 0 to 1"),
    ],
)
def test_a_height_that_is_none_is_refused_with_the_unit(
    unit: DistanceUnit, method: str, value: float, said: str
) -> None:
    with pytest.raises(ConfigError, match="--at") as e:
        require_height(axis_of(unit, method), value)
    assert said in str(e.value)
