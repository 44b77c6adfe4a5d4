"""Scores clusters by a labelled corpus: precision and recall over pairs, recall of each edit, mixed clusters.

A corpus is a folder whose files are named `<group>__<edit>.<ext>`: two images show the same picture exactly if they
share the group, and `original` is the edit of the picture itself. Clusters are scored, not the pairs that a program
compared: each two members of a cluster count as found, because a user removes all members but one. Not a benchmark.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

Sets = Iterable[Iterable[str]]


@dataclass(frozen=True)
class Scores:
    """The scores of one program on one corpus.

    Attributes:
        precision: Share of true pairs among the pairs of images in one cluster; 1 when there is none.
        recall: Share of the true pairs that are in one cluster; 1 when there is none.
        edit_recall: For each edit, the share of its images that are in one cluster with their original.
        mixed_share: Share of the clusters of two or more images that hold images of two groups or more.
        largest: Size of the largest cluster.
    """

    precision: float
    recall: float
    edit_recall: dict[str, float]
    mixed_share: float
    n_clusters: int
    largest: int

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def score_clusters(names: Iterable[str], found: Sets) -> Scores:
    """Scores of the sets `found` over the files `names`. Sets that share an image are one cluster.

    Cost: linear in the images and the members of `found`.
    Raises:
        ValueError: A name in `found` is not in `names`, or a name has no group.
    """
    clusters = merged(names, found)
    group = {name: group_of(name) for members in clusters for name in members}
    n_closed = sum(pairs_of(len(members)) for members in clusters)
    n_true = sum(pairs_of(n) for n in Counter(group.values()).values())
    inside = [Counter(group[name] for name in members) for members in clusters]
    n_right = sum(pairs_of(n) for groups in inside for n in groups.values())
    several = [groups for groups in inside if groups.total() > 1]
    return Scores(
        precision=n_right / n_closed if n_closed else 1.0,
        recall=n_right / n_true if n_true else 1.0,
        edit_recall=_edit_recall(clusters),
        mixed_share=sum(len(groups) > 1 for groups in several) / len(several) if several else 0.0,
        n_clusters=len(several),
        largest=max(map(len, clusters), default=0),
    )


def merged(names: Iterable[str], found: Sets) -> list[list[str]]:
    """The transitive closure of `found`, in which every name occurs once; names in no set are clusters of one."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        if name not in parent:
            raise ValueError(f"{name} is in a cluster and not in the corpus")
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for members in found:
        first, *rest = members
        for name in rest:
            parent[root(name)] = root(first)
    clusters = defaultdict[str, list[str]](list)
    for name in parent:
        clusters[root(name)].append(name)
    return list(clusters.values())


def _edit_recall(clusters: list[list[str]]) -> dict[str, float]:
    place = {name: i for i, members in enumerate(clusters) for name in members}
    original = {group_of(name): place[name] for name in place if edit_of(name) == "original"}
    n_found, total = Counter[str](), Counter[str]()
    for name, i in place.items():
        edit, group = edit_of(name), group_of(name)
        if edit != "original" and group in original:
            total[edit] += 1
            n_found[edit] += original[group] == i
    return {edit: n_found[edit] / total[edit] for edit in sorted(total)}


def group_of(name: str) -> str:
    group, separator, _ = name.partition("__")
    if not separator:
        raise ValueError(f"{name}: the files of a corpus are named <group>__<edit>.<ext>")
    return group


def edit_of(name: str) -> str:
    """The edit in a name: `crop` for `000001__crop.jpg`. A number at its end only keeps names apart, as `crop_07`."""
    edit = name.partition("__")[2].partition(".")[0]
    kind, _, number = edit.rpartition("_")
    return kind if kind and number.isdigit() else edit


def pairs_of(n: int) -> int:
    return n * (n - 1) // 2
