"""One bad entry never stops a listing: what cannot be listed is said, a time that no calendar has is unknown."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from listings import InThisProcess, as_nobody_if_root

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import entries
from dedup_spark.sources import folder as folder_source
from dedup_spark.sources.base import Address
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.passed_over import CLOSED_FOLDER, FAILING_FOLDER, LONG_PATH


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file.name.encode())


def found_in(lake: Path) -> tuple[set[str], dict[str, tuple[str, int]]]:
    """Paths below the lake of the images, and reason and count of what is passed over, by its path."""
    rows = [row.asDict() for row in FolderSource(str(lake)).list_images(InThisProcess()).collect()]  # type: ignore[arg-type]
    below = {id(row): row["uri"].removeprefix(f"file://{lake}/") for row in rows}
    images = {below[id(row)] for row in rows if row["passed_over"] is None}
    return images, {below[id(row)]: (row["passed_over"], row["n_passed_over"]) for row in rows if row["passed_over"]}


def failing(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("seconds", [910675929600, 253402300800, -11644473600, -62135596801, 2**62, -(2**62)])
def test_a_time_that_no_calendar_has_is_unknown(seconds: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        put(Path(folder, "odd.jpg"), Path(folder, "plain.jpg"))
        os.utime(Path(folder, "odd.jpg"), (seconds, seconds))
        os.utime(Path(folder, "plain.jpg"), (-34560000, -34560000))
        if Path(folder, "odd.jpg").stat().st_mtime != float(seconds):
            pytest.skip("the disk here cuts times that it cannot hold; a tmpfs does not")
        rows = [row.asDict() for row in FolderSource(folder).list_images(InThisProcess()).collect()]  # type: ignore[arg-type]
    times = {Path(row["uri"]).name: row["modified_at"] for row in rows}
    assert times == {"odd.jpg": None, "plain.jpg": datetime(1968, 11, 27, tzinfo=UTC)}


@contextmanager
def closed(*folders: Path, mode: int = 0) -> Iterator[None]:
    """Folders that their owner may not list."""
    for folder in folders:
        folder.chmod(mode)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_folder_that_may_not_be_listed_is_said_and_the_rest_is_listed() -> None:
    with tempfile.TemporaryDirectory() as root, as_nobody_if_root(Path(root)):
        lake = Path(root)
        put(lake / "a.jpg", lake / "lost+found/b.jpg", lake / "deep/er/c.jpg", lake / "deep/d.jpg")
        with closed(lake / "lost+found", lake / "deep/er"):
            images, passed_over = found_in(lake)
    assert images == {"a.jpg", "deep/d.jpg"}
    assert passed_over == {"lost+found": (CLOSED_FOLDER, 1), "deep/er": (CLOSED_FOLDER, 1)}


def test_files_in_a_folder_that_may_be_listed_and_not_entered_are_rows() -> None:
    with tempfile.TemporaryDirectory() as root, as_nobody_if_root(Path(root)):
        lake = Path(root)
        put(lake / "a.jpg", lake / "shut/b.jpg", lake / "shut/below/c.jpg")
        with closed(lake / "shut", mode=0o444):
            assert found_in(lake) == ({"a.jpg", "shut/b.jpg"}, {"shut/below": (CLOSED_FOLDER, 1)})
            with pytest.raises(ImageRejected, match="forbidden"):
                FolderSource(root).fetch(Address(f"file://{root}/shut/b.jpg"))


def test_a_lake_that_may_not_be_listed_is_an_error_of_the_surroundings() -> None:
    with tempfile.TemporaryDirectory() as root, as_nobody_if_root(Path(root)):
        put(Path(root, "lake/b.jpg"))
        with (
            closed(Path(root, "lake")),
            pytest.raises(ConfigError, match=r"lake: cannot be listed: .*make it readable"),
        ):
            found_in(Path(root, "lake"))


def test_a_path_longer_than_the_system_takes_is_said_and_the_rest_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "top.jpg")
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(20):
            os.mkdir("d" * 240, dir_fd=here)
            below = os.open("d" * 240, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("bottom.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    images, passed_over = found_in(tmp_path)
    assert images == {"top.jpg"}
    [(first, (reason, n))] = passed_over.items()
    assert (reason, n) == (LONG_PATH, 1)
    assert first.startswith("d" * 240 + "/")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "denied"), CLOSED_FOLDER),
        (PermissionError(errno.EPERM, "not permitted"), CLOSED_FOLDER),
        (OSError(errno.EIO, "bad sector"), FAILING_FOLDER),
        (OSError(errno.EUCLEAN, "structure needs cleaning"), FAILING_FOLDER),
        (OSError(errno.ENOTCONN, "the server of a mount is gone"), FAILING_FOLDER),
        (OSError(errno.ESTALE, "stale"), FAILING_FOLDER),
        (OSError(errno.ENAMETOOLONG, "too long"), LONG_PATH),
        (OSError(errno.EMFILE, "too many open files"), None),
        (OSError(errno.ENOMEM, "no memory"), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["of the folder", "of an entry"])
def test_one_bad_folder_or_entry_stops_the_listing_only_where_the_machine_fails(
    where: str, error: OSError, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that does not say which entries are folders is asked for each, and may fail there."""
    put(tmp_path / "a.jpg", tmp_path / "bad/b.jpg", tmp_path / "bad/c.jpg")
    if where == "of an entry":
        entry_of = entries._local_entry

        def look(entry: os.DirEntry[str], uri: str, host: str) -> entries.Entry:
            if uri.endswith("/bad"):
                raise error
            return entry_of(entry, uri, host)

        monkeypatch.setattr(entries, "_local_entry", look)
    else:
        scan = os.scandir
        monkeypatch.setattr(os, "scandir", lambda of: failing(error)() if str(of).endswith("/bad") else scan(of))
    if reason is None:
        with pytest.raises(SourceError, match=r"cannot be listed: .*nothing was changed"):
            found_in(tmp_path)
    else:
        assert found_in(tmp_path) == ({"a.jpg"}, {"bad": (reason, 1)})


def test_a_lake_of_very_many_closed_folders_is_listed_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_source, "_ROWS_PER_BATCH", 10)
    put(*(tmp_path / f"{i:03}/a.jpg" for i in range(100)))
    scan = os.scandir
    denied = failing(PermissionError(errno.EACCES, "denied"))
    monkeypatch.setattr(os, "scandir", lambda of: denied() if of != str(tmp_path) else scan(of))
    folders = pa.RecordBatch.from_pylist([{"path": f"file://{tmp_path}", "recursive": True}])
    sizes = [batch.num_rows for batch in FolderSource(str(tmp_path))._list_places([folders])]
    assert sum(sizes) == 100
    assert max(sizes) == 10
