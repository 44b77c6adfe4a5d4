"""Where tables and lake may lie, however both are written: what is refused is refused before Spark starts."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import pytest
from listings import as_nobody_if_root

from dedup_spark.commands import opening
from dedup_spark.commands.opening import Opening
from dedup_spark.config import InventorySettings
from dedup_spark.errors import ConfigError
from dedup_spark.sources.registry import open_source

INSIDE = ["{lake}/tables", "file:{lake}/tables", "file://{lake}/tables", "file://localhost{lake}/tables", "{lake}",
          "{lake}/../real/tables", "{link}/tables", "file:{link}/deep/tables", "{outside}/tables", "{outside}/",
          "tables", "./tables", "below/../tables"]  # fmt: skip


@pytest.mark.parametrize("tables", INSIDE)
@pytest.mark.parametrize("lake", ["{lake}", "{link}", "file:{link}/", "."])
@pytest.mark.parametrize("database", [None, "d"])
def test_no_spelling_and_no_link_hides_that_tables_are_inside_the_lake(
    tables: str, lake: str, database: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"lake": str(tmp_path / "real"), "link": str(tmp_path / "link"), "outside": str(tmp_path / "outside")}
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "outside").symlink_to("real/below")
    monkeypatch.chdir(tmp_path / "link")
    asked = Opening("run", None, tables.format(**places), database, lake=lake.format(**places))
    with pytest.raises(ConfigError, match="is inside the lake"):
        opening._require_apart(asked)


@pytest.mark.parametrize(
    ("lake", "tables"), [("s3://b/lake", "s3a://b/lake/tables"), ("s3n://b/lake/", "s3://b/lake")]
)  # fmt: skip
def test_the_schemes_of_one_store_hide_it_neither(lake: str, tables: str) -> None:
    with pytest.raises(ConfigError, match="is inside the lake"):
        opening._require_apart(Opening("run", None, tables, lake=lake))


@pytest.mark.parametrize("below", ["images", "report/pictures", "_staging/x", "shard_files", "_lease", "results"])
def test_a_lake_where_a_run_makes_its_own_folders_is_refused(below: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    asked = Opening("run", None, tmp_path / "link", lake=tmp_path / "real" / below)
    with pytest.raises(ConfigError, match=f"lies in {below.partition('/')[0]}/"):
        opening._require_apart(asked)


BESIDE = [(".", "../x"), ("./", "../work and more"), (".", "../other/../x"), ("../work", "../wor"), ("below", "."),
          ("../link to work", "../x"), ("below", "~nobody knows/x"), (".", "../back`tick % # ? ' \" [1]"),
          ("list.csv", "tables"), (".", "file:../x")]  # fmt: skip


@pytest.mark.parametrize(("lake", "tables"), BESIDE)
def test_tables_beside_the_lake_are_at_their_real_path_however_both_are_written(
    lake: str, tables: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work/below").mkdir(parents=True)
    (tmp_path / "work/list.csv").touch()
    (tmp_path / "link to work").symlink_to("work")
    monkeypatch.chdir(tmp_path / "work")
    asked = Opening("run", None, tables, lake=lake)
    opening._require_apart(asked)
    assert asked.root == os.path.realpath(tables.removeprefix("file:"))
    assert Opening("run", None, "s3a://b/../x").root == "s3a://b/../x"


def test_tables_through_a_link_are_the_tables_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/below")
    spelled = ("link", "real/below", "link/../below/", "real//below/.")
    assert {Opening("sql", None, f"{tmp_path}/{tables}").root for tables in spelled} == {f"{tmp_path}/real/below"}


def test_tables_at_a_path_that_is_no_utf_8_are_refused_before_java_says_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no UTF-8, and Spark's Java opens no such path"):
        opening.require_writable(Opening("run", None, tmp_path / os.fsdecode(b"caf\xe9")))
    opening.require_writable(Opening("run", None, tmp_path / "café \uf7e9"))


def test_a_place_that_this_user_may_not_look_at_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", functools.partial(os.access, effective_ids=True))  # those of as_nobody_if_root
    with tempfile.TemporaryDirectory() as folder, as_nobody_if_root(Path(folder)):
        closed = Path(folder, "closed")
        closed.mkdir(mode=0)
        with pytest.raises(ConfigError, match=r"closed/tables: cannot be written"):
            opening.require_writable(Opening("run", None, closed / "tables"))
        with pytest.raises(ConfigError, match="there are no dedup-spark tables"):
            opening.require_tables(Opening("sql", None, closed / "tables"))
        with pytest.raises(ConfigError, match=r"closed/lake: cannot be looked at: Permission denied"):
            assert open_source(f"{closed}/lake", InventorySettings()).root
        with pytest.raises(ConfigError, match=r"cannot be written"):
            opening.require_writable(Opening("run", None, f"/{'long' * 100}/tables"))
        closed.chmod(0o700)
