"""Files of the tables root on a machine: read once by all its workers, bounded, and never taken for others."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyspark.sql import SparkSession
from s3_server import s3_of_this_process, s3_of_workers

from dedup_spark.errors import ArtifactError
from dedup_spark.store import files, node_files
from dedup_spark.store.node_files import bytes_read, local_file


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an executor with one disk."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "disk"))
    monkeypatch.delenv("CONTAINER_ID", raising=False)
    yield tmp_path / "disk" / "dedup_spark-files"
    MemoryFileSystem.store.clear()


def put(uri: str, data: bytes) -> tuple[str, str]:
    files.write_atomically(uri, data)
    return uri, hashlib.sha256(data).hexdigest()


def content(uri: str, sha256: str) -> bytes:
    with local_file(uri, sha256) as path:
        return path.read_bytes()


def copies(node: Path) -> set[str]:
    return {path.name for path in node.iterdir() if not path.suffix}


def test_a_file_of_a_store_is_read_from_it_once(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, before = put("memory://tables/a", b"x" * 1000), bytes_read()
    assert content(*asked) == b"x" * 1000
    monkeypatch.setattr(files, "fetch", None)  # is not called again
    assert content(*asked) == b"x" * 1000
    assert (copies(node), bytes_read() - before) == ({asked[1]}, 1000)


def test_a_file_of_a_disk_is_opened_where_it_lies_and_checked_once(node: Path, tmp_path: Path) -> None:
    asked, before = put(f"{tmp_path}/tables/a", b"x" * 1000), bytes_read()
    for _ in range(3):
        with local_file(*asked) as path:
            assert path == tmp_path / "tables/a"
    assert (copies(node), bytes_read() - before) == (set(), 1000)


def test_a_file_that_was_changed_after_it_was_checked_is_checked_again(tmp_path: Path) -> None:
    uri, sha256 = put(f"{tmp_path}/a", b"sound")
    assert content(uri, sha256) == b"sound"
    files.write_atomically(uri, b"other")
    with pytest.raises(ArtifactError, match=r"it is damaged, or of another build.*index --force"):
        content(uri, sha256)


@pytest.mark.parametrize("folder", ["/dbfs/tables", "/Volumes/a/b/c"])
def test_folders_that_stand_for_a_store_are_no_disks(folder: str) -> None:
    assert files.disk_path(f"{folder}/a") is None
    assert files.disk_path("/data/dbfs/a") == Path("/data/dbfs/a")


@pytest.mark.parametrize("where", ["memory://tables", "disk"])
def test_a_file_that_is_not_the_one_listed_leaves_nothing_behind(node: Path, tmp_path: Path, where: str) -> None:
    uri, _ = put(f"{tmp_path if where == 'disk' else where}/a", b"other")
    for wanted in (hashlib.sha256(b"sound").hexdigest(),) * 2:
        with pytest.raises(ArtifactError, match=rf"{uri} has SHA-256 .*, listed with {wanted[:12]}.* \(5 bytes\)"):
            content(uri, wanted)
    assert {path.suffix for path in node.iterdir()} <= {".lock"}


def test_the_copies_used_longest_ago_make_room_and_those_in_use_stay(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [put(f"memory://tables/{n}", bytes([n]) * 1000) for n in range(5)]

    def usage(folder: Path) -> SimpleNamespace:
        """A disk with 6,000 bytes, of which copies may take 3,000."""
        return SimpleNamespace(free=6000 - 1000 * len(copies(folder)))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    for n in (0, 1, 2):
        content(*asked[n])
        os.utime(node / asked[n][1], ns=(n, n))
    with local_file(*asked[0]) as held:  # used again, and in use; these five share no lock
        content(*asked[3])
        assert copies(node) == {asked[n][1] for n in (0, 2, 3)}
        os.utime(held, ns=(0, 0))
        content(*asked[4])
        assert copies(node) == {asked[n][1] for n in (0, 3, 4)}
    assert content(*asked[1]) == bytes([1]) * 1000


def test_a_copy_that_is_open_is_read_to_its_end_after_it_made_room(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (put(f"memory://tables/{name}", name * 1000) for name in (b"a", b"b"))
    with local_file(*first) as path:
        opened = path.open("rb")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    content(*second)
    assert copies(node) == {second[1]}
    assert opened.read() == b"a" * 1000
    opened.close()


def _ask(uri: str, sha256: str, start: object, counted: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    before = bytes_read()
    assert len(content(uri, sha256)) == 3_000_000
    counted.put(bytes_read() - before)  # type: ignore[attr-defined]


def test_of_many_workers_that_want_a_file_at_once_one_reads_it(tmp_path: Path) -> None:
    asked = put(f"{tmp_path}/a", os.urandom(3_000_000))
    context = multiprocessing.get_context("spawn")  # FAISS does not fork
    start, counted = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_ask, args=(*asked, start, counted)) for _ in range(4)]
    for worker in workers:
        worker.start()
    read = sorted(counted.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    assert read == [0, 0, 0, 3_000_000]


def test_all_workers_of_an_executor_get_a_file_of_s3_by_one_request(spark: SparkSession, tmp_path: Path) -> None:
    """In Spark's own directory, which it names to them."""
    objects = {f"tables/{n}": os.urandom(100_000) for n in range(3)}
    with s3_of_this_process(tmp_path / "log") as s3, s3_of_workers(spark, s3.environment):
        s3.put("lake", objects)
        asked = [(f"s3a://lake/{key}", hashlib.sha256(data).hexdigest()) for key, data in objects.items()]

        def read(_: Iterator[int]) -> Iterator[tuple[str, int]]:
            before = bytes_read()
            for uri, sha256 in asked:
                with local_file(uri, sha256) as path:
                    folder = str(path.parent)
            yield folder, bytes_read() - before

        found = spark.sparkContext.parallelize(range(8), 8).mapPartitions(read).collect()
    assert sum(n_bytes for _, n_bytes in found) == 300_000
    assert {Path(folder).parent.name.split("-")[0] for folder, _ in found} == {"blockmgr"}
    assert sorted(path for method, path in s3.requests if method == "GET" and "tables" in path) == [
        f"/lake/tables/{n}" for n in range(3)
    ]


