"""The script of docs/faiss.md, run by a Python that knows FAISS, NumPy and Delta, and nothing of this package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from fabricated import exact_cosines, families, random_ids, to_bytes

from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.vectors import nearest_cells, train_centroids
from dedup_spark.store import shards

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faiss.md"
SIZES = (70, 50)


def script() -> str:
    (code,) = re.findall(r"<!-- stranger -->\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], np.ndarray]:
    """Tables as the steps write them, with two shards of one index; ids, vectors."""
    root, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(6)
    vectors = families([4] * 30, 0.7, rng)[rng.permutation(120)]
    ids, halves = random_ids(120, rng), vectors.astype(np.float16)
    embeddings = pa.array([bytes(to_bytes(v)) for v in vectors], pa.binary())
    write_deltalake(str(root / "features"), pa.table({"image_id": pa.array(ids, pa.int64()), "embedding": embeddings}))
    centroids, rows, start = train_centroids(halves.astype(np.float32), 8, 1), [], 0
    listed = shards.write_centroids(str(root), "shard_files/r1", centroids), centroids
    for n, size in enumerate(SIZES):
        part = slice(start, start + size)
        cells = nearest_cells(halves[part].astype(np.float32), centroids)
        order, path = np.argsort(cells, kind="stable"), f"shard_files/r1/shard-{n:05d}.faiss"
        block = Block(np.array(ids[part])[order], halves[part][order], cells[order])
        shards.write_shard(str(root), path, block, listed, seed=1)
        rows.append({"shard": n, "path": path})
        start += size
    write_deltalake(str(root / "shards"), pa.Table.from_pylist(rows))
    return root, ids, vectors


def test_a_stranger_s_script_has_ten_lines_and_knows_nothing_of_this_package() -> None:
    assert len(script().splitlines()) <= 12
    assert set(re.findall(r"^(?:import|from) (\w+)", script(), re.MULTILINE)) == {"sys", "faiss", "numpy", "deltalake"}


def test_plain_faiss_finds_the_nearest_images_of_every_shard(
    lake: tuple[Path, list[int], np.ndarray], tmp_path: Path
) -> None:
    root, ids, vectors = lake
    asked = min(range(120), key=lambda i: ids[i])  # a negative id
    done = subprocess.run(
        [sys.executable, "-I", "-c", script(), str(root), str(ids[asked])],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cosines, start = exact_cosines(vectors)[asked], 0
    lines = done.stdout.splitlines()
    assert len(lines) == len(SIZES)
    for line, size in zip(lines, SIZES, strict=True):
        nearest = start + np.argsort(-cosines[start : start + size])[:3]
        found = dict(pair.split(":") for pair in line.split())
        assert [int(i) for i in found] == [ids[i] for i in nearest]
        assert [float(c) for c in found.values()] == pytest.approx(cosines[nearest].tolist(), abs=2e-3)
        start += size
