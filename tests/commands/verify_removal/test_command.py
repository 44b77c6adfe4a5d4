"""The list of what may be removed: written after a run, when much happened to the lake, and applied."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_everything
from known_tables import append, listing_row
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from table_contents import rows

from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands.verify_removal.command import (
    COLUMNS,
    Wanted,
    _standing,
    _wanted,
    describe_removals,
    verify_removal,
)
from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses
from dedup_spark.store.schema import RUNS
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import REMOVALS
from dedup_spark.store.views import ViewSettings, read_view

SETTINGS = ["extract.embedding=off", "extract.max_reject_share=1"]
ODD = 'odd "names", é\n%20 #1'
NO_UTF8 = os.fsdecode(b"caf\xe9")


@dataclass(frozen=True)
class Verified:
    """What was said and written, what was there before the list was written, and the lake with the list applied."""

    said: list[str]
    listed: dict[str, dict[str, str]]  # by path below the lake
    before: set[str]
    lake: Path
    tables: Tables
    config: Config


def picture(path: Path, seed: int, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(path, "PNG", **options)


def copies(folder: Path, seed: int, *names: str) -> list[Path]:
    """Files of equal bytes; the first is the oldest, so it is kept."""
    paths = [folder / name for name in names]
    picture(paths[0], seed, compress_level=0)  # of one size, whatever they show
    for age, path in enumerate(paths):
        if age:
            shutil.copyfile(paths[0], path)
        os.utime(path, (1_700_000_000 + age, 1_700_000_000 + age))
    return paths


def build(lake: Path) -> None:
    for seed, folder in enumerate(["plain", *HAPPENS]):
        copies(lake / folder, seed, "a.png", "b.png")
    copies(lake / ODD, 100, "a.png", f"{NO_UTF8}.png", "c\nd.png")
    picture(lake / "same pixels" / "large.png", 101, compress_level=0)
    picture(lake / "same pixels" / "small.png", 101)
    for name in ("alone 1.png", "alone 2.png"):
        picture(lake / name, hash_of(name))
    # links: one file under two names; one file behind eleven; one under two names beside a real copy
    hard, *_ = copies(lake / "hard link", 102, "a.png")
    (lake / "hard link" / "b.png").hardlink_to(hard)
    behind, *_ = copies(lake / "links", 103, "z.png")
    for i in range(11):
        (lake / "links" / f"a{i}.png").symlink_to(behind if i % 2 else "z.png")
    _, one = copies(lake / "whole file", 104, "kept.png", "one.png")
    (lake / "whole file" / "two.png").hardlink_to(one)
    _, one = copies(lake / "half a file", 105, "kept.png", "one.png")
    (lake.parent / "outside.png").hardlink_to(one)
    (lake / "dangling.png").symlink_to("nowhere.png")


def hash_of(name: str) -> int:
    return 200 + sum(name.encode())


def became_link(path: Path, to: Path) -> None:
    path.unlink()
    path.symlink_to(to)


def became_hard_link(path: Path, to: Path) -> None:
    path.unlink()
    path.hardlink_to(to)


HAPPENS: dict[str, Callable[[Path, Path], Any]] = {  # to the keeper a and the copy b, between the run and the list
    "keeper deleted": lambda a, b: a.unlink(),
    "keeper replaced": lambda a, b: picture(a, 300),
    "keeper replaced in place": lambda a, b: (picture(a, 302, compress_level=0), os.utime(a, (1_700_000_000,) * 2)),
    "keeper became a link": lambda a, b: became_link(a, b),
    "keeper became a hard link": lambda a, b: became_hard_link(a, b),
    "copy deleted": lambda a, b: b.unlink(),
    "copy replaced": lambda a, b: picture(b, 301),
    "copy became a link": lambda a, b: became_link(b, a),
    "copy became a hard link": lambda a, b: became_hard_link(b, a),
    "names exchanged": lambda a, b: (a.rename(a.parent / "t"), b.rename(a), (a.parent / "t").rename(b)),
}


def pictures(lake: Path) -> set[str]:
    """What can be seen in the lake, by whatever name: a hash of the pixels of every file, by Pillow alone."""
    found = set()
    for path in lake.rglob("*"):
        if path.is_file():
            with Image.open(path) as image:
                found.add(hashlib.sha256(image.convert("RGB").tobytes()).hexdigest())
    return found


@pytest.fixture(scope="module")
def verified(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    root = tmp_path_factory.mktemp("verified")
    lake, config = root / "lake", load_config(None, SETTINGS)
    build(lake)
    tables = Tables(spark, str(shutil.copytree(empty_tables, root / "tables")))
    run_everything(tables, lake, config)
    for folder, happens in HAPPENS.items():
        happens(lake / folder / "a.png", lake / folder / "b.png")
    state = {path.name: path.stat().st_mtime_ns for path in Path(tables.root).iterdir()}
    done = verify_removal(tables, config, Wanted(), str(root / "list.csv"))
    assert state == {path.name: path.stat().st_mtime_ns for path in Path(tables.root).iterdir()}
    with (root / "list.csv").open(newline="", encoding="utf-8") as f:
        listed = {addresses.to_path(row["uri"]): row for row in csv.DictReader(f)}
    assert done.n_images == len(listed)
    assert done.freed_bytes == sum(int(row["freed_bytes"]) for row in listed.values())
    before = pictures(lake)
    for path in listed:
        Path(path).unlink()
    below = {str(Path(path).relative_to(lake.resolve())): row for path, row in listed.items()}
    return Verified(describe_removals(done).splitlines(), below, before, lake, tables, config)


def test_the_list_applied_leaves_every_picture_of_the_lake(verified: Verified) -> None:
    assert len(verified.before) >= 18
    assert pictures(verified.lake) == verified.before


def test_what_is_still_true_is_on_the_list_and_nothing_else_is(verified: Verified) -> None:
    assert set(verified.listed) == {
        "plain/b.png", f"{ODD}/{NO_UTF8}.png", f"{ODD}/c\nd.png", "same pixels/small.png", "whole file/one.png",
        "whole file/two.png", "half a file/one.png", "names exchanged/b.png",
    }  # fmt: skip


def test_a_row_names_copy_keeper_and_what_was_seen(verified: Verified) -> None:
    row = verified.listed["plain/b.png"]
    assert tuple(row) == COLUMNS
    size = str((verified.lake / "plain" / "a.png").stat().st_size)
    assert row["keeper_uri"] == f"file://{verified.lake.resolve()}/plain/a.png"
    assert (row["relation"], row["size_bytes"], row["freed_bytes"]) == ("same_bytes", size, size)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(row["verified_at"])) < timedelta(hours=1)
    assert verified.listed["same pixels/small.png"]["relation"] == "same_pixels"


def test_bytes_are_freed_where_all_names_of_a_file_go(verified: Verified) -> None:
    freed = {path: int(row["freed_bytes"]) for path, row in verified.listed.items()}
    assert sorted([freed["whole file/one.png"] > 0, freed["whole file/two.png"] > 0]) == [False, True]
    assert freed["half a file/one.png"] == 0


def test_what_was_left_out_is_said_with_its_reason_and_the_last_line_says_how_to_use_the_list(
    verified: Verified,
) -> None:
    assert verified.said[0].startswith(f"{len(verified.listed)} images may be removed, which would free ")
    assert any("the keeper is gone, e.g. file://" in line for line in verified.said)
    assert any("the keeper has changed, e.g. file://" in line for line in verified.said)
    assert "Remove only what the column uri names" in verified.said[-1]


def test_after_a_failed_night_or_in_a_lake_that_is_no_longer_listed_nothing_may_go(
    verified: Verified, tmp_path: Path
) -> None:
    tables = Tables(verified.tables.spark, str(shutil.copytree(verified.tables.root, tmp_path / "tables")))
    [lake] = {row["lake"] for row in rows(tables.root, "runs")}
    log = tables.read(RUNS)
    tables.overwrite(RUNS, log.where("step <> 'inventory'"))
    append(tables, RUNS, [listing_row(lake, hours_ago=200), listing_row(lake, hours_ago=1, status="failed")])
    found = verify_removal(tables, verified.config, Wanted(), str(tmp_path / "list.csv"))
    assert (tmp_path / "list.csv").read_text() == ",".join(COLUMNS) + "\n"
    said = describe_removals(found).splitlines()
    assert said[0] == "0 images may be removed, which would free 0 bytes; 0 are left out"


def test_relations_tiers_and_a_limit_choose_what_is_checked(verified: Verified, tmp_path: Path) -> None:
    """The lake has the list applied: what was listed is gone by now."""
    found = verify_removal(
        verified.tables, verified.config, Wanted(relations=("same_pixels",)), str(tmp_path / "a.csv")
    )
    assert found.n_images == 0
    assert sum(reason.n_images for reason in found.left_out) == 1
    removals = read_view(verified.tables, REMOVALS, ViewSettings.of(verified.config))
    assert _wanted(removals, Wanted(limit=3)).count() == 3
    by_tier = _wanted(removals, Wanted(tiers=("same_pixels", "still"))).select("removal_tier").collect()
    assert {row["removal_tier"] for row in by_tier} == {"same_pixels"}


@pytest.mark.parametrize("out", ["s3://bucket/list.csv", "no such folder/list.csv", "."])
def test_a_list_that_cannot_be_written_is_refused_before_anything_is_checked(
    verified: Verified, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--out .*: expected a file in a local folder"):
        verify_removal(verified.tables, verified.config, Wanted(), out)


def test_the_command_takes_relations_tiers_a_limit_and_a_file() -> None:
    words = "verify-removal --relation same_bytes --relation same_pixels --tier reencoded --limit 5 --out x.csv"
    options = make_parser().parse_args(words.split())
    assert (options.relation, options.limit, options.out) == (["same_bytes", "same_pixels"], 5, "x.csv")
    assert options.tier == ["reencoded"]


def test_a_keeper_of_another_image_stays_whatever_it_is_called(spark: SparkSession) -> None:
    """The keeper of b is, under the name a, on the list itself."""
    found = [("a", "disk:1", "disk:9", None), ("b", "disk:2", "disk:1", None), ("d", "disk:3", "disk:9", "is gone")]
    checked = spark.createDataFrame(found, "uri string, identity string, keeper_identity string, problem string")
    marked = {row["uri"]: row["keeps_another"] for row in _standing(checked).orderBy(F.col("uri")).collect()}
    assert marked == {"a": True, "b": False}
