"""Claim: inside Spark, images are read, hashed and embedded at nearly the speed of the libraries themselves.

The step `extract` against the ideal loop: as many plain processes as there are cores, each reading, hashing, decoding
and embedding its share with the same functions, no Spark, no tables. Start-up is left out on both sides: the loop's
clock starts when every process has its model, Spark's after a small extract that warmed the same workers up.

    python benchmarks/extract.py --n 20000 --photos /my/photos
    python benchmarks/extract.py --quick
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from harness import Table, describe_machine, n_cores, photo_bytes, print_json, share_out

from dedup_spark.config import Config, load_config
from dedup_spark.kernels.hashing import content_hash
from dedup_spark.kernels.signature import SignatureSettings, sign_image
from dedup_spark.models.registry import load, resolve
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.runs import Run, new_run_id
from dedup_spark.session import get_session
from dedup_spark.sources.registry import open_source
from dedup_spark.tables import Tables

WARM_UP_IMAGES = 64
BATCH_IMAGES = 8  # as extract takes on CPUs


def stamped_photos(folder: Path, n: int, photos: list[bytes]) -> Path:
    """`n` files that differ in bytes but cost the same to decode: photos with a counter behind their last byte."""
    for i in range(n):
        path = folder / f"{i // 1000:04d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photos[i % len(photos)] + i.to_bytes(8, "big"))
    return folder


def ideal_share(paths: list[Path], config: Config, embed: bool, barrier: Barrier) -> None:
    """What one process of the ideal loop does; passes the barrier when warm and when done."""
    e = config.extract
    settings = SignatureSettings(
        e.max_pixels, e.min_side_px, e.thumbnail_px, e.thumbnail_quality, e.input_px if embed else 0
    )
    model = load(resolve(e, on_gpu=False, threads=1)) if embed else None
    data = paths[0].read_bytes()
    warm = sign_image(data, settings)
    if model and warm.model_input is not None:
        model.embed(np.stack([warm.model_input]))
    barrier.wait()
    for start in range(0, len(paths), BATCH_IMAGES):
        signatures = []
        for path in paths[start : start + BATCH_IMAGES]:
            data = path.read_bytes()
            content_hash(data)
            signatures.append(sign_image(data, settings))
        if model:
            model.embed(np.stack([s.model_input for s in signatures if s.model_input is not None]))
    barrier.wait()


def ideal_seconds(lake: Path, config: Config, embed: bool, n_processes: int) -> float:
    paths = sorted(lake.rglob("*.jpg"))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(n_processes + 1)
    workers = [
        context.Process(target=ideal_share, args=(share, config, embed, barrier))
        for share in share_out(paths, n_processes)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.monotonic()
    barrier.wait()
    seconds = time.monotonic() - begin
    for worker in workers:
        worker.join()
    return seconds


def spark_seconds(lake: Path, tables_root: Path, config: Config) -> float:
    """Seconds of the step extract on a lake that the inventory has listed."""
    spark = get_session("benchmark")
    tables = Tables(spark, str(tables_root))
    tables.create_missing()
    run = Run(tables, config, open_source(str(lake), config.inventory).root, new_run_id())
    run_step(spark, config, run, find_step("inventory"))
    begin = time.monotonic()
    run_step(spark, config, run, find_step("extract"))
    return time.monotonic() - begin


def peak_worker_bytes() -> int:
    """Largest resident set that a Python worker and its decoder reached (VmHWM), added."""
    worker = decoder = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            peak = next((ln for ln in status.read_text().splitlines() if ln.startswith("VmHWM")), None)
        except OSError:  # ended meanwhile
            continue
        if peak is None:
            continue
        n_bytes = int(peak.split()[1]) * 1024
        if b"pyspark.daemon" in command:
            worker = max(worker, n_bytes)
        elif b"dedup_spark.decoder_child" in command:
            decoder = max(decoder, n_bytes)
    return worker + decoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="200 images")
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the sample photos of the demo)")
    options = parser.parse_args()
    n_large = 200 if options.quick else options.n
    n_small = max(20, n_large // 10)
    n_processes = n_cores()
    photos = photo_bytes(options.photos)
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    figures: dict[str, object] = {"n": n_large, "n_processes": n_processes, "machine": describe_machine()}
    table = Table(("what", "images", "ideal loop img/s", "Spark img/s", "ratio"))
    try:
        small, large = (
            stamped_photos(scratch / "small", n_small, photos),
            stamped_photos(scratch / "large", n_large, photos),
        )
        warm = stamped_photos(scratch / "warm", WARM_UP_IMAGES, photos)
        for name, overrides in (("embedding", []), ("hash_only", ["extract.embedding=off"])):
            config = load_config(None, overrides)
            embed = config.extract.embedding != "off"
            spark_seconds(warm, scratch / f"warm-{name}", config)
            spark_seconds(small, scratch / f"small-{name}", config)
            if embed:
                figures["peak_rss_2000_bytes"] = peak_worker_bytes()
            seconds = spark_seconds(large, scratch / f"large-{name}", config)
            if embed:
                figures["peak_rss_20000_bytes"] = peak_worker_bytes()
            ideal = ideal_seconds(large, config, embed, n_processes)
            ratio = ideal / seconds
            table.add(name, n_large, n_large / ideal, n_large / seconds, ratio)
            figures |= {f"ratio_{name}": ratio, f"spark_img_per_s_{name}": n_large / seconds,
                        f"ideal_img_per_s_{name}": n_large / ideal}  # fmt: skip
    finally:
        get_session("benchmark").stop()
        shutil.rmtree(scratch)
    table.show()
    print_json(figures)


if __name__ == "__main__":
    main()
