"""The HTML page from plain values: what it shows, and that nothing in a lake can break out of its text."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import dedup_spark
from dedup_spark.stages.report.page import render_page
from dedup_spark.stages.report.values import (
    PassedOverTotal,
    PrefixTotal,
    RejectExample,
    Report,
    ShownCluster,
    ShownMember,
    Summary,
    TierTotal,
    readable_bytes,
)

HOSTILE = """<script>alert("x")</script>' onload='x' <b>&amp; $lake ${run_id} %s {0}"""

KEEPER = ShownMember(
    "s3://b/photos/kept.jpg", None, True, None, 1.0, 0, 2_000_000, 4000, 3000, b"\xff\xd8 kept \xff\xd9"
)
COPY = ShownMember(
    "s3://b/photos/c.tar", "in/copy.jpg", False, "edited_copy", 0.75, 9, 1_500_000, 800, 600, b"\xff\xd8"
)
REPORT = Report(
    lake="s3://b/photos",
    tables_root="s3://b/dedup",
    run_id="20261123-181502-9f3a",
    version="9.8.7",
    summary=Summary(
        n_found=12_345,
        found_bytes=60_000_000,
        n_read=12_340,
        rejected={"truncated": 4, "not_an_image": 1},
        n_clusters=321,
        tiers=(
            TierTotal("same_bytes", 1_200, 20_000_000, True, 20_000_000),
            TierTotal("edited_copy", 34, 10_000_000, True, 10_000_000),
            TierTotal("edited_copy", 5, 7_000_000, False, 0),
        ),
        guarded={"blank": 3, "text": 2_000},
        passed_over=(PassedOverTotal("link to a file", 1_024, "s3://b/photos/link.jpg"),),
    ),
    reject_examples=(RejectExample("truncated", "s3://b/photos/half.jpg", None, "file ends early"),),
    prefixes=(PrefixTotal("s3://b/photos", "2024/may/", 17, 9_000_000, 68, 0.375),),
    clusters=(ShownCluster(77, 30, 41_000_000, (KEEPER, COPY)),),
    settings={"match.min_similarity": 0.4, "cluster.linkage": "average", "cluster.keeper_order": ("uri ASC",)},
)
NOTHING = Report("file:///empty", "/t", "r", "1", Summary(0, 0, 0, {}, 0, ()), (), (), (), {})


