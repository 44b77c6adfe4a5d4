"""What a worker and its decoder need does not grow with the images that they have read, and one giant is only a row."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

_TASKS = """if True:
    import json, os, re, sys
    from pathlib import Path
    import pyarrow as pa
    from test_step import RememberingSource, addresses, made, settings_for
    from dedup_spark.stages.extract.task import extract_batches

    def status_bytes(key, pid="self"):
        return int(re.search(key + r":\\s+(\\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024

    def decoder():
        stats = {p.parent.name: p.read_text().rpartition(")")[2].split() for p in Path("/proc").glob("[0-9]*/stat")}
        return next(pid for pid, fields in stats.items() if fields[1] == str(os.getpid()))

    folder, sizes = Path(sys.argv[1]), json.loads(sys.argv[2])
    names, source = sorted(p.name for p in folder.iterdir()), RememberingSource(folder)
    peaks, rows = [], []
    for n in sizes:
        for start in range(0, n, 500):
            paths = [names[i % len(names)] for i in range(start, min(n, start + 500))]
            rows = made(extract_batches([addresses(*paths)], settings_for(source)))
            source.asked.clear()
        peaks.append([status_bytes("VmHWM"), status_bytes("VmHWM", decoder()), status_bytes("VmRSS", decoder())])
    outcomes = sorted({(row["status"], row["width_px"]) for row in rows})
    sys.stdout.write(json.dumps([peaks, outcomes]))"""


def run_tasks(folder: Path, *sizes: int) -> tuple[list[list[int]], list[list[object]]]:
    """In a process of its own, tasks of 500 images each, `sizes` images in all after one another.

    Returns, for each size, the bytes of the worker's peak, the decoder's peak and what the decoder holds at its end;
    and what became of the images of the last task: (status, width in pixels).
    """
    command = [sys.executable, "-c", _TASKS, str(folder), json.dumps(sizes)]
    here = Path(__file__).resolve()
    environment = {"PYTHONPATH": ":".join(str(here.parents[i]) for i in (0, 2, 3)), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True, text=True)
    peaks, outcomes = json.loads(done.stdout)
    return peaks, outcomes


def write_thumbnails(folder: Path, n: int) -> None:
    for i in range(n):
        Image.effect_noise((160, 120), 40 + i).save(folder / f"{i:03d}.jpg", quality=90)


@pytest.mark.slow
def test_ten_times_the_images_need_no_more_memory(tmp_path: Path) -> None:
    write_thumbnails(tmp_path, 80)
    (worker, decoder, _), (later_worker, later_decoder, _) = run_tasks(tmp_path, 500, 5000)[0]
    assert later_worker < 1.15 * worker
    assert later_decoder < 1.15 * decoder


@pytest.mark.slow
def test_a_tiff_of_300_megapixels_among_thumbnails_is_a_row_and_its_memory_is_given_back(tmp_path: Path) -> None:
    write_thumbnails(tmp_path, 20)
    before = run_tasks(tmp_path, 20)[0][0]
    giant = Image.linear_gradient("L").convert("RGB").resize((20_000, 15_000), Image.Resampling.NEAREST)
    packed = io.BytesIO()
    giant.save(packed, "TIFF", compression="tiff_lzw")
    (tmp_path / "007 giant.tif").write_bytes(packed.getvalue())
    [(worker, decoder, left)], outcomes = run_tasks(tmp_path, 21)
    assert outcomes == [["ok", 160], ["ok", 20_000]]
    assert worker < before[0] + 2 * len(packed.getvalue()) + (64 << 20)
    assert decoder < 2 << 30  # 900 MB of pixels, 300 MB of grey for the pHash, and what a strip needs
    assert left < before[2] + (64 << 20)