def test_files_are_spread_over_the_disks_of_an_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = [tmp_path / name for name in ("one", "two")]
    for disk in disks:
        disk.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", ",".join(map(str, disks)))
    for n in range(20):
        content(*put(f"memory://tables/{n}", bytes([n])))
    held = [len(copies(disk / "dedup_spark-files")) for disk in disks]
    assert sum(held) == 20
    assert min(held) > 3


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, node: Path) -> None:
    node.mkdir()
    node.chmod(0o777)
    asked = put("memory://tables/a", b"x")
    assert content(*asked) == b"x"
    assert list(node.iterdir()) == []
    with local_file(*asked) as path:
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_executors_of_one_application_on_yarn_share_the_copies_of_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Path
) -> None:
    (tmp_path / "application").mkdir()
    monkeypatch.setenv("LOCAL_DIRS", str(tmp_path / "application"))
    asked = put("memory://tables/a", b"x")
    content(*asked)
    assert copies(node) == {asked[1]}  # outside of a container the name means nothing
    monkeypatch.setenv("CONTAINER_ID", "container_1_0001_01_000002")
    content(*asked)
    assert copies(tmp_path / "application" / "dedup_spark-files") == {asked[1]}


def test_directories_that_cannot_be_written_to_leave_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Path
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{tmp_path}/not/there,{node.parent}")
    for n in range(9):
        content(*put(f"memory://tables/{n}", bytes([n])))
    assert len(copies(node)) == 9


def test_folders_are_for_this_user_alone(node: Path) -> None:
    content(*put("memory://tables/a", b"x"))
    assert node.stat().st_mode & 0o777 == 0o700


def test_what_killed_workers_left_half_fetched_is_removed(node: Path) -> None:
    asked, other = put("memory://tables/a", b"x" * 1000), hashlib.sha256(b"other").hexdigest()
    assert content(*put("memory://tables/b", b"y")) == b"y"
    for sha256 in (asked[1], other):
        (node / f"{sha256}.part").write_bytes(b"half")
    assert content(*asked) == b"x" * 1000
    assert not list(node.glob("*.part"))


def test_a_folder_outside_of_spark_goes_with_its_process_or_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os\nfrom dedup_spark.store.node_files import _folder_of_this_process\n"
    command = [sys.executable, "-c", code + "print(_folder_of_this_process(), flush=True)\ninput()\nos._exit(0)"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        mine = node_files._folder_of_this_process()
        assert theirs.is_dir()
        other.stdin.write("\n")
    assert theirs.is_dir()  # it was ended without a word
    node_files._folder_of_this_process()
    assert not theirs.exists()
    assert mine.is_dir()
