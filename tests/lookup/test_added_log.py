"""The log of additions: on the disk when it says so, whole after a kill, shared by processes, handed to a run."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import lookups
import pytest

from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.features.signature import sign_image
from dedup_spark.lookup.added import Added, Entry, Removal, address_digest
from dedup_spark.lookup.added_log import LOG, MANIFEST, AddedLog
from dedup_spark.lookup.log_records import packed


def entry(number: int = 0) -> Entry:
    data = lookups.jpeg(lookups.photo("coffee.png"), 80)
    signature = replace(sign_image(data, lookups.reading().signature), model_input=None)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Entry(f"file:///lake/{number},é.jpg", at, f"{number:064x}", "m", b"\x00\x3c" * 4, [-2.0] * 4, signature)


def uris(folder: Path) -> list[str]:
    with (folder / MANIFEST).open(newline="", encoding="utf-8") as f:
        return [row["uri"] for row in csv.DictReader(f)]


def test_what_was_appended_is_read_once_by_each_reader_in_order(tmp_path: Path) -> None:
    log, other = AddedLog(tmp_path), AddedLog(tmp_path)
    log.append(entry(1))
    assert [e.uri for e in other.read()[1]] == [entry(1).uri]
    other.append(entry(2))
    assert other.read() == (False, [entry(2)])
    assert log.read()[1] == [entry(1), entry(2)]
    assert log.read() == (False, [])
    assert uris(tmp_path) == [entry(1).uri, entry(2).uri]


@pytest.mark.parametrize("lost", [1, 11, 13, 200, 5000])
def test_what_a_kill_left_half_written_is_cut_off(tmp_path: Path, lost: int) -> None:
    log = AddedLog(tmp_path)
    log.append(entry(1))
    whole = (tmp_path / LOG).stat().st_size
    log.append(entry(2))
    size = (tmp_path / LOG).stat().st_size
    os.truncate(tmp_path / LOG, max(whole + 1, size - lost))
    again = AddedLog(tmp_path)
    assert again.read_all() == [entry(1)]
    again.append(entry(3))
    assert again.read_all() == AddedLog(tmp_path).read_all() == [entry(1), entry(3)]


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\0" * 3, b"\xff" * 400, b"\x05\0\0\0\0\0\0\0\0\0\0\0hello"])
def test_what_a_loss_of_power_left_behind_the_last_record_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    log = AddedLog(tmp_path)
    log.append(entry(1))
    with (tmp_path / LOG).open("ab") as f:
        f.write(tail)
    again = AddedLog(tmp_path)
    assert again.read_all() == [entry(1)]
    again.append(entry(2))
    assert log.read_all() == AddedLog(tmp_path).read_all() == [entry(1), entry(2)]


def test_a_log_that_was_written_anew_is_never_taken_for_the_one_before(tmp_path: Path) -> None:
    """Whatever inode it gets, and however long it is."""
    one, other = AddedLog(tmp_path), AddedLog(tmp_path)
    for number in range(6):
        one.append(entry(number))
    one.read()
    at = (tmp_path / LOG).stat().st_size
    other.retire(lambda e: e.uri == entry(0).uri)
    other.append(replace(entry(7), uri="file:///lake/" + "x" * 333))
    other.retire(lambda e: e.uri == entry(1).uri)
    for number in range(8, 11):
        other.append(entry(number))
    is_new, found = one.read()
    assert is_new
    left = [entry(k).uri for k in (2, 3, 4, 5)] + ["file:///lake/" + "x" * 333] + [entry(k).uri for k in (8, 9, 10)]
    assert [e.uri for e in found if isinstance(e, Entry)] == left
    stale = AddedLog(tmp_path)
    stale._at = (b"another file's..", at)  # as a process would remember that looked before both were written anew
    stale.append(entry(11))
    assert [e.uri for e in AddedLog(tmp_path).entries()] == [*left, entry(11).uri]


def test_an_address_that_is_no_text_destroys_nothing(tmp_path: Path) -> None:
    log, bad = AddedLog(tmp_path), replace(entry(1), uri="file:///lake/\ud800.jpg")
    log.append(entry(0))
    with pytest.raises(UnicodeEncodeError):
        log.append(bad)
    assert AddedLog(tmp_path).read_all() == [entry(0)]
    with (tmp_path / LOG).open("ab") as f:  # as an older log may hold it
        f.write(packed(bad))
    again = AddedLog(tmp_path)
    assert again.read_all() == [entry(0)]
    assert uris(tmp_path) == [entry(0).uri]


def test_of_an_address_the_last_image_counts_until_it_is_taken_back(tmp_path: Path) -> None:
    log, added = AddedLog(tmp_path), Added(10, "m")
    first, second = entry(1), replace(entry(1), content_hash="f" * 64)
    for one in (first, first, second, entry(2)):
        log.append(one)
    added.extend(log.read_all())
    assert len(added) == 2
    assert added.rows_with("content_hash", first.content_hash).tolist() == []
    assert added.at(first.uri) == second
    log.append(Removal(address_digest(first.uri), datetime.now(UTC)))
    added.extend(log.read()[1])
    assert (len(added), added.at(first.uri)) == (1, None)
    assert log.retire(lambda e: False) == 4 - 1
    assert uris(tmp_path) == [entry(2).uri]
    again = replace(first, added_at=datetime.now(UTC))
    log.append(again)
    late = Added(10, "m")
    late.extend(AddedLog(tmp_path).read_all())
    assert late.at(first.uri) == again
    assert first.uri.encode() not in (tmp_path / LOG).read_bytes().split(packed(again))[0]


def test_damage_in_the_middle_is_an_error_and_loses_nothing_silently(tmp_path: Path) -> None:
    log = AddedLog(tmp_path)
    log.append(entry(1))
    log.append(entry(2))
    data = bytearray((tmp_path / LOG).read_bytes())
    data[200] ^= 1
    (tmp_path / LOG).write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged at byte"):
        AddedLog(tmp_path)


def test_retired_entries_leave_log_and_manifest_and_readers_are_told(tmp_path: Path) -> None:
    log, other = AddedLog(tmp_path), AddedLog(tmp_path)
    for number in range(3):
        log.append(entry(number))
    other.read()
    assert log.retire(lambda one: one.uri != entry(1).uri) == 2
    assert other.read() == (True, [entry(1)])
    assert uris(tmp_path) == [entry(1).uri]
    log.append(entry(5))
    assert other.read() == (False, [entry(5)])


def test_threads_append_without_losing_an_entry(tmp_path: Path) -> None:
    logs = [AddedLog(tmp_path) for _ in range(3)]
    threads = [threading.Thread(target=logs[k % 3].append, args=(entry(k),)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {e.uri for e in AddedLog(tmp_path).read_all()} == {entry(k).uri for k in range(12)}
    assert len(uris(tmp_path)) == 12


_ADDS = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from lookup.test_added_log import AddedLog, entry
log = AddedLog(Path(sys.argv[1]))
for number in range(1000):
    log.append(entry(number))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_every_entry_that_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ADDS, str(tmp_path), *sys.path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in [*lines, *process.stdout.read().split()]]
    process.wait()
    found = AddedLog(tmp_path).read_all()
    assert [e.uri for e in found][: len(acknowledged)] == [entry(k).uri for k in acknowledged]
    assert len(found) - len(acknowledged) in (0, 1)


def test_entries_are_found_by_hash_and_by_vector_while_they_grow() -> None:
    import numpy as np

    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((300, 4)).astype("<f2")
    added, first = Added(100, "m"), entry()
    for k, vector in enumerate(vectors):
        added.extend([replace(first, uri=f"file:///{k}", content_hash=f"{k:064x}", embedding=vector.tobytes())])
    assert added.rows_with("content_hash", f"{200:064x}").tolist() == [300]
    assert len(added.rows_with("pixel_hash", first.signature.pixel_hash)) == 300
    x = vectors[7].astype(np.float32)
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    near = set(added.near(x / np.linalg.norm(x), 0.9).tolist())
    certain = set((np.flatnonzero(unit @ (x / np.linalg.norm(x)) >= 0.9) + 100).tolist())
    assert certain <= near
    assert 107 in near
    assert Added(0, "another model").has_vector(np.array([0])).tolist() == [False]
