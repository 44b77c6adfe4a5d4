"""The demo lake: its truth is true, it is the same each time, and it never harms other files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from dedup_spark.commands import demo_lake
from dedup_spark.commands.demo_lake import MARKER_NAME, DemoLake, build_demo_lake
from dedup_spark.errors import ConfigError


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> DemoLake:
    return build_demo_lake(tmp_path_factory.mktemp("demo_lake"))


@pytest.fixture
def one_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes builds short: the demo lake of a single photo."""
    monkeypatch.setattr(demo_lake, "SAMPLE_PHOTOS", ("coffee.png",))


def _files(folder: Path) -> dict[str, tuple[str, float]]:
    """Path below `folder` -> SHA-256 and modification time, for every file but the marker."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER_NAME
    }


@pytest.mark.slow
def test_demo_lake_is_the_same_bytes_each_time(lake: DemoLake, tmp_path: Path) -> None:
    again = build_demo_lake(tmp_path / "not" / "there yet")
    assert again.groups == lake.groups
    assert again.broken == lake.broken
    assert _files(again.folder) == _files(lake.folder)


def test_truth_names_every_file_once(lake: DemoLake) -> None:
    assert sorted(lake.paths) == sorted(_files(lake.folder))
    assert 200 <= lake.n_files <= 300
    assert sum((lake.folder / path).stat().st_size for path in lake.paths) < 25_000_000


def test_every_grouped_file_opens_and_no_broken_one_does(lake: DemoLake) -> None:
    for path in (path for members in lake.groups.values() for path in members):
        with Image.open(lake.folder / path) as image:
            image.load()
    for path in lake.broken:
        with pytest.raises(OSError), Image.open(lake.folder / path) as image:
            image.load()


def test_originals_have_a_byte_copy_and_a_lossless_conversion(lake: DemoLake) -> None:
    for members in (members for members in lake.groups.values() if len(members) > 1):
        original = lake.folder / members[0]
        (copy,) = (path for path in members if path.startswith("exports/backup/"))
        (lossless,) = (path for path in members if path.startswith("exports/lossless/"))
        assert (lake.folder / copy).read_bytes() == original.read_bytes()
        with Image.open(original) as a, Image.open(lake.folder / lossless) as b:
            assert a.convert("RGB").tobytes() == b.convert("RGB").tobytes()


def test_turned_camera_photos_are_upright_after_exif_orientation(lake: DemoLake) -> None:
    for members in (members for members in lake.groups.values() if len(members) > 1):
        (turned,) = (path for path in members if path.startswith("camera/2024/unsorted/"))
        with Image.open(lake.folder / members[0]) as a, Image.open(lake.folder / turned) as stored:
            b = ImageOps.exif_transpose(stored)
            assert b.size == a.size
            small = [i.convert("L").resize((8, 8), Image.Resampling.BOX).tobytes() for i in (a, b)]
            assert max(abs(x - y) for x, y in zip(*small, strict=True)) <= 3


def test_originals_are_the_oldest_of_their_group(lake: DemoLake) -> None:
    for members in lake.groups.values():
        ages = [(lake.folder / path).stat().st_mtime for path in members]
        assert ages.index(min(ages)) == 0
        assert ages.count(min(ages)) == 1


def test_complete_lake_is_reused_and_an_added_photo_stays(tmp_path: Path, one_photo: None) -> None:
    lake = build_demo_lake(tmp_path)
    (tmp_path / "my own.jpg").write_bytes(b"mine")
    before = _files(tmp_path)
    (tmp_path / lake.paths[0]).write_bytes(b"edited")
    assert build_demo_lake(tmp_path) == lake
    assert (tmp_path / lake.paths[0]).read_bytes() == b"edited", "a complete lake is not written again"
    (tmp_path / lake.paths[0]).unlink()
    assert build_demo_lake(tmp_path) == lake
    assert _files(tmp_path) == before, "a lake that lacks a file is"


def test_killed_build_is_done_again(tmp_path: Path, one_photo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> tuple[str, ...]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo_lake, "_write_broken", killed)
        with pytest.raises(KeyboardInterrupt):
            build_demo_lake(tmp_path)
    lake = build_demo_lake(tmp_path)
    assert sorted(lake.paths) == sorted(_files(tmp_path))
    assert build_demo_lake(tmp_path) == lake


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="neither empty nor a demo lake"):
        build_demo_lake(tmp_path)
    assert list(_files(tmp_path)) == ["holiday.jpg"]


def test_demo_lake_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER_NAME).write_text('{"version": 0, "groups": {}}')
    with pytest.raises(ConfigError, match="of this version"):
        build_demo_lake(tmp_path)


def test_missing_sample_photos_name_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install scikit-image scikit-learn"):
        build_demo_lake(tmp_path / "lake")
