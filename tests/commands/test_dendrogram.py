"""`dedup-spark dendrogram`: what is drawn and exported of a finished cluster, and what cannot be."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import FinishedRun
from table_contents import rows

from dedup_spark.commands.dendrogram import Dendrogram, Leaf, read_dendrogram, to_newick, to_svg, write_dendrogram
from dedup_spark.errors import ConfigError


def cluster_of_edits(finished: FinishedRun) -> tuple[int, set[str]]:
    """The cluster with most edited copies, and its pictures' hashes."""
    members = rows(finished.tables.root, "clusters")
    edits = Counter(m["cluster_id"] for m in members if m["relation"] == "edited_copy")
    largest = min(edits, key=lambda c: (-edits[c], c))
    ids = {m["image_id"] for m in members if m["cluster_id"] == largest}
    return largest, {f["pixel_hash"] for f in rows(finished.tables.root, "features") if f["image_id"] in ids}


def test_a_cluster_is_exported_as_text_as_json_and_as_a_drawing(finished: FinishedRun, tmp_path: Path) -> None:
    cluster_id, pictures = cluster_of_edits(finished)
    tree = read_dendrogram(finished.tables, cluster_id, "average")
    for name in ("tree.json", "tree.svg", "tree.nwk"):
        write_dendrogram(tree, str(tmp_path / name))
    found = json.loads((tmp_path / "tree.json").read_text())
    assert len(found["leaves"]) == len(pictures) == len(found["merges"]) + 1
    assert sum(leaf["is_keeper"] for leaf in found["leaves"]) == 1
    assert found["merges"][-1]["n_pictures"] == len(pictures)
    assert found["measure"] == "cosine"
    assert found["bound"] is None  # what bounds this cluster is a probability
    assert "bound" not in (tmp_path / "tree.svg").read_text()
    assert to_newick(tree) == found["newick"] == (tmp_path / "tree.nwk").read_text()
    drawing = ET.parse(tmp_path / "tree.svg").getroot()
    texts = [element.text or "" for element in drawing.iter() if element.tag.endswith("text")]
    assert sum(".jpg" in text or ".png" in text for text in texts) >= 1
    assert sum(" · keeper" in text for text in texts) == 1


def test_names_that_are_no_xml_are_drawn_all_the_same() -> None:
    leaves = (Leaf(1, "file:///l/<b>&\"'\x00\x1b.jpg", True, 1), Leaf(2, "file:///l/\ud800\uffff.jpg", False, 3))
    tree = np.array([[0.0, 1.0, 0.25, 2.0]])
    drawing = ET.fromstring(to_svg(Dendrogram(1, "cosine", "average", 0.55, leaves, tree)))
    texts = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert "file:///l/<b>&\"'??.jpg · keeper" in texts
    assert "file:///l/??.jpg (+2 with the same pixels)" in texts


def drawn(tree: np.ndarray) -> tuple[list[str], list[tuple[float, ...]]]:
    """Names from top to bottom; for each merge (y and x of one branch, x of the merge, y and x of the other branch)."""
    leaves = tuple(Leaf(i, f"{i}.jpg", i == 0, 1) for i in range(len(tree) + 1))
    drawing = ET.fromstring(to_svg(Dendrogram(1, "cosine", "average", 0.5, leaves, tree)))
    texts = [element for element in drawing.iter() if element.tag.endswith("text")]
    names = [t.text or "" for t in sorted(texts, key=lambda t: float(t.get("y") or 0)) if ".jpg" in (t.text or "")]
    merges = []
    for path in (element.get("d") or "" for element in drawing.iter() if element.tag.endswith("path")):
        if found := re.fullmatch(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H([\d.]+)", path):
            x, y, x_merge, y_other, x_other = map(float, found.groups())
            merges.append((y, x, x_merge, y_other, x_other))
    return names, merges


def test_branches_reach_from_their_leaves_to_the_distance_at_which_they_merge() -> None:
    tree = np.array([[1.0, 2.0, 0.1, 2.0], [0.0, 3.0, 0.4, 3.0]])  # 1 and 2 merge at 0.1, then 0 joins them at 0.4
    names, merges = drawn(tree)
    assert names == ["0.jpg · keeper", "1.jpg", "2.jpg"]
    at = {distance: round(490 - distance * 480 / (0.5 * 1.05), 1) for distance in (0.0, 0.1, 0.4)}
    assert sorted(merges) == [(36.0, at[0.0], at[0.4], 63.0, at[0.1]), (54.0, at[0.0], at[0.1], 72.0, at[0.0])]


def test_a_chain_of_two_thousand_pictures_is_drawn_and_leaves_the_recursion_limit_as_it_was() -> None:
    n, limit = 2000, sys.getrecursionlimit()
    joined = [n + i - 1 for i in range(n - 1)]
    tree = np.array([[i + 1 if i else 0, joined[i] if i else 1, (i + 1) / n, i + 2] for i in range(n - 1)], float)
    names, merges = drawn(tree)
    assert len(names) == n
    assert len(merges) == n - 1
    assert sys.getrecursionlimit() == limit


def test_what_has_no_tree_is_an_error_that_says_why(finished: FinishedRun) -> None:
    members = rows(finished.tables.root, "clusters")
    edited = {m["cluster_id"] for m in members if m["relation"] == "edited_copy"}
    identical = next(m["cluster_id"] for m in members if m["cluster_id"] not in edited)
    for cluster_id, said in ((1, "there is no such cluster"), (identical, "all its images have the same pixels")):
        with pytest.raises(ConfigError, match=said):
            read_dendrogram(finished.tables, cluster_id, "average")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    found = Dendrogram(1, "cosine", "average", 0.5, (), np.zeros((0, 4)))
    with pytest.raises(ConfigError, match=r"must end with one of \.svg, \.json, \.nwk"):
        write_dendrogram(found, str(tmp_path / "tree.png"))
