"""Whether a folder holds anything that may be an image: asked before Spark starts, and of the first names alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.sources import first_look
from dedup_spark.sources.entries import Entry
from dedup_spark.sources.first_look import why_no_image
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.passed_over import UNLISTED

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def lake(folder: Path, **contents: bytes) -> FolderSource:
    """A folder with these files; `__` in a name is a slash, and `_` a dot."""
    for name, content in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return FolderSource(str(folder))


@pytest.mark.parametrize(
    "contents",
    [
        {"a_jpg": b""},
        {"a_jpg": b"text"},  # its name says image: extract says what it is
        {"a": JPEG},
        {"a_txt": JPEG},
        {"caption_txt": b"words", "deep__er__photo_PNG": b"x"},
        {"a_dat": b"\0\1\2\3"},  # nobody knows
        {"notes_txt": b"words", "empty": b""},
    ],
    ids=str,
)
def test_what_may_be_an_image_is_left_to_the_listing(contents: dict[str, bytes], tmp_path: Path) -> None:
    assert why_no_image(lake(tmp_path, **contents)) is None


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({}, "empty, there is no file to look at"),
        ({"a_txt": b"words", "sub__b_csv": b"a,b", "c_txt": b""}, "passed over: csv file 1, txt file 2"),
        ({"README": b"words"}, "readme, licence or checksum 1"),
        ({"a": b"words", "b": b"%PDF-1.7"}, "PDF by its first bytes 1, text by its first bytes 1"),
        ({"_hidden": JPEG}, "hidden file 1"),
        ({"album_zip": b"PK\3\4"}, "zip file 1; zip file: images in it are not looked for: unpack it"),
    ],
    ids=str,
)
def test_what_cannot_be_one_is_said_with_what_was_found(contents: dict[str, bytes], said: str, tmp_path: Path) -> None:
    (tmp_path / "nothing/here").mkdir(parents=True)
    why = why_no_image(lake(tmp_path, **contents))
    assert why is not None
    assert why.startswith("empty, ")
    assert said in why


def test_links_are_counted_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(JPEG)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/a.jpg").symlink_to(tmp_path / "photo.jpg")
    assert "link to a file 1" in str(why_no_image(FolderSource(str(tmp_path / "lake"))))


def test_a_folder_that_may_not_be_listed_may_hold_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lake(tmp_path, closed__a_jpg=JPEG, b_txt=b"words")
    entries = FolderSource.entries

    def of_another(self: FolderSource, folder: str) -> object:
        if folder.endswith("/closed"):
            return iter([Entry(folder, is_folder=True, passed_over=UNLISTED[0])])
        return entries(self, folder)

    monkeypatch.setattr(FolderSource, "entries", of_another)
    assert why_no_image(source) is None


def test_a_large_folder_is_left_to_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(6):
        (tmp_path / f"{i}.txt").write_text("words")
    assert why_no_image(FolderSource(str(tmp_path))) is not None
    monkeypatch.setattr(first_look, "_MOST_ENTRIES", 5)
    assert why_no_image(FolderSource(str(tmp_path))) is None
    monkeypatch.setattr(first_look, "_MOST_ENTRIES", 10_000)
    monkeypatch.setattr(first_look, "_MOST_FOLDERS", 1)
    (tmp_path / "below").mkdir()
    assert why_no_image(FolderSource(str(tmp_path))) is None


@pytest.mark.parametrize("name", ["photo.jpg", "scan.pdf", "album.zip", "no ending"])
def test_a_file_given_as_a_lake_says_so_and_what_to_give(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("a.jpg", JPEG)
    with pytest.raises(ConfigError) as e:
        FolderSource(str(tmp_path / name)).root  # noqa: B018
    assert f"{name}: is a file, and a lake is a folder of images" in str(e.value)
    assert str(e.value).endswith(f"give the folder, {tmp_path}")