class Seen(HTMLParser):
    """Tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if "style" not in self.open[-1:] else ""


def words(report: Report) -> str:
    return " ".join(Seen(render_page(report)).words.split())


def test_headline_figures_are_shown() -> None:
    text = words(REPORT)
    for figure in ("images found12,34560.0 MB", "read12,340", "rejected5", "distinct pictures11,101", "clusters321",
                   "removable images1,234", "could be freed30.0 MB50.0% of the lake"):  # fmt: skip
        assert figure in text


def test_protected_copies_are_listed_but_not_counted_as_removable() -> None:
    assert REPORT.summary.n_removable == 1_234
    assert REPORT.summary.n_members == 321 + 1_200 + 34 + 5
    assert "57.00 MBno" in words(REPORT)


def test_images_that_likeness_alone_does_not_join_are_counted() -> None:
    assert "equal pixels or strict evidence only: blank 3, text 2,000." in words(REPORT)


def test_what_the_listing_passed_over_is_shown_where_there_was_any() -> None:
    assert "ReasonEntriesFor examplelink to a file1,024s3://b/photos/link.jpg" in words(REPORT)
    assert "Passed over" not in words(NOTHING)


def test_reasons_come_with_their_examples() -> None:
    text = words(REPORT)
    assert "truncated4s3://b/photos/half.jpgfile ends early" in text
    assert "not_an_image1" in text


def test_folders_show_their_share() -> None:
    assert "2024/may/17 of 689.00 MB37.5%" in words(REPORT)


def test_folders_of_several_lakes_are_named_in_full() -> None:
    other = dataclasses.replace(REPORT.prefixes[0], lake="file:///other", prefix="")
    text = words(dataclasses.replace(REPORT, prefixes=(*REPORT.prefixes, other)))
    assert "s3://b/photos/2024/may/" in text
    assert "file:///other/" in text


def test_a_cluster_shows_thumbnails_relation_similarity_and_how_many_are_not_shown() -> None:
    page = render_page(REPORT)
    assert "data:image/jpeg;base64,/9gga2VwdCD/2Q==" in page
    text = words(REPORT)
    assert "30 images 41.0 MB could be freed" in text
    assert "cluster 000000000000004d · in s3://b/photos/" in text
    assert "keeper4,000 × 3,000 px 2.00 MBkept.jpg" in text
    assert "edited copy800 × 600 px 1.50 MB cosine 0.750 pHash differs 9/64c.tar › in/copy.jpg" in text
    assert "and 28 more members" in text
    assert "1 of 321 clusters" in text


def test_a_member_without_thumbnail_embedding_or_size_is_still_shown() -> None:
    bare = ShownMember("s3://b/photos/bare.jpg", None, False, "same_bytes", None, None, None, None, None, None)
    text = words(dataclasses.replace(REPORT, clusters=(ShownCluster(1, 2, 0, (KEEPER, bare)),)))
    assert "no thumbnailsame bytesbare.jpg" in text


def test_settings_are_shown_as_they_are_set() -> None:
    text = words(REPORT)
    assert 'match.min_similarity = 0.4 cluster.linkage = "average" cluster.keeper_order = ["uri ASC"]' in text


def test_an_unfinished_run_says_so() -> None:
    assert "not read yet" not in words(REPORT)
    unfinished = dataclasses.replace(REPORT.summary, n_read=12_000)
    assert "340 images are listed but not read yet" in words(dataclasses.replace(REPORT, summary=unfinished))


def test_an_empty_lake_gives_a_page_without_numbers_to_divide_by() -> None:
    text = words(NOTHING)
    for sentence in (
        "images found00 bytes",
        "No duplicates were found.",
        "Nothing to remove.",
        "Every image could be read.",
    ):
        assert sentence in text


def test_clusters_that_are_not_to_be_shown_are_not_denied() -> None:
    text = words(dataclasses.replace(REPORT, clusters=()))
    assert "No clusters to show." in text
    assert "No duplicates were found." not in text


def hostile(value: Any) -> Any:
    """The same values, with HOSTILE wherever there is text."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, tuple):
        return tuple(hostile(item) for item in value)
    if isinstance(value, dict):
        return {hostile(key): hostile(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return type(value)(**{f.name: hostile(getattr(value, f.name)) for f in dataclasses.fields(value)})
    return value


def test_no_text_of_a_lake_becomes_markup() -> None:
    plain, seen = Seen(render_page(REPORT)), Seen(render_page(hostile(REPORT)))
    assert set(seen.tags) == set(plain.tags)
    assert "script" not in seen.tags
    assert {name for name, _ in seen.attributes} == {name for name, _ in plain.attributes}
    assert seen.open == []
    assert seen.words.count(HOSTILE[:24]) >= 12  # all of it is there, as text


def test_the_page_fetches_nothing() -> None:
    seen = Seen(render_page(REPORT))
    assert [value[:16] for name, value in seen.attributes if name in ("src", "href")] == ["data:image/jpeg;"] * 2
    assert any("default-src 'none'" in value for _, value in seen.attributes)


def test_the_page_is_made_from_the_zip_that_spark_submit_ships(tmp_path: Path) -> None:
    package, shipped = Path(dedup_spark.__file__).parent, tmp_path / "dedup_spark.zip"
    with zipfile.ZipFile(shipped, "w") as archive:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(package.parent))
    script = (
        "from dedup_spark.stages.report import page, values\n"
        "assert '.zip' in page.__file__, page.__file__\n"
        "empty = values.Summary(0, 0, 0, {}, 0, ())\n"
        "print(page.render_page(values.Report('file:///empty', '/t', 'r', '1', empty, (), (), (), {})), end='')\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(shipped)!r})\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
    assert done.stdout == render_page(NOTHING)


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_000, "1.00 kB"), (9_996, "10.0 kB"), (99_960, "100 kB"),
     (999_499, "999 kB"), (999_500, "1.00 MB"), (12_300_000_000, "12.3 GB"), (5 * 10**13, "50.0 TB"),
     (2_345 * 10**15, "2,345 PB")],
)  # fmt: skip
def test_bytes_are_written_with_three_digits(n: int, text: str) -> None:
    assert readable_bytes(n) == text


def test_a_right_to_left_name_does_not_move_what_stands_beside_it_in_titles() -> None:
    name = "שלום.jpg"
    member = dataclasses.replace(COPY, uri="s3://b/photos/c.tar", member=name)
    cluster = dataclasses.replace(REPORT.clusters[0], members=(KEEPER, member))
    rejected = RejectExample("truncated", "s3://b/half.jpg", None, name)
    page = render_page(
        dataclasses.replace(REPORT, lake=f"s3://b/{name}", clusters=(cluster,), reject_examples=(rejected,))
    )
    assert f"<title>Duplicate images: \u2068s3://b/{name}\u2069</title>" in page
    assert ("title", f"s3://b/photos/c.tar › \u2068{name}\u2069") in Seen(page).attributes
    assert f"<bdi>{name}</bdi>" in page
