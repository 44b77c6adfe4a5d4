"""The scores of clusters against counting every pair of images, and against cases that a person can count."""

from __future__ import annotations

import itertools
import random

import networkx
import pytest
from cluster_scores import edit_of, score_clusters


def brute_force(names: list[str], found: list[list[str]]) -> tuple[float, float, float]:
    """Precision, recall and share of mixed clusters by looking at each pair of images."""
    graph = networkx.Graph()
    graph.add_nodes_from(names)
    for members in found:
        graph.add_edges_from((members[0], other) for other in members)
    clusters = list(networkx.connected_components(graph))
    together = {frozenset(pair) for members in clusters for pair in itertools.combinations(members, 2)}
    true = {frozenset(p) for p in itertools.combinations(names, 2) if p[0].split("__")[0] == p[1].split("__")[0]}
    several = [members for members in clusters if len(members) > 1]
    mixed = sum(len({name.split("__")[0] for name in members}) > 1 for members in several)
    right = len(together & true)
    return (right / len(together) if together else 1.0, right / len(true) if true else 1.0,
            mixed / len(several) if several else 0.0)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_scores_equal_counting_every_pair(seed: int) -> None:
    rng = random.Random(seed)
    edits = ["original", "crop", "flip", "copy_07"]
    names = [f"{g:03d}__{e}.jpg" for g in range(12) for e in edits[: rng.randint(1, 4)]]
    found = [rng.sample(names, rng.randint(1, 4)) for _ in range(rng.randint(0, 14))]
    scores = score_clusters(names, found)
    assert (scores.precision, scores.recall, scores.mixed_share) == pytest.approx(brute_force(names, found))


NAMES = ["a__original.jpg", "a__crop.jpg", "a__flip.png", "b__original.jpg", "b__crop.jpg", "c__original.jpg"]


def test_all_right_is_one() -> None:
    scores = score_clusters(NAMES, [NAMES[:3], NAMES[3:5]])
    assert (scores.precision, scores.recall, scores.f1, scores.mixed_share) == (1, 1, 1, 0)
    assert scores.edit_recall == {"crop": 1.0, "flip": 1.0}
    assert (scores.n_clusters, scores.largest) == (2, 3)


def test_nothing_found_is_precise_and_finds_nothing() -> None:
    scores = score_clusters(NAMES, [])
    assert (scores.precision, scores.recall, scores.f1, scores.largest) == (1, 0, 0, 1)
    assert scores.edit_recall == {"crop": 0.0, "flip": 0.0}


def test_one_wrong_image_costs_all_its_pairs() -> None:
    scores = score_clusters(NAMES, [NAMES[:4], NAMES[3:5]])  # b joins a by one image: one cluster of five
    assert scores.precision == 4 / 10
    assert scores.recall == 1
    assert scores.mixed_share == 1


def test_pairs_and_sets_are_the_same_to_it() -> None:
    pairs = [[NAMES[0], NAMES[1]], [NAMES[1], NAMES[2]]]
    assert score_clusters(NAMES, pairs) == score_clusters(NAMES, [NAMES[:3]])


def test_an_edit_counts_where_its_original_is() -> None:
    scores = score_clusters(NAMES, [[NAMES[0], NAMES[2]], [NAMES[3], NAMES[4]]])
    assert scores.edit_recall == {"crop": 0.5, "flip": 1.0}


def test_files_that_are_not_of_the_corpus_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x\.jpg"):
        score_clusters(NAMES, [["x.jpg", NAMES[0]]])
    with pytest.raises(ValueError, match="holiday"):
        score_clusters(["holiday.jpg"], [])


def test_a_number_only_keeps_names_apart() -> None:
    assert edit_of("000001__crop_07.jpg") == "crop"
    assert edit_of("000001__jpeg20.jpg") == "jpeg20"
    assert edit_of("000001__crop-flip_12.webp") == "crop-flip"
