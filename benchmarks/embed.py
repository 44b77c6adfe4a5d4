"""Claim: inside Spark a model runs at nearly its own speed, and the default model is cheap.

Each runtime is measured alone: there are as many plain processes as cores (on a GPU: one), and each embeds arrays in
memory. The model is then measured inside the stage of `dedup-spark embed`, which reads a table of 256-px thumbnails,
and in a plain loop that decodes the same thumbnails and embeds them, without Spark and tables. Rounds alternate,
medians are compared, and every side is warm when its time starts.

With CUDA the stage runs in tasks that hold the GPU (a local cluster of one executor), GPU utilisation is sampled
while it runs, and the share of the time in which the model waited for decoding is shown.

    python benchmarks/embed.py --n 4000
    python benchmarks/embed.py --quick
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import Table, describe_machine, n_cores, photo_bytes, print_json, share_out
from PIL import Image
from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.kernels.features.model_input import model_input
from dedup_spark.kernels.features.signature import SignatureSettings, input_of_thumbnail, thumbnail_kind
from dedup_spark.models import registry
from dedup_spark.models.base import ModelSettings
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.delta import delta_jar
from dedup_spark.spark.session import get_session
from dedup_spark.stages.embed.step import vectors_of
from dedup_spark.stages.reading.model_choice import choose_model, signature_settings
from dedup_spark.stages.reading.read_ahead import TaskSettings

ROOT = Path(__file__).resolve().parent.parent
BATCH_IMAGES = {"cpu": 8, "cuda:0": 256}  # as the stage takes
IN_STAGE, SSCD, PX_224 = "extract.embedding=sscd_distilled", "extract.embedding=sscd", "extract.input_px=224"
ON_CPU = {
    "default": [],
    "sscd int8 224, onnx": [SSCD, PX_224],
    "sscd fp32 224, torch": [SSCD, PX_224, "extract.runtime=torch"],
    "sscd int8 160, onnx": [SSCD, "extract.input_px=160"],
    "distilled 224, onnx": [IN_STAGE, PX_224],
    "distilled 224, torch": [IN_STAGE, PX_224, "extract.runtime=torch"],
    "distilled 160, onnx": [IN_STAGE, "extract.input_px=160"],
}
ON_GPU = {
    "default": [],
    "sscd fp16 224, torch": [SSCD, PX_224],
    "sscd fp32 224, torch": [SSCD, PX_224, "extract.numbers=fp32"],
    "distilled fp16 224, torch": [IN_STAGE, PX_224],
}


def settings_of(overrides: list[str]) -> ExtractSettings:
    return load_config(None, overrides).extract


def resolved(extract: ExtractSettings, device: str) -> ModelSettings:
    return registry.resolve(extract, on_gpu=device != "cpu", threads=1)


# --- plain processes --------------------------------------------------------------------------------------


def arrays_process(model: ModelSettings, device: str, photos: list[bytes], n: int, barrier: Barrier) -> None:
    """Embeds `n` images from memory."""
    size = BATCH_IMAGES[device]
    images = [np.asarray(Image.open(io.BytesIO(photo)).convert("RGB").resize((256, 256))) for photo in photos]
    batch = np.stack([model_input(Image.fromarray(images[i % len(images)]), model.input) for i in range(size)])
    embedder = registry.load(model, device)
    embedder.embed(batch)
    barrier.wait()
    for _ in range(-(-n // size)):
        embedder.embed(batch)
    barrier.wait()


def loop_process(
    model: ModelSettings, device: str, thumbnails: list[bytes], signature: SignatureSettings, barrier: Barrier
) -> None:
    """Decodes and embeds thumbnails, one batch after the other."""
    size = BATCH_IMAGES[device]
    embedder = registry.load(model, device)
    embedder.embed(np.stack([input_of_thumbnail(thumbnails[0], signature)] * size))
    barrier.wait()
    for i in range(0, len(thumbnails), size):
        embedder.embed(np.stack([input_of_thumbnail(jpeg, signature) for jpeg in thumbnails[i : i + size]]))
    barrier.wait()


def run_process(target: Callable[..., None], arguments: tuple[object, ...], barrier: Barrier) -> None:
    try:
        target(*arguments, barrier)
    except BaseException:
        barrier.abort()  # else the others would wait for ever
        raise


def seconds_of(target: Callable[..., None], arguments: list[tuple[object, ...]]) -> float:
    """Seconds of work without start-up, with one process for each tuple of arguments."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(arguments) + 1)
    workers = [context.Process(target=run_process, args=(target, each, barrier)) for each in arguments]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.monotonic()
    barrier.wait()
    seconds = time.monotonic() - begin
    for worker in workers:
        worker.join()
    return seconds


