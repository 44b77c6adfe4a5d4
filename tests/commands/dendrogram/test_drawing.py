"""The drawing: names, branches at their heights, the cut, colours of clusters, thumbnails; and the page around it."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from known_trees import AXIS, known_tree

from dedup_spark.commands.dendrogram.curves import Curve, Point
from dedup_spark.commands.dendrogram.drawing import to_svg
from dedup_spark.commands.dendrogram.page import require_kind, to_html, write_dendrogram
from dedup_spark.commands.dendrogram.tree import Dendrogram, Leaf
from dedup_spark.errors import ConfigError
from dedup_spark.vocabulary import Guard

RED, DARK = "#d00", "#345"


def elements(found: Dendrogram, tag: str) -> list[ET.Element]:
    return [element for element in ET.fromstring(to_svg(found)).iter() if element.tag.endswith(f"}}{tag}")]


def texts(found: Dendrogram) -> list[str]:
    return ["".join(element.itertext()) for element in elements(found, "text")]


def merges(found: Dendrogram) -> list[tuple[tuple[float, ...], str]]:
    """For each merge (y and x of one branch, x of the merge, y and x of the other branch), and its colour."""
    drawn = []
    for path in elements(found, "path"):
        if corners := re.fullmatch(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H([\d.]+)", path.get("d") or ""):
            x, y, x_merge, y_other, x_other = map(float, corners.groups())
            drawn.append(((y, x, x_merge, y_other, x_other), path.get("stroke") or ""))
    return drawn


def dashed(found: Dendrogram) -> list[float]:
    """Where the lines of cuts stand."""
    lines = [p.get("d") or "" for p in elements(found, "path") if p.get("stroke-dasharray")]
    return [float(line[1:].split()[0]) for line in lines]


def test_names_that_are_no_xml_are_drawn_all_the_same() -> None:
    leaves = (
        Leaf(1, "file:///l/<b>&\"'\x00\x1b.jpg", is_keeper=True),
        Leaf(2, "file:///l/\ud800\uffff.jpg", 3, guard=Guard.TEXT),
    )
    found = known_tree(leaves=leaves, merges=np.array([[0.0, 1.0, 0.25, 2.0]]))
    assert "file:///l/<b>&\"'\\x00\\x1b.jpg · keeper" in texts(found)
    assert "file:///l/??.jpg · guarded as text (+2 with the same pixels)" in texts(found)


def test_branches_reach_from_their_leaves_to_the_height_at_which_they_merge() -> None:
    tree = np.array([[1.0, 2.0, 0.1, 2.0], [0.0, 3.0, 0.4, 3.0]])  # 1 and 2 merge at 0.1, then 0 joins them at 0.4
    found = known_tree(leaves=tuple(Leaf(i, f"{i}.jpg") for i in range(3)), merges=tree)
    at = {height: round(490 - height * 480 / (0.5 * 1.05), 1) for height in (0.0, 0.1, 0.4, 0.5)}
    assert sorted(corners for corners, _ in merges(found)) == [
        (45.0, at[0.0], at[0.4], 72.0, at[0.1]),
        (63.0, at[0.0], at[0.1], 81.0, at[0.0]),
    ]
    assert dashed(found) == [at[0.5]]
    assert [t for t in texts(found) if t.endswith(".jpg")] == ["0.jpg", "1.jpg", "2.jpg"]


def test_what_is_above_the_cut_is_dark_and_what_was_divided_after_it_is_red() -> None:
    found = known_tree()
    colours = [stroke for _, stroke in sorted(merges(found), key=lambda m: -m[0][2])]  # by height
    own = colours[0]
    assert colours == [own, RED, own, DARK, DARK]
    assert own not in (RED, DARK)
    bars = [p.get("stroke") for p in elements(found, "path") if p.get("stroke-width") == "4"]
    assert bars.count(own) == 3
    assert len(set(bars)) == 4


def test_axis_unit_cut_and_clusters_with_their_keepers_are_named() -> None:
    said = texts(known_tree(at=0.8))
    assert AXIS.name in said
    assert "cut 0.5" in said
    assert "at 0.8" in said
    assert "keeper: file:///l/0.jpgcluster 000000000000000a" in said
    assert "in no cluster" in said
    assert any("component 100 of 6 pictures" in text and "average linkage" in text for text in said)
    assert len(dashed(known_tree(at=0.8))) == 2


def test_ticks_are_round_numbers_up_to_the_far_end() -> None:
    ticks = [float(t.text or "") for t in elements(known_tree(), "text") if t.get("font-size") == "10"]
    assert ticks == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_thumbnails_stand_inside_the_drawing() -> None:
    leaves = tuple(replace(leaf, thumbnail=b"\xff\xd8 jpeg") for leaf in known_tree().leaves[:2])
    found = known_tree(leaves=leaves, merges=np.array([[0.0, 1.0, 0.25, 2.0]]))
    assert [image.get("href") for image in elements(found, "image")] == ["data:image/jpeg;base64,/9gganBlZw=="] * 2


def test_a_chain_of_two_thousand_pictures_is_drawn_and_leaves_the_recursion_limit_as_it_was() -> None:
    n, limit = 2000, sys.getrecursionlimit()
    joined = [n + i - 1 for i in range(n - 1)]
    tree = np.array([[i + 1 if i else 0, joined[i] if i else 1, (i + 1) / n, i + 2] for i in range(n - 1)], float)
    found = known_tree(leaves=tuple(Leaf(i, f"{i}.jpg") for i in range(n)), merges=tree)
    assert len(merges(found)) == n - 1
    assert sum(text.endswith(".jpg") for text in texts(found)) == n
    assert sys.getrecursionlimit() == limit


def test_one_picture_alone_is_drawn() -> None:
    found = known_tree(leaves=(Leaf(1, "a.jpg"),), merges=np.empty((0, 4)))
    assert "a.jpg" in texts(found)
    assert merges(found) == []


# --- the page ---------------------------------------------------------------------------------------------

CURVE = Curve(
    "This component", "1 - copy probability", "Expected, not counted.", 0.5,
    (Point(0.1, 0, None, 0.0), Point(0.5, 4, 0.9876, 0.75), Point(1.0, 9, 0.5, 1.0)),
)  # fmt: skip


def test_the_page_holds_the_drawing_the_groups_and_the_curves_and_says_what_was_divided() -> None:
    page = to_html(known_tree(curves=(CURVE,), decided_by={"geometry": 3, "undecided": 1}))
    assert page.count("<svg") == 2
    assert "A group of 2 pictures: divided after the cut into cluster 000000000000000b, 000000000000000c" in page
    assert "geometry 3, undecided 1." in page
    assert "Expected, not counted." in page
    row = next(line for line in page.split("\n") if "of the run)" in line)
    assert [re.sub("<[^>]+>", "", cell) for cell in row.split("</td>")][:4] == [
        "0.5 (of the run)",
        "4",
        "0.9876",
        "0.7500",
    ]
    assert "unknown" in page
    lines = re.findall(r'<polyline class="(\w+)" points="([^"]+)"', page)
    assert [(name, points.count(",")) for name, points in lines] == [("precision", 2), ("recall", 3)]


def test_a_page_without_probabilities_says_how_to_get_a_curve() -> None:
    assert "--pairs FILE" in to_html(known_tree())


def test_names_and_texts_stay_text_in_the_page() -> None:
    leaves = tuple(replace(leaf, uri="<script>x</script>") for leaf in known_tree().leaves)
    page = to_html(known_tree(leaves=leaves, joined_by="<b>bold</b>"))
    assert "<script" not in page
    assert "<b>bold</b>" not in page
    assert "&lt;script&gt;" in page


def test_a_file_is_written_by_its_suffix_and_another_kind_is_refused(tmp_path: Path) -> None:
    for name, begins in (("t.svg", "<svg"), ("t.html", "<!doctype html>"), ("t.json", "{"), ("t.nwk", "(")):
        write_dendrogram(known_tree(), str(tmp_path / name))
        assert (tmp_path / name).read_text().startswith(begins)
    with pytest.raises(ConfigError, match=r"must end with one of \.html, \.svg, \.json, \.nwk"):
        require_kind(str(tmp_path / "tree.png"))


def test_a_right_to_left_name_does_not_move_what_stands_beside_it() -> None:
    found, name = known_tree(), "s3://b/שלום.jpg"
    found = replace(found, leaves=tuple(replace(leaf, uri=name) for leaf in found.leaves))
    shown = [text for text in texts(found) if name in text and not text.startswith("keeper: ")]
    assert shown
    assert all(text.startswith(f"\u2068{name}\u2069") for text in shown)
    titles = [element.text or "" for element in elements(found, "title")]
    assert f"keeper: \u2068{name}\u2069" in titles
