"""One million rows of a manifest go through inventory in a heap of 512 MB that driver and executors share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import ROOT
from deltalake import DeltaTable

pytestmark = pytest.mark.slow

N_ROWS = 1_000_000
OURS = ("PYSPARK_", "SPARK_", "PYTHONPATH")
SMALL = (
    *("--master", "local[2]", "--conf", "spark.driver.memory=512m"),
    *("--conf", "spark.driver.maxResultSize=32m"),  # whatever is collected beyond this ends the run
    *("--conf", "spark.driver.extraJavaOptions=-XX:+ExitOnOutOfMemoryError"),
)


def write_manifest(path: Path, first: int, n_changed: int) -> None:
    """Rows from `first` on, the first `n_changed` of them with another size; 20 files, as Spark writes them."""
    path.mkdir()
    for start in range(first, first + N_ROWS, N_ROWS // 20):
        ids = np.arange(start, start + N_ROWS // 20)
        sizes = 100_000 + ids % 7919 + (ids < first + n_changed)
        uris = [f"s3://a-lake/photos/{i % 997:04d}/2024-05-{i % 28 + 1:02d}/camera-{i:09d}.jpg" for i in ids]
        table = pa.table({"uri": uris, "size_bytes": sizes, "etag": [f"{i:032x}" for i in ids]})
        pq.write_table(table, path / f"part-{start:09d}.parquet")


def run_inventory(manifest: Path, root: Path) -> None:
    job = [
        *SMALL,
        "inventory",
        "--",
        "--lake",
        str(manifest),
        "--tables",
        str(root),
        "--set",
        "inventory.source=manifest",
    ]
    variables = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    command = [str(ROOT / "spark-submit.sh"), "--platform", "local", *job]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_a_million_rows_are_listed_and_brought_up_to_date_in_half_a_gigabyte(tmp_path: Path) -> None:
    """The second listing lacks 10,000 of the first, has 10,000 new ones and 5,000 changed ones."""
    root = tmp_path / "tables"
    write_manifest(tmp_path / "first", 0, 0)
    run_inventory(tmp_path / "first", root)
    assert DeltaTable(root / "images").count() == N_ROWS
    write_manifest(tmp_path / "second", 10_000, 5_000)
    (tmp_path / "first").rename(tmp_path / "old")  # the lake is known by its address
    (tmp_path / "second").rename(tmp_path / "first")
    run_inventory(tmp_path / "first", root)
    images = DeltaTable(root / "images").to_pyarrow_table(columns=["image_id", "uri", "size_bytes"])
    assert len(images) == len(images["image_id"].unique()) == len(images["uri"].unique()) == N_ROWS
    ids = np.arange(10_000, 10_000 + N_ROWS)
    assert sum(images["size_bytes"].to_numpy()) == int((100_000 + ids % 7919).sum()) + 5_000
    counts = {row["step"]: dict(row["counts"]) for row in _completed(root)}
    assert counts["inventory"] == {"listed": N_ROWS, "new_or_changed": 15_000, "gone": 10_000}


def _completed(root: Path) -> list[dict[str, object]]:
    """End marks, the newest last."""
    marks = DeltaTable(root / "runs").to_pyarrow_table().to_pylist()
    return sorted((mark for mark in marks if mark["status"] == "complete"), key=lambda mark: mark["at"])
