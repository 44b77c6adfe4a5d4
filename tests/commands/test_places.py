"""Tables that cannot be written where they shall be, found out before Spark and without a trace on the disk."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from dedup_spark.commands.places import require_writable
from dedup_spark.errors import ConfigError


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("below", ["tables", "deep/er/tables", "ordner mit ä", "."])
def test_a_new_or_an_empty_folder_is_taken_and_nothing_is_left_in_it(below: str, tmp_path: Path) -> None:
    require_writable(below, os.path.realpath(tmp_path / below))
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    "inside",
    [
        ["images/_delta_log/0.json"],
        ["_lease/1.json"],
        ["runs/_delta_log/0.json", "my notes.txt"],
        ["shard_files/a"],
        ["results/r1.json"],
    ],
)
def test_tables_that_are_there_are_taken(inside: list[str], tmp_path: Path) -> None:
    for name in inside:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    before = listing(tmp_path)
    require_writable("tables", str(tmp_path))
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (
            ["letter.doc"],
            "other things in it (letter.doc); give an empty or a new folder, for example tables/dedup",
        ),
        (["a/1", "b", "c", "d", "e"], "with other things in it (a, b, c, ...)"),
        (["images/holiday.jpg"], "images in it is no table of dedup-spark"),
        (["clusters"], "clusters in it is no table of dedup-spark"),
        (["letter.doc", "results/of a command that was refused.json"], "other things in it (letter.doc)"),
        (["runs/_delta_log/0.json", "features/old.csv"], "features in it is no table of dedup-spark"),
    ],
)
def test_a_folder_of_others_is_not_mixed_with_tables(inside: list[str], said: str, tmp_path: Path) -> None:
    for name in inside:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ConfigError) as e:
        require_writable("tables", str(tmp_path))
    assert said in str(e.value)


def test_the_lake_may_lie_beside_the_tables_and_hidden_files_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "photos/2024").mkdir(parents=True)
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "lost+found").mkdir()
    require_writable("tables", str(tmp_path), str(tmp_path / "photos/2024"))
    with pytest.raises(ConfigError, match=r"other things in it \(photos\)"):
        require_writable("tables", str(tmp_path), str(tmp_path.parent / "elsewhere"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EIO])
def test_what_only_trying_finds_out_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(ConfigError) as e:
        require_writable("t", str(tmp_path / "t"))
    assert str(e.value) == f"--tables t: cannot be written ({tmp_path}: {os.strerror(number)})"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is a file system in which nobody can make a folder")
def test_a_place_where_even_root_can_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--tables /proc/t: cannot be written \(/proc: "):
        require_writable("/proc/t", "/proc/t")


def test_names_that_no_disk_takes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot be written: {os.strerror(errno.ENAMETOOLONG)}"):
        require_writable("x" * 300, str(tmp_path / ("x" * 300)))
    with pytest.raises(ConfigError, match="no UTF-8"):
        require_writable("t", f"{tmp_path}/\udcff")


def test_a_file_and_what_would_lie_below_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for below in ("file", "file/tables"):
        with pytest.raises(ConfigError) as e:
            require_writable(below, str(tmp_path / below))
        assert f"{tmp_path / 'file'} is a file" in str(e.value)


def test_a_table_that_another_user_owns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images/_delta_log").mkdir(parents=True)
    may = os.access
    closed = tmp_path / "images/_delta_log"
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(closed) and may(path, mode))
    with pytest.raises(ConfigError, match="images/_delta_log is read-only"):
        require_writable("t", str(tmp_path))
