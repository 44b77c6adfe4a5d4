"""Memory that threads and processes share: nobody gets what is not there, and nobody waits for the dead."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dedup_spark.stages.reading import admission
from dedup_spark.stages.reading.admission import Admission, DoesNotFit, shared_folder

ROOM = 6400
HOLDER = """if True:
    import sys, time
    from pathlib import Path
    from dedup_spark.stages.reading.admission import Admission
    with Admission(Path(sys.argv[1]), "pixels", int(sys.argv[2])).admitted(int(sys.argv[3])):
        print("admitted", flush=True)
        sys.stdin.read()
"""


def holder(folder: Path, n_bytes: int) -> subprocess.Popen[str]:
    """Another process that holds so many bytes of the room until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(folder), str(ROOM), str(n_bytes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "admitted\n"
    return process


def test_threads_never_hold_more_than_there_is(tmp_path: Path) -> None:
    room, lock, held, most = Admission(tmp_path, "pixels", ROOM), threading.Lock(), 0, 0

    def use(n_bytes: int) -> None:
        nonlocal held, most
        with room.admitted(n_bytes):
            with lock:
                held += n_bytes
                most = max(most, held)
            time.sleep(0.005)
            with lock:
                held -= n_bytes

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(use, [100, 3200, 6400, 1, 2500, 900] * 6))
    assert held == 0
    assert 3200 < most <= ROOM  # several at once, and never too many


def test_what_does_not_fit_is_refused_at_once_and_nothing_needs_no_room(tmp_path: Path) -> None:
    room = Admission(tmp_path, "pixels", ROOM)
    with room.admitted(ROOM):
        with pytest.raises(DoesNotFit, match=r"6,401 of 6,400"), room.admitted(ROOM + 1):
            pass
        with room.admitted(0):
            pass


def test_processes_share_it_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    other = holder(tmp_path, ROOM - 100)
    room = Admission(tmp_path, "pixels", ROOM)
    with ThreadPoolExecutor(1) as thread:
        with room.admitted(100):
            pass
        entered = threading.Event()

        def take_half() -> None:
            with room.admitted(ROOM // 2):
                entered.set()

        waiting = thread.submit(take_half)
        assert not entered.wait(0.3)
        other.kill()
        other.wait()
        waiting.result(60)
        assert entered.is_set()
    other.communicate()


def test_a_large_one_is_not_overtaken_for_ever_by_small_ones(tmp_path: Path) -> None:
    room, stop = Admission(tmp_path, "pixels", ROOM), threading.Event()

    def small_ones() -> None:
        while not stop.is_set():
            with room.admitted(ROOM // 4):
                time.sleep(0.01)

    with ThreadPoolExecutor(9) as threads:
        for _ in range(8):
            threads.submit(small_ones)
        time.sleep(0.05)

        def large_one() -> None:
            with room.admitted(ROOM):
                pass

        try:
            threads.submit(large_one).result(60)
        finally:
            stop.set()


def test_rooms_of_other_names_and_sizes_are_others(tmp_path: Path) -> None:
    with (
        Admission(tmp_path, "pixels", ROOM).admitted(ROOM),
        Admission(tmp_path, "objects", ROOM).admitted(ROOM),
        Admission(tmp_path, "pixels", 2 * ROOM).admitted(2 * ROOM),
    ):
        pass


def test_an_error_inside_gives_the_room_back(tmp_path: Path) -> None:
    room = Admission(tmp_path, "pixels", ROOM)
    with pytest.raises(KeyError), room.admitted(ROOM):
        raise KeyError
    with room.admitted(ROOM):
        pass


def test_the_workers_of_an_executor_share_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{tmp_path}/gone,{tmp_path}")
    assert shared_folder().parent == tmp_path
    assert shared_folder() == shared_folder()
    assert not shared_folder().stat().st_mode & 0o077


def test_without_a_folder_that_takes_locks_all_processes_of_a_user_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    monkeypatch.setattr(admission, "_takes_locks", lambda folder: False)
    assert tmp_path not in shared_folder().parents
