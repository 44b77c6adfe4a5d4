"""All Python processes of an executor together stay within its memory, whatever the files that they read at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bombs
import pytest
from processes import ROOT, live_processes

from dedup_spark.stages.reading import budget
from dedup_spark.stages.reading.decoder_pool import DecoderLimits

MIB = 1 << 20
SHARE_OF_TWO_WORKERS = 2 * (16 << 30) // 14
"""Of an executor of conf/emr and conf/k8s, whose 14 workers have 16 GiB."""

_WORKER = """if True:
    import dataclasses, json, sys
    from pathlib import Path
    import pyarrow as pa
    from dedup_spark.config import ExtractSettings
    from dedup_spark.kernels.features.signature import SignatureSettings
    from dedup_spark.spark.python_memory import ExecutorMemory
    from dedup_spark.stages.extract.task import extract_batches
    from dedup_spark.stages.reading.read_ahead import TaskSettings

    class Folder:
        def fetch(self, address, max_bytes):
            with Path(address.uri).open("rb") as f:
                return f.read(max_bytes + 1)

    python_bytes, workers, extract = json.loads(sys.argv[1])
    paths = json.loads(Path(sys.argv[2]).read_text())
    rows = [{"image_id": i, "object_version": 1, "uri": p, "size_bytes": size} for i, (p, size) in enumerate(paths)]
    schema = pa.schema([("image_id", pa.int64()), ("object_version", pa.int64()), ("uri", pa.string()),
        ("member", pa.string()), ("location", pa.string()), ("position", pa.int64()), ("size_bytes", pa.int64())])
    extract = dataclasses.replace(ExtractSettings(), python_memory_bytes=python_bytes, **extract)
    settings = TaskSettings(
        Folder(), SignatureSettings(400_000_000, 16, 256, 80, 256), extract,
        None, "run-1", 1, executor=ExecutorMemory(python_bytes, 0, workers))
    for start in range(0, len(rows), 200):
        batch = pa.RecordBatch.from_pylist(rows[start : start + 200], schema=schema)
        for made in extract_batches([batch], settings):
            for row in made.to_pylist():
                name = Path(rows[row["image_id"]]["uri"]).name
                print(json.dumps([name, row["status"], row["reject_reason"], row["reject_message"], row["n_frames"]]))
