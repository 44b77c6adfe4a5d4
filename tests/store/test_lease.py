"""One run writes at a time: who gets the lease, who is refused, and how one that lost it finds out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from clocks import set_clock
from s3_server import S3Server, running_s3_server

from dedup_spark.errors import LeaseError
from dedup_spark.store import files, lease


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with running_s3_server(tmp_path_factory.mktemp("s3") / "moto.log") as server:
        server.client.create_bucket(Bucket="tables")
        yield server


@pytest.fixture(params=["disk", "S3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place for tables that nobody has written to."""
    if request.param == "disk":
        yield str(tmp_path / "tables")
    else:
        server: S3Server = request.getfixturevalue("s3")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": server.endpoint})
        yield f"s3://tables/{tmp_path.name}"
    lease.release_all()  # a heartbeat would go on after the server has ended


def take(root: str, run_id: str = "night", **options: bool) -> lease.Lease:
    taken = lease.take(root, run_id, f"dedup-spark run --run-id {run_id}", **options)
    assert taken is not None
    return taken


def written(taken: lease.Lease) -> str:
    return f"{taken.root}/{lease.FOLDER}/{taken.number:08d}.json"


def rewrite(taken: lease.Lease, **facts: object) -> None:
    """What the file says, as if another process on another machine had written it."""
    taken._ended.set()  # its own heartbeat must not write it again
    known = json.loads(files.read_bytes(written(taken)))
    files.write_atomically(written(taken), json.dumps(known | facts).encode())


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_a_second_run_is_refused_in_one_sentence_that_says_who_writes(root: str) -> None:
    first = take(root)
    with pytest.raises(LeaseError, match=r"being written by run night \(dedup-spark run .*--break-lock") as refused:
        take(root, "colleague")
    assert f"as process {os.getpid()}" in str(refused.value)
    assert "\n" not in str(refused.value)
    first.require()


def test_a_released_lease_can_be_had_at_once(root: str) -> None:
    first = take(root)
    first.release()
    second = take(root, "next")
    assert second.number > first.number
    assert not second.took_over
    second.require()


def test_of_many_that_want_it_at_once_one_gets_it(root: str) -> None:
    def try_it(n: int) -> lease.Lease | None:
        try:
            return take(root, f"run-{n}")
        except LeaseError:
            return None

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            got = [found for found in pool.map(try_it, range(8)) if found]
        assert len(got) == 1
        got[0].require()
        got[0].release()


def test_of_many_that_find_a_dead_holder_one_follows_it(root: str) -> None:
    rewrite(take(root), heartbeat=seconds_ago(lease.STALE_SECONDS + 1), machine="elsewhere")

    def try_it(n: int) -> lease.Lease | None:
        try:
            return take(root, f"run-{n}")
        except LeaseError:
            return None

    with ThreadPoolExecutor(8) as pool:
        got = [found for found in pool.map(try_it, range(8)) if found]
    assert len(got) == 1
    assert got[0].took_over


def test_a_holder_on_another_machine_is_dead_after_ten_minutes_without_a_sign(root: str) -> None:
    first = take(root)
    rewrite(first, heartbeat=seconds_ago(lease.STALE_SECONDS - 60), machine="elsewhere")
    with pytest.raises(LeaseError, match=r"last seen 5\d\d s ago"):
        take(root)
    rewrite(first, heartbeat=seconds_ago(lease.STALE_SECONDS + 1), machine="elsewhere")
    assert take(root).took_over


def test_a_killed_process_of_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, time; from dedup_spark.store import lease; lease.take(sys.argv[1], 'killed', 'x')\n"
        "print('has it', flush=True); time.sleep(60)"
    )
    held = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    assert held.stdout.readline() == "has it\n"
    with pytest.raises(LeaseError, match="run killed"):
        take(str(tmp_path))
    held.kill()
    os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    assert take(str(tmp_path)).took_over
    held.wait()


def test_a_process_id_that_was_given_again_is_no_life(root: str) -> None:
    rewrite(take(root), started="1")  # this process, but another start
    assert take(root).took_over


def test_break_lock_takes_it_and_the_other_ends_before_its_next_commit(root: str) -> None:
    first = take(root)
    second = take(root, "impatient", break_lock=True)
    second.require()
    with pytest.raises(LeaseError, match="taken over by run impatient"):
        first.require()


def test_a_late_heartbeat_of_a_lost_lease_changes_nothing(root: str) -> None:
    first = take(root)
    second = take(root, "impatient", break_lock=True)
    first._write(released=False)
    first.release()
    second.require()
    with pytest.raises(LeaseError, match="run impatient"):
        take(root)


