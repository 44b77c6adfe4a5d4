"""Runs a Spark cluster of two executors with one pretended GPU each; `test_gpus.py` runs this file as a process.

    python tests/gpu_cluster.py FOLDER

It prints one JSON object with the GPUs that tasks held and the results of extract and of faiss_ivf.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import own_cluster
import pyarrow as pa
from fabricated import families, far_hash, fill, near_pairs, random_ids, readable
from pyspark import TaskContext
from pyspark.sql import SparkSession

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.errors import DedupError
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.gpus import device_of_task, task_share
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, PAIRS, RUNS
from dedup_spark.store.tables import Tables


def start(folder: Path) -> SparkSession:
    script = folder / "fake_gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0"]}\'\n')
    script.chmod(0o755)
    settings = {"spark.sql.shuffle.partitions": "2", "spark.databricks.delta.snapshotPartitions": "1"}
    for place in ("worker", "executor"):
        settings[f"spark.{place}.resource.gpu.amount"] = "1"
        settings[f"spark.{place}.resource.gpu.discoveryScript"] = str(script)
    return own_cluster.start("local-cluster[2,2,2048]", folder, settings)


def hold(batches: Iterable[pa.RecordBatch], folder: str, share_of_gpus: float) -> Iterator[pa.RecordBatch]:
    """A task that records which GPU it held, and from when to when."""
    task = TaskContext.get()
    device, begin = device_of_task(share_of_gpus), time.time()
    rows = [batch for batch in batches if batch.num_rows]
    time.sleep(0.4)
    held = {"executor": os.environ["SPARK_EXECUTOR_DIRS"], "device": device, "cpus": task.cpus(), "begin": begin,
            "end": time.time(), "pid": os.getpid()}  # fmt: skip
    Path(folder, f"{task.taskAttemptId()}.json").write_text(json.dumps(held))
    yield from rows


def idle(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A task of a stage without GPUs."""
    time.sleep(0.2)
    yield from batches


def seen_with(spark: SparkSession, folder: Path, gpus_per_task: float) -> list[dict[str, object]]:
    share = task_share(spark, ExtractSettings(gpus_per_task=gpus_per_task))
    notes = folder / f"held-{gpus_per_task:g}"
    notes.mkdir()
    work = functools.partial(hold, folder=str(notes), share_of_gpus=share.gpus)
    spark.range(0, 64, 1, 8).mapInArrow(idle, "id long").count()  # leaves a worker for each core
    share.map_in_arrow(spark.range(0, 64, 1, 8), work, "id long").count()
    return [json.loads(note.read_text()) for note in notes.iterdir()]


def extract(spark: SparkSession, folder: Path, name: str, overrides: list[str]) -> dict[str, object]:
    """One run of inventory and extract over folder/lake. Returns what it wrote, or its error."""
    config = load_config(None, ["extract.embedding=sscd_distilled", "extract.input_px=96", *overrides])
    tables = Tables(spark, str(folder / name))
    tables.create_missing()
    run = Run(tables, config, open_source(str(folder / "lake"), config.inventory).root, name)
    run_step(spark, config, run, find_step("inventory"))
    error = None
    try:
        run_step(spark, config, run, find_step("extract"))
    except DedupError as e:
        error = f"{type(e).__name__}: {e}"
    marks = tables.read(RUNS).where("step = 'extract' AND status IN ('complete', 'failed')").collect()
    n_embedded = tables.read(FEATURES).where("embedding IS NOT NULL").count()
    return {
        "error": error,
        "message": marks[0]["message"],
        "notes": marks[0]["notes"],
        "n_rows": tables.read(FEATURES).count(),
        "embedded": n_embedded,
    }


def search(spark: SparkSession, folder: Path, name: str, overrides: list[str]) -> dict[str, object]:
    """One run of index and match by faiss_ivf over made-up features. Returns what was noted and found, or the error."""
    rng = np.random.default_rng(1)
    vectors, ids = families([3] * 40, 0.75, rng), random_ids(120, rng)
    config = load_config(None, ["match.engine=faiss_ivf", "match.neighbours=0", *overrides])
    tables = Tables(spark, str(folder / name))
    tables.create_missing()
    fill(tables, feature_rows=[readable(i, v, phash=far_hash(i)) for i, v in zip(ids, vectors, strict=True)])
    run, error = Run(tables, config, "file:///lake", name), None
    try:
        for step in ("index", "match"):
            run_step(spark, config, run, find_step(step))
    except DedupError as e:
        error = f"{type(e).__name__}: {e}"
    marks = tables.read(RUNS).where("status = 'complete' AND step IN ('index', 'match')").collect()
    found = {(r["image_id_a"], r["image_id_b"]) for r in tables.read(PAIRS).collect()}
    return {
        "error": error,
        "notes": {mark["step"]: mark["notes"] for mark in marks},
        "is_right": found == near_pairs(ids, vectors, 0.45),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    spark = start(folder)
    seen = {
        "whole": seen_with(spark, folder, 1.0),
        "half": seen_with(spark, folder, 0.5),
        "onnx": extract(spark, folder, "onnx", ["extract.gpus_per_task=1", "extract.runtime=onnx"]),
        "no_cuda": extract(spark, folder, "no_cuda", []),
        "faiss": search(spark, folder, "faiss", []),
        "faiss_stops": search(spark, folder, "faiss_stops", ["match.faiss_without_gpu=stop"]),
        "index_stops": search(spark, folder, "index_stops", ["index.faiss_without_gpu=stop"]),
    }
    spark.stop()
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