def alone_per_second(extract: ExtractSettings, device: str, photos: list[bytes], n: int) -> float:
    """Images per second of the runtime on arrays in memory."""
    n_processes = n_cores() if device == "cpu" else 1
    each = -(-n // n_processes)
    arguments = [(resolved(extract, device), device, photos, each)] * n_processes
    return n_processes * each / seconds_of(arrays_process, list(arguments))


# --- inside Spark -----------------------------------------------------------------------------------------


def session(device: str) -> SparkSession:
    """A local session, or a cluster of one executor that holds the GPU."""
    if device == "cpu":
        return get_session("benchmark")
    cores = n_cores()
    builder = SparkSession.builder.master(f"local-cluster[1,{cores},16384]")
    for place in ("worker", "executor"):
        builder = builder.config(f"spark.{place}.resource.gpu.amount", "1")
        script = str(ROOT / "conf" / "getGpusResources.sh")
        builder = builder.config(f"spark.{place}.resource.gpu.discoveryScript", script)
    for key, value in {
        "spark.executor.memory": "8g", "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false",
        "spark.executorEnv.PYTHONPATH": str(ROOT), "spark.jars.packages": delta_jar(),
    }.items():  # fmt: skip
        builder = builder.config(key, value)
    builder.getOrCreate()
    return get_session("benchmark")


def write_thumbnails(folder: Path, thumbnails: list[bytes]) -> Path:
    """A table of the thumbnails, in enough files for all cores."""
    folder.mkdir()
    for i, part in enumerate(share_out(list(range(len(thumbnails))), 8 * n_cores())):  # type: ignore[arg-type]
        rows = [{"image_id": k, "thumbnail": thumbnails[k]} for k in part]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{i:04d}.parquet")
    return folder


def stage_seconds(spark: SparkSession, settings: TaskSettings, table: Path, n: int) -> tuple[float, dict[str, float]]:
    """Seconds to embed the table; and from the tasks, the seconds of the model and those in which it waited."""
    observation = Observation()
    images = spark.read.parquet(str(table))
    rows = vectors_of(images, settings, n).observe(
        observation, *(F.sum(name).alias(name) for name in ("model_seconds", "waited_seconds"))
    )
    begin = time.monotonic()
    rows.write.format("noop").mode("overwrite").save()
    return time.monotonic() - begin, dict(observation.get)


class Utilisation:
    """Percent of the time in which the GPU worked, by nvidia-smi twice per second."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Utilisation:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._ended.wait(0.5):
            self.samples.append(float(subprocess.check_output(command, text=True).split()[0]))


def in_stage(device: str, n: int, rounds: int, photos: list[bytes], scratch: Path) -> dict[str, float]:
    """Compares the stage with the plain loop over the same thumbnails."""
    extract = settings_of([IN_STAGE, PX_224, "extract.embed_from=thumbnail"])
    thumbnails = [varied_thumbnail(photos[i % len(photos)], i) for i in range(n)]
    table, warm = write_thumbnails(scratch / "all", thumbnails), write_thumbnails(scratch / "warm", thumbnails[:200])
    spark = session(device)
    spark.conf.set("spark.sql.files.minPartitionNum", str(8 * n_cores()))
    model = choose_model(spark, extract, [])
    signature = signature_settings(extract, model)
    assert thumbnail_kind(signature) in model.model.model_id
    source = open_source(str(scratch), load_config().inventory)
    settings = TaskSettings(source, signature, extract, model, "benchmark", model.share.cpus)
    stage_seconds(spark, settings, warm, 200)
    n_processes = n_cores() if device == "cpu" else 1
    loops, stages, clocks = [], [], {"model_seconds": 0.0, "waited_seconds": 0.0}
    figures: dict[str, float] = {}
    for _ in range(rounds):
        shares = [[thumbnails[k] for k in part] for part in share_out(list(range(n)), n_processes)]  # type: ignore[arg-type]
        loops.append(seconds_of(loop_process, [(model.model, device, share, signature) for share in shares]))
        if device == "cpu":
            seconds, seen = stage_seconds(spark, settings, table, n)
        else:
            with Utilisation() as gpu:
                seconds, seen = stage_seconds(spark, settings, table, n)
            figures["gpu_utilisation_percent"] = statistics.mean(gpu.samples)
        stages.append(seconds)
        clocks = {name: clocks[name] + seen[name] for name in clocks}
    spark.stop()
    waited = clocks["waited_seconds"] / sum(clocks.values())
    return figures | {
        "loop_img_per_s": n / statistics.median(loops),
        "stage_img_per_s": n / statistics.median(stages),
        "waiting_for_decode_share": waited,
    }


def varied_thumbnail(photo: bytes, i: int) -> bytes:
    """A thumbnail of a crop that depends on `i`, 256 px, JPEG quality 80: what features holds."""
    with Image.open(io.BytesIO(photo)) as image:
        left, top = i % 17, i // 17 % 17
        rgb = image.convert("RGB").crop((left, top, image.width, image.height))
    rgb.thumbnail((256, 256))
    out = io.BytesIO()
    rgb.save(out, "JPEG", quality=80)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4000, help="images in the stage; models alone take fewer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="300 images, one round")
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the sample photos of the demo)")
    options = parser.parse_args()
    n, rounds = (300, 1) if options.quick else (options.n, options.rounds)

    import torch  # here: the plain processes import this file, and most have no use for it

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    photos = photo_bytes(options.photos)
    points = ON_CPU if device == "cpu" else ON_GPU
    reference = next(name for name in points if name.startswith("sscd"))
    n_alone = max(32, n // 20) if device == "cpu" else 20 * n
    speeds: dict[str, list[float]] = {name: [] for name in points}
    for _ in range(rounds):
        for name, overrides in points.items():
            speeds[name].append(alone_per_second(settings_of(overrides), device, photos, n_alone))
    alone = {name: statistics.median(values) for name, values in speeds.items()}
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    try:
        stage = in_stage(device, n, rounds, photos, scratch)
    finally:
        shutil.rmtree(scratch)

    units = n_cores() if device == "cpu" else 1
    table = Table(("model alone", "img/s", f"per {'core' if device == 'cpu' else 'GPU'}", f"ratio to {reference}"))
    for name, speed in alone.items():
        table.add(name, speed, speed / units, speed / alone[reference])
    table.show()
    same_alone = next(speed for name, speed in alone.items() if name.startswith("distilled"))
    inside = Table(("distilled 224, thumbnails", "img/s", "ratio to the plain loop"))
    inside.add("model alone, no decoding", same_alone, same_alone / stage["loop_img_per_s"])
    inside.add("plain loop: decode, embed", stage["loop_img_per_s"], 1.0)
    inside.add("stage in Spark", stage["stage_img_per_s"], stage["stage_img_per_s"] / stage["loop_img_per_s"])
    inside.show()
    print(f"the model waited for decoding {stage['waiting_for_decode_share']:.0%} of its time")
    if "gpu_utilisation_percent" in stage:
        print(f"GPU utilisation {stage['gpu_utilisation_percent']:.0f} %")
    print_json(
        {
            "device": device,
            "machine": describe_machine(),
            "n": n,
            "spark_vs_bare": stage["stage_img_per_s"] / stage["loop_img_per_s"],
            "spark_vs_model_alone": stage["stage_img_per_s"] / same_alone,
            "default_vs_sscd224": alone["default"] / alone[reference],
            **stage,
            **{f"img_per_s {name}": speed for name, speed in alone.items()},
        }
    )


if __name__ == "__main__":
    main()
