"""Claim: inside Spark, images are read, hashed and embedded at nearly the speed of the libraries themselves.

The step `extract` is compared with an ideal loop: as many plain processes as there are cores, each of which reads,
hashes, decodes and embeds its share with the same functions, without Spark and tables. Start-up is left out on both
sides: the loop's time starts when every process has its model, Spark's after a small extract that warmed the same
workers up. The loop does one half of the images before Spark and the other after it, as a machine that others use too
is not equally fast all the time. For the same reason the processor seconds of both sides are compared too.

    python benchmarks/extract.py --n 20000 --photos /my/photos
    python benchmarks/extract.py --n 20000 --side-px 256 --set extract.embedding=sscd_distilled
    python benchmarks/extract.py --quick

A loop of our own functions hides how slow these are. So a second loop is the limit: simplejpeg, which was the fastest
maintained decoder, SHA-256 of the bytes and the same embedding runtime on an input that is made once, nothing else.
`ratio_to_limit_*` is Spark's speed as a share of it.

    for side in 500 1920 4243; do python benchmarks/extract.py --n 2000 --photos /my/photos --side-px $side; done

Peak memory is that of a Python worker and its decoder process, after 1/10 of the images and after all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import simplejpeg
from harness import Table, describe_machine, n_cores, photo_bytes, print_json, scaled, share_out

from dedup_spark.config import Config, load_config
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
from dedup_spark.models.registry import load, resolve
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.session import get_session
from dedup_spark.store.runs import Run, new_run_id
from dedup_spark.store.tables import Tables

WARM_UP_IMAGES = 64
BATCH_IMAGES = 8  # as extract takes on CPUs
MODES = {"embedding": (), "hash_only": ("extract.embedding=off",)}
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """The cost of a run: seconds by the clock, and processor seconds of all its processes."""

    seconds: float
    cpu_seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


class Meter:
    """Measures both from its creation to `read`, for this process and all below it, ended ones included."""

    def __init__(self) -> None:
        self._begin, self._cpu_begin = time.monotonic(), cpu_seconds_below()

    def read(self) -> Cost:
        return Cost(time.monotonic() - self._begin, cpu_seconds_below() - self._cpu_begin)


def descendants() -> dict[int, list[str]]:
    """This process and all below it: process id to the fields of /proc/<pid>/stat from the third (state) on."""
    stats: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
    ours = {os.getpid()}
    while more := {pid for pid, fields in stats.items() if int(fields[1]) in ours} - ours:
        ours |= more
    return {pid: stats[pid] for pid in ours if pid in stats}


def cpu_seconds_below() -> float:
    """User and system time of this process, of all below it, and of the ended ones that these waited for."""
    return sum(int(t) for fields in descendants().values() for t in fields[11:15]) / TICKS_PER_SECOND


def peak_worker_bytes() -> int:
    """The sum of the largest resident set (VmHWM) of a Python worker and that of a decoder."""
    peaks = {b"pyspark.daemon": 0, b"dedup_spark.stages.reading.decoder_child": 0}
    for pid in descendants():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # ended meanwhile
            continue
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
        for kind in peaks:
            if kind in command:
                peaks[kind] = max(peaks[kind], int(peak) * 1024)
    return sum(peaks.values())


def stamped_photos(folder: Path, n: int, photos: list[bytes]) -> Path:
    """`n` files that differ in bytes but cost the same to decode: photos with a counter behind their last byte."""
    for i in range(n):
        path = folder / f"{i // 1000:04d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photos[i % len(photos)] + i.to_bytes(8, "big"))
    return folder


Batch = list[bytes]


def ideal_work(config: Config, embed: bool) -> Callable[[Batch], None]:
    """What a process of the ideal loop does with the bytes of some images: the same as a task of extract."""
    e = config.extract
    chosen = resolve(e, on_gpu=False, threads=1) if embed else None
    made = asdict(chosen.input) if chosen else {"input_px": 0}
    settings = SignatureSettings(
        e.max_pixels, e.min_side_px, e.thumbnail_px, e.thumbnail_quality, pixels=e.pixels, **made
    )
    model = load(chosen) if chosen else None

    def work(batch: Batch) -> None:
        for data in batch:
            content_hash(data)
        signatures = [sign_image(data, settings) for data in batch]
        if model:
            model.embed(np.stack([s.model_input for s in signatures if s.model_input is not None]))

    return work


def limit_work(config: Config, embed: bool) -> Callable[[Batch], None]:
    """The same of the limit: each image is decoded and its bytes are hashed; one input is embedded again and again."""
    chosen = resolve(config.extract, on_gpu=False, threads=1) if embed else None
    model = load(chosen) if chosen else None
    side = chosen.input.input_px if chosen else 0
    inputs = np.random.default_rng(1).integers(0, 256, (BATCH_IMAGES, side, side, 3), np.uint8)

    def work(batch: Batch) -> None:
        for data in batch:
            hashlib.sha256(data).digest()
            simplejpeg.decode_jpeg(data, "RGB")
        if model:
            model.embed(inputs[: len(batch)])

    return work


WORK = {"ideal": ideal_work, "limit": limit_work}


def loop_share(what: str, paths: list[Path], config: Config, embed: bool, barrier: Barrier) -> None:
    """One process of a loop. It passes the barrier when warm, when done, and when the time was taken."""
    work = WORK[what](config, embed)
    work([paths[0].read_bytes()])
    barrier.wait()
    for start in range(0, len(paths), BATCH_IMAGES):
        work([path.read_bytes() for path in paths[start : start + BATCH_IMAGES]])
    barrier.wait()
    barrier.wait()


def loop_cost(what: str, paths: list[Path], config: Config, embed: bool) -> Cost:
    """Of one of WORK, by as many processes as there are cores."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(n_cores() + 1)
    workers = [
        context.Process(target=loop_share, args=(what, share, config, embed, barrier))
        for share in share_out(paths, n_cores())
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    meter = Meter()
    barrier.wait()
    cost = meter.read()
    barrier.wait()  # until here no process ends, and takes its processor time with it
    for worker in workers:
        worker.join()
    return cost


def spark_cost(lake: Path, tables_root: Path, config: Config) -> Cost:
    """The cost of the step extract, on a lake that the step inventory has listed."""
    spark = get_session("benchmark")
    tables = Tables(spark, str(tables_root))
    tables.create_missing()
    run = Run(tables, config, open_source(str(lake), config.inventory).root, new_run_id())
    run_step(spark, config, run, find_step("inventory"))
    meter = Meter()
    run_step(spark, config, run, find_step("extract"))
    return meter.read()


def measure(name: str, config: Config, scratch: Path, table: Table) -> dict[str, object]:
    """The figures of one mode, with names that end in `name`; its row is added to the table."""
    embed = config.extract.embedding != "off"
    paths = sorted((scratch / "large").rglob("*.jpg"))
    n_large = len(paths)
    before = {what: loop_cost(what, paths[::2], config, embed) for what in WORK}
    spark_cost(scratch / "warm", scratch / f"warm-{name}", config)
    spark_cost(scratch / "small", scratch / f"small-{name}", config)
    small_bytes = peak_worker_bytes()
    spark = spark_cost(scratch / "large", scratch / f"large-{name}", config)
    large_bytes = peak_worker_bytes()
    get_session("benchmark").stop()  # the loop shall not share the machine with idle workers
    after = {what: loop_cost(what, paths[1::2], config, embed) for what in WORK}
    ideal, limit = (before[what] + after[what] for what in WORK)
    ratio, cpu_ratio = ideal.seconds / spark.seconds, ideal.cpu_seconds / spark.cpu_seconds
    to_limit, cpu_to_limit = limit.seconds / spark.seconds, limit.cpu_seconds / spark.cpu_seconds
    speeds = (n_large / cost.seconds for cost in (limit, ideal, spark))
    table.add(name, n_large, *speeds, ratio, cpu_ratio, to_limit, cpu_to_limit)
    figures: dict[str, object] = {
        "ratio": ratio, "cpu_ratio": cpu_ratio, "ratio_to_limit": to_limit, "cpu_ratio_to_limit": cpu_to_limit,
        "limit_img_per_s": n_large / limit.seconds, "limit_cpu_ms_per_img": 1e3 * limit.cpu_seconds / n_large,
        "spark_img_per_s": n_large / spark.seconds, "ideal_img_per_s": n_large / ideal.seconds,
        "spark_cpu_ms_per_img": 1e3 * spark.cpu_seconds / n_large,
        "ideal_cpu_ms_per_img": 1e3 * ideal.cpu_seconds / n_large,
        "ideal_after_to_before": after["ideal"].seconds / before["ideal"].seconds,
    }  # fmt: skip
    named = {f"{key}_{name}": value for key, value in figures.items()}
    rss = {"peak_rss_small_bytes": small_bytes, "peak_rss_large_bytes": large_bytes}
    return named | (rss if embed else {f"{key}_{name}": value for key, value in rss.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000, help="images; memory is compared with a tenth of them")
    parser.add_argument("--quick", action="store_true", help="200 images")
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the sample photos of the demo)")
    parser.add_argument("--side-px", type=int, default=0, help="scale the photos to this longest side first")
    parser.add_argument("--only", choices=tuple(MODES), help="one of the two modes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of dedup-spark")
    options = parser.parse_args()
    n_large = 200 if options.quick else options.n
    photos = photo_bytes(options.photos)
    if options.side_px:
        photos = [scaled(photo, options.side_px) for photo in photos]
    figures: dict[str, object] = {
        "n": n_large, "n_processes": n_cores(), "machine": describe_machine(), "settings": options.set,
        "mean_bytes": sum(map(len, photos)) / len(photos),
    }  # fmt: skip
    speeds, ratios = ("limit img/s", "ideal loop img/s", "Spark img/s"), ("ratio", "of processor seconds")
    table = Table(("what", "images", *speeds, *ratios, *(f"{ratio}, to the limit" for ratio in ratios)))
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    try:
        for name, n in (("warm", WARM_UP_IMAGES), ("small", max(20, n_large // 10)), ("large", n_large)):
            stamped_photos(scratch / name, n, photos)
        for name in [options.only] if options.only else MODES:
            figures |= measure(name, load_config(None, [*options.set, *MODES[name]]), scratch, table)
    finally:
        shutil.rmtree(scratch)
    table.show()
    print_json(figures)


if __name__ == "__main__":
    main()