"""


@dataclass
class Outcome:
    """`rows` by name of the file: status, reason, message, frames; `peak` is the largest sum of memory seen."""

    rows: dict[str, tuple[str, str | None, str | None, int | None]] = field(default_factory=dict)
    peak: int = 0
    exit_codes: list[int] = field(default_factory=list)


def proportional_bytes(pid: int) -> int:
    """Of a process and all below it; memory that processes share is divided among them."""
    parents = {process.pid: process.parent for process in live_processes()}
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(map(_proportional_bytes_of_one, family))


def _proportional_bytes_of_one(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:  # gone meanwhile
        return 0
    return 1024 * int(found[1]) if found else 0


@contextlib.contextmanager
def control_group(n_bytes: int) -> Iterator[Path | None]:
    """A control group that ends processes above so much memory; None where this user may make none."""
    group = Path("/sys/fs/cgroup/memory" if Path("/sys/fs/cgroup/memory").is_dir() else "/sys/fs/cgroup")
    group /= f"dedup-spark-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if group.parent.name == "memory" else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(n_bytes))
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        for _ in range(100):  # its processes have ended, which the kernel may not have seen yet
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.05)
            else:
                break


def read_by_workers(
    files: dict[str, bytes], folder: Path, python_bytes: int, workers: int = 2, **extract: Any
) -> Outcome:
    """What so many workers at once make of the files, as tasks of extract do, in `python_bytes` for all of them."""
    (folder / "lake").mkdir()
    (folder / "spark").mkdir()
    for name, data in files.items():
        (folder / "lake" / name).write_bytes(data)
    outcome = Outcome()
    with control_group(python_bytes) as group:
        started = [
            _started(folder, list(files)[i::workers], (python_bytes, workers, extract), group) for i in range(workers)
        ]
        watch = threading.Thread(target=_watch, args=(started, outcome))
        watch.start()
        outputs: dict[int, str] = {}
        readers = [
            threading.Thread(target=lambda p: outputs.update({p.pid: p.communicate()[0]}), args=(p,)) for p in started
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        watch.join()
    outcome.exit_codes = [process.returncode for process in started]
    for line in "".join(outputs.values()).splitlines():
        name, status, reason, message, n_frames = json.loads(line)
        outcome.rows[name] = (status, reason, message, n_frames)
    return outcome


def _started(folder: Path, names: list[str], memory: tuple[int, int, dict[str, Any]], group: Path | None) -> Any:
    lake = [folder / "lake" / name for name in names]
    listing = folder / f"listing of {names[0]}.json"
    listing.write_text(json.dumps([[str(path), path.stat().st_size] for path in lake]))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SPARK_LOCAL_DIRS": str(folder / "spark"),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdin.readline()\n{_WORKER}", json.dumps(memory), str(listing)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    if group is not None:
        (group / "cgroup.procs").write_text(str(process.pid))
    assert process.stdin is not None
    process.stdin.write("\n")  # it was to be in its group before it does anything
    process.stdin.flush()
    return process


def _watch(started: list[Any], outcome: Outcome) -> None:
    while any(process.poll() is None for process in started):
        outcome.peak = max(outcome.peak, sum(proportional_bytes(process.pid) for process in started))
        time.sleep(0.05)


def test_bombs_among_sound_pictures_are_rows_and_the_sum_of_all_memory_stays_below_the_limit(tmp_path: Path) -> None:
    """Two workers with room for a picture of 20 megapixels."""
    python_bytes = 2 * budget.worker_bytes(1, DecoderLimits(1, 1).inflight_bytes) + 200 * MIB
    canvases = {
        "one bit.png": bombs.png_of_zeros(20_000, 19_999, 1, 0),
        "colours.png": bombs.png_of_zeros(4_400, 4_000, 8, 2),
        "also colours.png": bombs.png_of_zeros(4_000, 4_400, 8, 2),
        "lossless.webp": bombs.flat_webp(16_383, 16_383),
        "deep.tif": bombs.tiff_of_zeros(6_000, 6_000, 2, 16, 3),
        "pages.tif": bombs.tiff_pages(6_000),
    }
    pictures = bombs.sound(12)
    outcome = read_by_workers(canvases | pictures, tmp_path, python_bytes)
    assert outcome.exit_codes == [0, 0]
    assert set(outcome.rows) == set(canvases | pictures)
    reasons = {name: row[1] for name, row in outcome.rows.items()}
    assert {name for name in pictures if reasons[name]} == set()
    assert {name: reasons[name] for name in canvases} == {
        "one bit.png": "too_many_pixels", "lossless.webp": "too_many_pixels", "deep.tif": "too_many_pixels",
        "colours.png": None, "also colours.png": None, "pages.tif": None,
    }  # fmt: skip
    assert "spark.executor.memoryOverhead" in (outcome.rows["one bit.png"][2] or "")
    assert outcome.rows["pages.tif"][3] == 6_000
    assert outcome.peak < python_bytes


@pytest.mark.slow
def test_forty_bombs_at_once_among_two_thousand_pictures_cost_no_worker_and_no_row(tmp_path: Path) -> None:
    """Two workers with their share of a shipped executor; it is enforced where this user may make a control group."""
    hostile, pictures = bombs.all_bombs(), bombs.sound(2_000 - len(bombs.all_bombs()))
    names = [*list(pictures)[:200], *hostile, *list(pictures)[200:]]  # behind each other, so that many are under way
    files = {name: (hostile | pictures)[name] for name in names}
    outcome = read_by_workers(files, tmp_path, SHARE_OF_TWO_WORKERS, fetch_threads=32)
    assert outcome.exit_codes == [0, 0]
    assert set(outcome.rows) == set(files)
    assert {row[1] for name, row in outcome.rows.items() if name in pictures} == {None}
    assert "decoder_crashed" not in {row[1] for row in outcome.rows.values()}
    assert outcome.peak < SHARE_OF_TWO_WORKERS


@pytest.mark.chaos
def test_a_worker_that_is_killed_in_the_middle_of_a_large_image_takes_its_decoder_with_it(tmp_path: Path) -> None:
    """Else the decoder would go on, in memory that the lock of its worker no longer holds."""
    (tmp_path / "lake").mkdir()
    (tmp_path / "spark").mkdir()
    (tmp_path / "lake" / "large.png").write_bytes(bombs.png_of_zeros(16_000, 16_000, 8, 2))
    worker = _started(tmp_path, ["large.png"], (8 << 30, 1, {}), None)
    deadline = time.monotonic() + 120
    while proportional_bytes(worker.pid) < 700 * MIB and time.monotonic() < deadline:
        time.sleep(0.02)
    (decoder,) = [process.pid for process in live_processes() if process.parent == worker.pid]
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    deadline = time.monotonic() + 10
    while decoder in {process.pid for process in live_processes()} and time.monotonic() < deadline:
        time.sleep(0.02)
    assert decoder not in {process.pid for process in live_processes()}