def test_the_heartbeat_is_written_while_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(lease, "_now", lambda: str(time.monotonic_ns()))
    first = take(str(tmp_path))
    seen = set()
    deadline = time.monotonic() + 20
    while len(seen) < 3 and time.monotonic() < deadline:
        seen.add(json.loads(files.read_bytes(written(first)))["heartbeat"])
    first.release()
    assert len(seen) >= 3
    assert json.loads(files.read_bytes(written(first)))["released"]


def test_a_file_that_was_created_and_not_yet_written_is_a_holder(tmp_path: Path) -> None:
    (tmp_path / lease.FOLDER).mkdir()
    (tmp_path / lease.FOLDER / "00000001.json").touch()
    with pytest.raises(LeaseError, match="a run that has just started"):
        take(str(tmp_path))
    assert take(str(tmp_path), break_lock=True).took_over


def test_a_file_whose_writer_was_killed_before_it_wrote_ends_like_others(tmp_path: Path) -> None:
    (tmp_path / lease.FOLDER).mkdir()
    empty = tmp_path / lease.FOLDER / "00000001.json"
    empty.touch()
    long_ago = time.time() - lease.STALE_SECONDS - 5
    os.utime(empty, (long_ago, long_ago))
    assert take(str(tmp_path)).took_over


def test_the_file_of_a_newer_version_is_understood(root: str) -> None:
    rewrite(take(root), of_the_future="yes", machine="elsewhere")
    with pytest.raises(LeaseError, match="being written by run night"):
        take(root)


def test_numbers_rise_also_where_the_folder_was_deleted(tmp_path: Path) -> None:
    """Delta remembers them and skips the commits of lower ones."""
    first = take(str(tmp_path))
    number = first.next_commit()
    first.release()
    shutil.rmtree(tmp_path / lease.FOLDER)
    later = take(str(tmp_path))
    assert later.next_commit() >= number
    assert later.number > 29_000_000  # minutes


def test_what_a_lost_run_may_still_write_is_in_doubt_until_somebody_fenced_it_off(root: str) -> None:
    take(root)
    impatient = take(root, "impatient", break_lock=True)
    impatient.release()  # stopped before it fenced
    third = take(root, "third")
    assert third.took_over
    third.clear_doubt()
    third.release()
    assert not take(root, "fourth").took_over


def test_a_store_that_lets_a_file_be_created_twice_keeps_nobody_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "create_exclusively", files.write_atomically)  # as old packages for S3 do
    assert lease.take(str(tmp_path), "night", "x") is None
    assert "nothing keeps a second run from writing there" in caplog.text
    assert not lease.tells_who_is_alive(str(tmp_path))


def test_the_heartbeat_survives_any_error_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_HEARTBEAT_SECONDS", 0.01)
    first = take(str(tmp_path))
    failed = threading.Event()

    def unreachable(uri: str, data: bytes) -> None:
        failed.set()
        raise RuntimeError("EndpointConnectionError is no OSError")

    written_atomically = files.write_atomically
    monkeypatch.setattr(files, "write_atomically", unreachable)
    assert failed.wait(10)
    monkeypatch.setattr(files, "write_atomically", written_atomically)
    monkeypatch.setattr(lease, "_now", lambda: "later")
    deadline = time.monotonic() + 10
    while json.loads(files.read_bytes(written(first)))["heartbeat"] != "later":
        assert time.monotonic() < deadline
    first.release()


def test_a_store_that_does_not_answer_ends_the_run_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(str(tmp_path))
    asked = []

    def silent(uri: str) -> list[str]:
        asked.append(uri)
        raise RuntimeError("no answer")

    monkeypatch.setattr(files, "list_names", silent)
    set_clock(monkeypatch, lease, sleep=lambda _: None)
    with pytest.raises(LeaseError, match=r"cannot be read \(RuntimeError: no answer\)"):
        first.require()
    assert len(asked) == 5


def test_numbers_of_commits_rise_over_commits_and_holders(root: str) -> None:
    first = take(root)
    numbers = [first.next_commit(), first.next_commit()]
    first.release()
    second = take(root)
    numbers += [second.next_commit(), second.next_commit()]
    assert numbers == sorted(set(numbers))


def test_old_files_do_not_pile_up(root: str) -> None:
    for _ in range(4):
        take(root).release()
    assert len(files.list_names(f"{root}/{lease.FOLDER}")) == 2


def test_a_store_without_exclusive_creation_has_no_lease_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert lease.take("memory://tables", "night", "x") is None
    assert "nothing keeps a second run from writing there" in caplog.text
    assert not lease.tells_who_is_alive("memory://tables")


def test_the_file_says_who_it_is(tmp_path: Path) -> None:
    assert lease.tells_who_is_alive(str(tmp_path))
    first = take(str(tmp_path))
    assert lease.tells_who_is_alive(str(tmp_path))
    known = lease.Holder(**json.loads(files.read_bytes(written(first))))
    assert replace(known, heartbeat=first.holder.heartbeat) == first.holder
    assert known.age_seconds() < 60
