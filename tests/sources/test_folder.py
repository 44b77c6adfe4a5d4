"""A folder as a lake: every file is one row under an address that leads back to its bytes, whatever its name."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

import pytest
from clocks import set_clock
from fsspec.implementations.memory import MemoryFileSystem
from listings import InThisProcess, as_nobody_if_root
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import InventorySettings
from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import folder as folder_source
from dedup_spark.sources import patience
from dedup_spark.sources.base import Address, Source
from dedup_spark.sources.entries import Entry
from dedup_spark.sources.fetching import fetch_patiently
from dedup_spark.sources.passed_over import CLOSED_FOLDER, NAME_IS_NO_TEXT
from dedup_spark.sources.registry import open_source

Row = dict[str, Any]

ODD_NAMES = [
    "plain.jpg", "with space.jpg", "100%25 #1.jpg", "café 写真.jpg", "a[1]{2}*.jpg", "q?=&;.jpg", "back\\slash.jpg",
    "quo\"te's.jpg", "new\nline.jpg", "no extension", "UPPER.JPEG", "-rf", "~", "trailing space ", "a::b.jpg",
    "file:", "%2e%2e", "\u202eright to left.jpg", "e\u0301 decomposed.jpg", "$HOME `id`.jpg",
]  # fmt: skip
NOT_UTF_8 = [b"caf\xe9.jpg", b"\xff\xfe.jpg", b"\x80", b"mixed \xc3\xa9 \xe9.jpg"]


def source_of(lake: str, **settings: Any) -> Source:
    return open_source(lake, InventorySettings(**settings))


def rows_of(source: Source, spark: Any) -> dict[str, Row]:
    """Rows of images by uri."""
    found = [row.asDict() for row in source.list_images(spark).collect()]
    images = [row for row in found if row["passed_over"] is None]
    by_uri = {row["uri"]: row for row in images}
    assert len(by_uri) == len(images)
    return by_uri


def passed_over(source: Source, lake: Path) -> dict[str, tuple[int, str]]:
    """What the listing passes over: how often, and the first path below the lake, by reason."""
    found = [row.asDict() for row in source.list_images(InThisProcess()).collect() if row.asDict()["passed_over"]]  # type: ignore[arg-type]
    counted: dict[str, tuple[int, str]] = {}
    for row in found:
        n, first = counted.get(row["passed_over"], (0, row["uri"].removeprefix(f"file://{lake}/")))
        counted[row["passed_over"]] = (n + row["n_passed_over"], first)
    return counted


def fetched(source: Source, uri: str) -> bytes:
    return source.fetch(Address(uri))


def refusal(source: Source, uri: str) -> str:
    with pytest.raises(ImageRejected) as e:
        fetched(source, uri)
    return e.value.reason


# --- names -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file under each odd name, directly and in a folder of that name; its content is its path."""
    lake = tmp_path_factory.mktemp("lakes") / "odd #1 [lake] 100%25"
    for name in [*(os.fsencode(n) for n in ODD_NAMES), *NOT_UTF_8]:
        for path in (name, b"folder " + name + b"/" + name):
            file = lake / os.fsdecode(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(path)
    return lake


@pytest.fixture(scope="module")
def odd_listing(odd: Path, spark: SparkSession) -> dict[str, Row]:
    return rows_of(source_of(str(odd)), spark)


def test_every_file_is_listed_once_and_its_address_leads_to_its_bytes(odd: Path, odd_listing: dict[str, Row]) -> None:
    source = source_of(str(odd))
    contents = [fetched(source, uri) for uri in odd_listing]
    expected = [
        n for name in [*map(os.fsencode, ODD_NAMES), *NOT_UTF_8] for n in (name, b"folder " + name + b"/" + name)
    ]
    assert sorted(contents) == sorted(expected)


def test_an_address_is_the_literal_path_and_valid_text(odd: Path, odd_listing: dict[str, Row]) -> None:
    for name in ODD_NAMES:
        assert f"file://{odd}/{name}" in odd_listing
        assert f"file://{odd}/folder {name}/{name}" in odd_listing
    for uri in odd_listing:
        assert uri.encode("utf-8").decode("utf-8") == uri


def test_a_row_says_size_and_time_to_the_microsecond_and_nothing_that_it_does_not_know(
    odd: Path, odd_listing: dict[str, Row]
) -> None:
    for name in ODD_NAMES:
        facts = (odd / name).stat()
        row = odd_listing[f"file://{odd}/{name}"]
        assert row["size_bytes"] == facts.st_size
        microseconds = (row["modified_at"].replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6
        assert round(microseconds) == facts.st_mtime_ns // 1000
        assert (row["member"], row["location"], row["etag"]) == (None, None, None)


# --- what is a file of the lake --------------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file.name.encode())


def paths(listing: dict[str, Row], lake: Path) -> set[str]:
    return {uri.removeprefix(f"file://{lake}/") for uri in listing}


def test_links_are_no_images_and_dangling_ones_are_rows(lake: Path, tmp_path: Path) -> None:
    put(lake / "a.jpg", lake / "below/b.jpg", tmp_path / "outside/c.jpg")
    (lake / "link.jpg").symlink_to(tmp_path / "outside/c.jpg")
    (lake / "a before a.jpg").symlink_to("a.jpg")
    (lake / "dangling.jpg").symlink_to(tmp_path / "nothing")
    (lake / "below/up").symlink_to(lake)  # a loop for those who follow
    (lake / "out").symlink_to(tmp_path / "outside")
    source = source_of(str(lake))
    listing = rows_of(source, InThisProcess())
    assert paths(listing, lake) == {"a.jpg", "below/b.jpg", "dangling.jpg"}
    counts = passed_over(source, lake)
    assert {reason: n for reason, (n, _) in counts.items()} == {"link to a file": 2, "link to a folder": 2}
    assert counts["link to a file"][1] in ("link.jpg", "a before a.jpg")
    assert listing[f"file://{lake}/dangling.jpg"]["modified_at"] is None
    with pytest.raises(ImageRejected, match=r"missing: .*dangling\.jpg is a link to nowhere: .*nothing"):
        fetched(source, f"file://{lake}/dangling.jpg")


def test_twelve_links_to_one_file_are_one_image(lake: Path) -> None:
    put(lake / "wallpaper.jpg")
    for n in range(11):
        (lake / f"{n}.jpg").symlink_to("wallpaper.jpg" if n % 2 else f"{n + 1}.jpg" if n < 10 else "wallpaper.jpg")
    source = source_of(str(lake))
    assert paths(rows_of(source, InThisProcess()), lake) == {"wallpaper.jpg"}
    assert passed_over(source, lake)["link to a file"][0] == 11


def test_all_names_of_a_file_say_that_they_are_one(lake: Path) -> None:
    put(lake / "a.jpg", lake / "alone.jpg")
    (lake / "below").mkdir()
    (lake / "below/b.jpg").hardlink_to(lake / "a.jpg")
    (lake / "dangling.jpg").symlink_to("nothing")
    os.mkfifo(lake / "pipe.jpg")
    found = {Path(uri).name: row for uri, row in rows_of(source_of(str(lake)), InThisProcess()).items()}
    facts = (lake / "a.jpg").stat()
    assert found["a.jpg"]["file_id"] == f"{socket.gethostname()}/{facts.st_dev}:{facts.st_ino}"
    assert found["a.jpg"]["file_id"] == found["b.jpg"]["file_id"] != found["alone.jpg"]["file_id"]
    assert [found[name]["n_links"] for name in ("a.jpg", "b.jpg", "alone.jpg")] == [2, 2, 1]
    assert {(found[name]["file_id"], found[name]["n_links"]) for name in ("dangling.jpg", "pipe.jpg")} == {(None, None)}


def test_what_is_no_file_is_a_row_and_is_never_opened(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(lake / "pipe.jpg")
    (lake / "zero.jpg").symlink_to("/dev/zero")
    (lake / "loop.jpg").symlink_to("loop.jpg")
    monkeypatch.chdir(lake)  # the path of a socket has a short limit
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("sock.jpg")
    source = source_of(str(lake))
    listing = rows_of(source, InThisProcess())
    assert passed_over(source, lake) == {}

    def never(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(os, "open", never)
    assert {Path(uri).name: refusal(source, uri) for uri in listing} == {
        "pipe.jpg": "forbidden", "zero.jpg": "forbidden", "sock.jpg": "forbidden", "loop.jpg": "missing",
    }  # fmt: skip


def test_a_file_that_becomes_a_pipe_after_the_look_is_refused(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake / "a.jpg", lake / "plain.jpg")
    facts = (lake / "plain.jpg").stat()
    (lake / "a.jpg").unlink()
    os.mkfifo(lake / "a.jpg")
    monkeypatch.setattr(Path, "stat", lambda *_, **__: facts)
    assert refusal(source_of(str(lake)), f"file://{lake}/a.jpg") == "forbidden"


def test_a_folder_that_vanishes_meanwhile_is_gone_and_a_lake_that_does_is_an_error(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake / "a.jpg", lake / "below/b.jpg")
    source = source_of(str(lake))
    as_they_are = folder_source.local_entries

    def and_remove(path: Path) -> Callable[[str], Iterator[Entry]]:
        def listed(of: str) -> Iterator[Entry]:
            found = list(as_they_are(of))
            shutil.rmtree(path, ignore_errors=True)
            return iter(found)

        return listed

    assert source.root
    monkeypatch.setattr(folder_source, "local_entries", and_remove(lake / "below"))
    assert paths(rows_of(source, InThisProcess()), lake) <= {"a.jpg"}
    put(lake / "below/b.jpg")
    monkeypatch.setattr(folder_source, "local_entries", and_remove(lake))
    with pytest.raises(SourceError, match="vanished while it was listed"):
        rows_of(source, InThisProcess())


def test_hidden_files_and_folders_are_passed_over_unless_asked_for(lake: Path) -> None:
    put(lake / "a.jpg", lake / ".DS_Store", lake / "below/._b.jpg", lake / ".git/c.jpg", lake / "below/...")
    assert paths(rows_of(source_of(str(lake)), InThisProcess()), lake) == {"a.jpg"}
    counts = passed_over(source_of(str(lake)), lake)
    assert {reason: n for reason, (n, _) in counts.items()} == {"hidden file": 3, "hidden folder": 1}
    assert counts["hidden folder"][1] == ".git"
    assert passed_over(source_of(str(lake), skip_hidden=False), lake) == {"file of a file manager": (1, ".DS_Store")}
    everything = paths(rows_of(source_of(str(lake), skip_hidden=False), InThisProcess()), lake)
    assert everything == {"a.jpg", "below/._b.jpg", ".git/c.jpg", "below/..."}


def test_a_hidden_folder_may_itself_be_the_lake(tmp_path: Path) -> None:
    put(tmp_path / ".photos/a.jpg")
    assert paths(rows_of(source_of(str(tmp_path / ".photos")), InThisProcess()), tmp_path) == {".photos/a.jpg"}


@pytest.mark.parametrize("shape", ["flat", "wide", "deep", "wide and deep"])
def test_trees_of_any_shape_are_listed_whole_and_once(lake: Path, spark: SparkSession, shape: str) -> None:
    files = {
        "flat": [lake / f"{i}.jpg" for i in range(300)],
        "wide": [lake / f"{i}/x.jpg" for i in range(150)],
        "deep": [lake.joinpath(*["d"] * depth, "x.jpg") for depth in range(60)],
        "wide and deep": [lake / f"{i % 7}/{i % 5}/{i % 3}/{i}.jpg" for i in range(200)] + [lake / "0/1.jpg"],
    }[shape]
    put(*files)
    (lake / "empty/folder").mkdir(parents=True)
    session = spark if shape == "wide and deep" else InThisProcess()
    assert paths(rows_of(source_of(str(lake)), session), lake) == {str(f.relative_to(lake)) for f in files}


@pytest.mark.slow
def test_twenty_thousand_folders_in_one_are_shared_out_by_executors(
    lake: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there are too many for the driver: each is listed once, and no task has them all."""
    for i in range(20_000):
        (lake / f"{i:05d}").mkdir()
        if i % 10 == 0:
            (lake / f"{i:05d}/x.jpg").touch()
    put(lake / "a.jpg", lake / "00005/deep/er/y.jpg", lake / ".hidden/z.jpg")
    monkeypatch.setattr(folder_source, "_MAX_DRIVER_ENTRIES", 1000)
    source = source_of(str(lake))
    wanted = {"a.jpg", "00005/deep/er/y.jpg", *(f"{i:05d}/x.jpg" for i in range(0, 20_000, 10))}
    assert paths(rows_of(source, spark), lake) == wanted
    hidden = source.list_images(spark).where("passed_over = 'hidden folder'").collect()
    assert [(row["uri"], row["n_passed_over"]) for row in hidden] == [(f"file://{lake}/.hidden", 1)]
    places = source._folders(spark, 8).withColumn("task", F.spark_partition_id())  # type: ignore[attr-defined]
    n_of_task = [row["count"] for row in places.groupBy("task").count().collect()]
    assert sum(n_of_task) == 20_001
    assert max(n_of_task) < 5_000


def test_an_empty_lake_has_no_rows(lake: Path, spark: SparkSession) -> None:
    assert rows_of(source_of(str(lake)), spark) == {}


def test_more_files_than_a_batch_holds_are_all_listed(lake: Path) -> None:
    for i in range(4100):
        (lake / str(i)).touch()
    assert len(rows_of(source_of(str(lake)), InThisProcess())) == 4100


# --- reading ---------------------------------------------------------------------------------------------


def test_a_file_that_is_gone_or_became_a_folder_is_refused_with_the_reason(lake: Path) -> None:
    put(lake / "gone.jpg", lake / "folder.jpg")
    source = source_of(str(lake))
    uris = list(rows_of(source, InThisProcess()))
    for file in ("gone.jpg", "folder.jpg"):
        (lake / file).unlink()
    (lake / "folder.jpg").mkdir()
    assert {uri.rsplit("/", 1)[1]: refusal(source, uri) for uri in uris} == {
        "gone.jpg": "missing", "folder.jpg": "forbidden",
    }  # fmt: skip


def test_a_file_that_may_not_be_read_is_listed_and_forbidden() -> None:
    with tempfile.TemporaryDirectory() as folder, as_nobody_if_root(Path(folder)):
        put(Path(folder, "open.jpg"), Path(folder, "closed.jpg"))
        Path(folder, "closed.jpg").chmod(0)
        source = source_of(folder)
        listing = rows_of(source, InThisProcess())
        assert paths(listing, Path(folder)) == {"open.jpg", "closed.jpg"}
        assert fetched(source, f"file://{folder}/open.jpg") == b"open.jpg"
        assert refusal(source, f"file://{folder}/closed.jpg") == "forbidden"


@pytest.mark.parametrize("how", ["a loop", "behind a closed door"])
def test_a_link_that_cannot_be_followed_is_a_row_and_does_not_stop_the_listing(how: str) -> None:
    with tempfile.TemporaryDirectory() as folder, as_nobody_if_root(Path(folder)):
        put(Path(folder, "lake/a.jpg"), Path(folder, "closed/b.jpg"))
        link = Path(folder, "lake/link.jpg")
        link.symlink_to(link if how == "a loop" else Path(folder, "closed/b.jpg"))
        Path(folder, "closed").chmod(0)
        try:
            source = source_of(f"{folder}/lake")
            listing = rows_of(source, InThisProcess())
            assert paths(listing, Path(folder, "lake")) == {"a.jpg", "link.jpg"}
            with pytest.raises(ImageRejected) as rejected:
                fetch_patiently(source, Address(f"file://{link}"), patience_seconds=0, max_bytes=1000)
            assert rejected.value.reason == ("missing" if how == "a loop" else "forbidden")
        finally:
            Path(folder, "closed").chmod(0o755)


def test_a_named_pipe_does_not_hold_up_the_task(lake: Path) -> None:
    os.mkfifo(lake / "pipe.jpg")
    source = source_of(str(lake))
    (uri,) = rows_of(source, InThisProcess())
    outcome: list[BaseException | bytes] = []

    def fetch() -> None:
        try:
            outcome.append(fetched(source, uri))
        except (ImageRejected, OSError) as e:
            outcome.append(e)

    reader = threading.Thread(target=fetch)
    reader.start()
    reader.join(2)
    stuck = reader.is_alive()
    if stuck:
        os.close(os.open(lake / "pipe.jpg", os.O_WRONLY))  # lets the reader go
    reader.join()
    assert not stuck
    assert len(outcome) == 1


# --- the address of the lake -----------------------------------------------------------------------------


def test_every_spelling_of_a_local_lake_is_the_same_lake(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake / "a.jpg")
    (lake.parent / "link").symlink_to(lake)
    monkeypatch.chdir(lake.parent)
    monkeypatch.setenv("HOME", str(lake.parent))
    spellings = ["lake", "lake/", "./lake", "../" + lake.parent.name + "/lake//", str(lake), f"{lake}/", "link",
                 f"file://{lake}", f"file:{lake}", f"file:///{lake}/", "~/lake", f"{lake}/../lake/."]  # fmt: skip
    assert {source_of(s).root for s in spellings} == {f"file://{lake}"}
    listings = [rows_of(source_of(s), InThisProcess()) for s in ("lake", f"file://{lake}", "link")]
    assert listings[0] == listings[1] == listings[2]
    assert list(listings[0]) == [f"file://{lake}/a.jpg"]


def test_the_root_of_a_lake_opens_the_same_lake(odd: Path) -> None:
    root = source_of(str(odd)).root
    assert source_of(root).root == root


def test_a_lake_whose_name_is_not_utf_8_can_be_listed_and_read(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"lak\xe9")
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"bytes")
    source = source_of(str(folder))
    (uri,) = rows_of(source_of(source.root), InThisProcess())
    assert uri.startswith(source.root)
    assert uri.encode("utf-8")
    assert fetched(source, uri) == b"bytes"


@pytest.mark.parametrize("address", ["{lake}/nothing", "file://{lake}/nothing", "{lake}/file.jpg", "file://{lake}/file.jpg",
                                     "memory://nothing/here", "s4://bucket/photos"])  # fmt: skip
def test_a_lake_that_is_not_a_folder_is_a_config_error_that_names_it(lake: Path, address: str) -> None:
    put(lake / "file.jpg")
    named = address.format(lake=lake)
    with pytest.raises(ConfigError) as e:
        _ = source_of(named).root
    assert named in str(e.value)


# --- a filesystem that is not a disk ---------------------------------------------------------------------


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_a_remote_folder_is_listed_and_read_like_a_local_one(store: MemoryFileSystem) -> None:
    names = [n for n in ODD_NAMES if n not in ("~", "file:")]
    for i, name in enumerate(names):
        store.pipe_file(f"/bucket/photos/{name}", bytes(i))
        store.pipe_file(f"/bucket/photos/folder {i}/deeper/{name}", bytes(i + 100))
    store.pipe_file("/bucket/photos/.hidden/x.jpg", b"x")
    store.pipe_file("/bucket/photos too/x.jpg", b"x")
    source = source_of("memory://bucket/photos/")
    assert source.root == "memory://bucket/photos"
    listing = rows_of(source, InThisProcess())
    expected = {f"memory://bucket/photos/{name}": i for i, name in enumerate(names)}
    expected |= {f"memory://bucket/photos/folder {i}/deeper/{name}": i + 100 for i, name in enumerate(names)}
    assert {uri: row["size_bytes"] for uri, row in listing.items()} == expected
    assert all(row["modified_at"] is not None for row in listing.values())
    assert {uri: len(fetched(source, uri)) for uri in listing} == expected
    assert refusal(source, "memory://bucket/photos/nothing.jpg") == "missing"


def test_a_store_that_forbids_or_fails_says_which(store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe_file("/bucket/a.jpg", b"x")
    source = source_of("memory://bucket")

    def raises(error: Exception) -> Callable[..., bytes]:
        def cat_file(*_: object, **__: object) -> bytes:
            raise error

        return cat_file

    monkeypatch.setattr(MemoryFileSystem, "cat_file", raises(PermissionError("access denied")))
    assert refusal(source, "memory://bucket/a.jpg") == "forbidden"
    monkeypatch.setattr(MemoryFileSystem, "cat_file", raises(TimeoutError("the store is slow")))
    with pytest.raises(OSError, match="the store is slow"):  # it may pass: tried again by fetching.py
        fetched(source, "memory://bucket/a.jpg")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a patient listing; nobody sleeps, and the clock goes on by them."""
    slept: list[float] = []
    monkeypatch.setattr(patience.random, "uniform", lambda _, high: high)
    set_clock(monkeypatch, patience, sleep=slept.append, monotonic=lambda: sum(slept))
    return slept


def test_a_store_that_stumbles_for_minutes_is_listed_whole(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    for n in range(5):
        store.pipe_file(f"/bucket/{n}/a.jpg", b"x")
    ls, answers = MemoryFileSystem.ls, iter(range(10**6))

    def often_busy(self: MemoryFileSystem, *args: object, **kwargs: object) -> object:
        if next(answers) % 10:
            raise TimeoutError("503 slow down")
        return ls(self, *args, **kwargs)

    source = source_of("memory://bucket")
    assert source.root
    monkeypatch.setattr(MemoryFileSystem, "ls", often_busy)
    assert len(rows_of(source, InThisProcess())) == 5
    assert len(pauses) > 50


@pytest.mark.parametrize(
    ("fault", "n_asked"),
    [(PermissionError("access denied"), 1), (TimeoutError("503\nslow down"), 20), (RuntimeError("cut off"), 20)],
    ids=str,
)
def test_a_store_that_refuses_or_stays_down_ends_the_listing_in_one_sentence(
    fault: Exception, n_asked: int, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    store.pipe_file("/bucket/a.jpg", b"x")
    source = source_of("memory://bucket")
    assert source.root

    def failing(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(MemoryFileSystem, "ls", failing)
    with pytest.raises(SourceError, match=f"memory://bucket: .*{fault.args[0].split()[-1]}.*nothing was changed") as e:
        rows_of(source, InThisProcess())
    assert "\n" not in str(e.value)
    assert len(pauses) + 1 >= n_asked
    assert sum(pauses) <= 300


class RefusedByStore(Exception):
    """As botocore tells it: not an OSError."""

    response: ClassVar = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}


def test_a_refusal_in_the_words_of_a_library_is_not_asked_again(pauses: list[float]) -> None:
    def ask() -> None:
        raise RefusedByStore("Access Denied")

    with pytest.raises(SourceError, match="s3://b: the store refuses to list it: RefusedByStore: Access Denied"):
        patience.ask_patiently(ask, "s3://b")
    assert pauses == []


def test_a_folder_that_a_store_refuses_is_said_and_the_rest_is_listed(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "closed/b.jpg", "open/c.jpg"):
        store.pipe_file(f"/bucket/{name}", b"x")
    ls = MemoryFileSystem.ls

    def refusing(self: MemoryFileSystem, path: str, **options: object) -> object:
        if path.endswith("/closed"):
            raise RefusedByStore("Access Denied")
        return ls(self, path, **options)

    source = source_of("memory://bucket")
    monkeypatch.setattr(MemoryFileSystem, "ls", refusing)
    assert set(rows_of(source, InThisProcess())) == {"memory://bucket/a.jpg", "memory://bucket/open/c.jpg"}
    assert passed_over(source, Path()) == {CLOSED_FOLDER: (1, "memory://bucket/closed")}


WEST = timezone(-timedelta(hours=9))
ODD_FACTS: dict[str, Row] = {
    "no facts.jpg": {},
    "size as text.jpg": {"size": "large", "type": "file"},
    "negative.jpg": {"size": -1, "type": "file", "mtime": -1e18},
    "nan.jpg": {"size": float("nan"), "type": "file", "mtime": float("nan"), "ETag": 7},
    "year 30828.jpg": {"size": 1, "type": "file", "mtime": 910675929600.0},
    "end of time.jpg": {
        "size": 1.0,
        "type": "file",
        "mtime": datetime.max.replace(tzinfo=WEST),
    },
    "far.jpg": {"size": 2**70, "type": "file", "modificationTime": 2**62},
    "naive.jpg": {"size": 1, "type": "file", "mtime": datetime(2020, 5, 1)},
}


def test_an_entry_with_facts_that_no_column_holds_is_listed_without_them(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [{"name": f"/bucket/{name}", **facts} for name, facts in ODD_FACTS.items()]
    odd.append({"name": "/bucket/half \ud83d of a pair.jpg", "size": 1, "type": "file"})
    store.pipe_file("/bucket/a.jpg", b"x")
    source = source_of("memory://bucket")
    assert source.root
    monkeypatch.setattr(MemoryFileSystem, "ls", lambda *_, **__: odd)
    found = {uri.rsplit("/", 1)[1]: row for uri, row in rows_of(source, InThisProcess()).items()}
    assert found.keys() == ODD_FACTS.keys()
    assert {name for name, row in found.items() if row["size_bytes"] == 1} == {
        "year 30828.jpg", "end of time.jpg", "naive.jpg",
    }  # fmt: skip
    assert {row["modified_at"] for row in found.values()} == {None, datetime(2020, 5, 1, tzinfo=UTC)}
    assert passed_over(source, Path()) == {NAME_IS_NO_TEXT: (1, "memory://bucket/half \\ud83d of a pair.jpg")}
