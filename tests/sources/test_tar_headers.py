"""Whatever the headers of a tar file say: rows or a reason, sound members before the lie, and memory with a bound."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hostile_tars import BLOCK, SOUND, CountedFile, cut_anywhere, hostile_tars

from dedup_spark.errors import SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import tar
from dedup_spark.sources.base import LISTING, Address
from dedup_spark.sources.passed_over import UNLISTED, UNLISTED_TAR, PassedOver
from dedup_spark.sources.tar import TarSource, list_members

TARS = dict(cut_anywhere(hostile_tars()))
_FILE = {"modified_at": None, "passed_over": None, "n_passed_over": None, "compressed": False}


def listed(*paths: Path) -> list[dict[str, object]]:
    """What a task gives for these tar files."""
    tars = pa.RecordBatch.from_pylist([{"uri": f"file://{path}", **_FILE} for path in paths])
    made = list(TarSource(str(paths[0].parent))._list_tars([tars]))
    assert all(batch.schema == LISTING.arrow for batch in made)
    return [row for batch in made for row in batch.to_pylist()]


@pytest.mark.parametrize("name", TARS)
def test_a_header_that_lies_ends_in_a_reason_and_what_is_before_it_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(TARS[name])
    (tmp_path / "b.tar").write_bytes(TARS["devices"])
    monkeypatch.setattr(tar, "open_regular", CountedFile)
    rows = listed(path, tmp_path / "b.tar")
    assert CountedFile.most_asked <= 2**20, "more was asked for than headers may have"
    source = TarSource(str(tmp_path))
    images = [row for row in rows if row["passed_over"] is None]
    assert {row["member"] for row in images if row["uri"] == f"file://{tmp_path}/b.tar"} == {"first.jpg", "last.jpg"}
    read = {row["member"]: what_comes(source, row) for row in images if row["uri"] == f"file://{path}"}
    if len(TARS[name]) > 2 * BLOCK:
        assert read["first.jpg"] == SOUND
    n_unlisted = sum(row["passed_over"] == UNLISTED_TAR for row in rows)
    assert n_unlisted == (None in read), "the tar file is a row with a reason where it is not listed to its end"
    assert read.get(None, "corrupt") == "corrupt"
    assert "last.jpg" in read or None in read or any(r["passed_over"] == "sparse file" for r in rows)


def what_comes(source: TarSource, row: dict[str, object]) -> bytes | str:
    try:
        return source.fetch(Address.of(row), 10**6)
    except ImageRejected as e:
        assert "\n" not in e.message
        return str(e.reason)


def test_a_lying_header_takes_no_time_that_grows_with_its_square(tmp_path: Path) -> None:
    """A run of 400,000 digits, and names that begin in one another, took minutes and gigabytes in `tarfile`."""
    path = tmp_path / "a.tar"
    took = []
    for name in ("overlapping records", "PAX comment", "PAX charset"):
        path.write_bytes(next(data for found, data in TARS.items() if found.startswith(name)))
        began = time.process_time()
        list(list_members(f"file://{path}", None, skip_hidden=True))
        took.append(time.process_time() - began)
    assert max(took) < 30


@pytest.mark.parametrize("kind", ["closed", "gone", "pipe", "folder", "page"])
def test_a_tar_file_that_cannot_be_opened_is_a_row_and_its_members_are_not_taken_for_gone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes(b"<html>not found</html>" * 100)
    if kind == "closed":

        def refuse(path: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tar, "open_regular", refuse)
    counts = PassedOver()
    (row,) = list_members(f"file://{path}", None, skip_hidden=True, passed_over=counts)
    assert (row["uri"], row["position"]) == (f"file://{path}", 0)
    assert [(entry["passed_over"], entry["uri"]) for entry in counts.rows()] == [(UNLISTED_TAR, f"file://{path}")]
    assert UNLISTED_TAR in UNLISTED
    reasons = {"closed": "corrupt", "gone": "missing", "pipe": "forbidden", "folder": "forbidden", "page": "corrupt"}
    assert what_comes(TarSource(str(tmp_path)), {"member": None, **row}) == reasons[kind]


def test_a_fault_of_the_machine_ends_the_listing_instead_of_hiding_tar_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(tar, "open_regular", fail)
    with pytest.raises(SourceError, match="Too many open files; what is in it is unknown"):
        list(list_members(f"file://{tmp_path}/a.tar", None, skip_hidden=True))


def test_a_disk_that_fails_in_the_middle_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(CountedFile):
        def read(self, n: int | None = -1) -> bytes:  # type: ignore[override]
            if self.tell() >= 2 * BLOCK:
                raise OSError(5, "Input/output error")
            return super().read(n)

    path = tmp_path / "a.tar"
    path.write_bytes(TARS["devices"])
    monkeypatch.setattr(tar, "open_regular", Failing)
    rows = list(list_members(f"file://{path}", None, skip_hidden=True))
    assert [row.get("member") for row in rows] == ["first.jpg", None]


def test_long_names_end_a_batch(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for i in range(12):
            made.addfile(tarfile.TarInfo(f"{i:02}{'x' * 900_000}.jpg"))
    tars = pa.RecordBatch.from_pylist([{"uri": f"file://{tmp_path}/a.tar", **_FILE}])
    sizes = [batch.num_rows for batch in TarSource(str(tmp_path))._list_tars([tars])]
    assert sizes == [10, 2, 0]
