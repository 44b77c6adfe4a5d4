"""Claim: a look-up answers in milliseconds, and up to some millions of vectors a scan of sketches beats an index.

Two parts, each with all sides in one run on one core. No Spark and no Java.

    python benchmarks/lookup.py --quick
    python benchmarks/lookup.py vectors --n 100000 1000000      # a scan beside FAISS's Flat, HNSW and IVF
    python benchmarks/lookup.py bytes --n 100000                # whole look-ups of photos, over tables of so many rows

`vectors`: the vectors are those of `vectors.py`; a query is a noisy copy of one of them. HNSW and IVF get the smallest
effort (efSearch, nprobe) of a few that finds as much as the scan; where none does, the largest. Bytes are those in
memory; the scan keeps float16 vectors in a file beside that, which `exact` reads 1 KB a candidate from.
`bytes`: photos of 500 px that the tables do not hold. What is mapped is warm: each figure is after a first round.
`processor_ms` counts what a look-up takes of all cores, the decoder processes included; on a machine with other work it
says more than the rates beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from harness import Table, describe_machine, photo_bytes, print_json, scaled
from vectors import lake_vectors

from dedup_spark.config import Config, ExtractSettings
from dedup_spark.kernels.arrays import Float32, Int64
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.sketch import sketch_block
from dedup_spark.kernels.joins.sketches import SketchFilter, choose_filter, negatives_of
from dedup_spark.kernels.vectors import cosines, to_float32
from dedup_spark.lookup.lookup import Lookup, Options
from dedup_spark.lookup.reading import Reading
from dedup_spark.lookup.scanning import SketchScan
from dedup_spark.models import registry
from dedup_spark.store.schema import ALL, COLUMNS, RUNS, TABLE_VERSIONS
from dedup_spark.store.table_format import FORMAT, Format, write_format

SEED, MOST = 7, 200
EFFORTS = (16, 32, 64, 128, 256, 512, 1024)
CHUNK = 50_000
LARGEST_FOR_HNSW = 200_000
THRESHOLDS = {0.7: [(0.7, 0.999)], 0.45: [(0.45, 0.999), (0.3, 0.8)]}
"""A radius alone; and what match asks for by default: down to match.min_similarity, and neighbours below it."""

Near = Callable[[Float32], Int64]


def milliseconds(do: Callable[[Any], Any], queries: list[Any]) -> tuple[float, float]:
    """p50 and p99, after a first round."""
    for query in queries[:10]:
        do(query)
    took = []
    for query in queries:
        begin = time.perf_counter()
        do(query)
        took.append(1e3 * (time.perf_counter() - begin))
    return float(np.percentile(took, 50)), float(np.percentile(took, 99))


def recall(near: Near, queries: Float32, truth: list[set[int]]) -> float:
    found = sum(len(wanted & set(near(query).tolist())) for query, wanted in zip(queries, truth, strict=True))
    return found / max(1, sum(map(len, truth)))


class Scan:
    """Sketches, and the exact cosines of what they propose."""

    def __init__(self, x: Any, sketch_filter: SketchFilter, lowest: float) -> None:
        made = sketch_block(Block(np.arange(len(x)), x, np.zeros(len(x), np.int32)), sketch_filter, SEED)
        self.scan, self.x, self.lowest = SketchScan(made.first, made.rest, sketch_filter, SEED), x, lowest
        self.bytes_per_vector = (made.first.nbytes + made.rest.nbytes) / len(x) + 4 + 8  # and a row and a pHash

    def near(self, query: Float32) -> Int64:
        rows = self.scan.near(query, self.lowest)
        theirs = self.x[rows]
        kept: Int64 = rows[cosines(np.broadcast_to(query, theirs.shape), theirs) >= self.lowest]
        return kept


def of_index(index: Any, lowest: float) -> Near:
    """FAISS by the `MOST` nearest, as HNSW has no search by a radius that is worth the name."""

    def near(query: Float32) -> Int64:
        scores, rows = index.search(query[None], MOST)
        kept: Int64 = rows[0][scores[0] >= lowest]
        return kept

    return near


def with_effort(near: Near, set_effort: Callable[[int], None], queries: Float32, truth: Any, wanted: float) -> int:
    """The smallest effort that finds as much as `wanted`."""
    for effort in EFFORTS:
        set_effort(effort)
        if recall(near, queries, truth) >= wanted:
            break
    return effort


def compare_with_faiss(n: int, n_queries: int) -> dict[str, Any]:
    faiss.omp_set_num_threads(1)
    x = lake_vectors(n, SEED, largest=max(2, min(100, n // 200)))
    rng = np.random.default_rng(SEED)
    noise = 0.02 * rng.standard_normal((n_queries, 512))
    queries = to_float32(x[rng.choice(n, n_queries, replace=False)]) + noise.astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    units = np.concatenate([to_float32(x[s : s + CHUNK]) for s in range(0, n, CHUNK)])
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    figures: dict[str, Any] = {"n": n}
    indexes = dict(_indexes(units))
    table = Table((f"{n:,} vectors", "cosine", "recall", "p50 ms", "p99 ms", "bytes a vector", "effort"))
    for lowest, demands in THRESHOLDS.items():
        truth = [set(of_index(indexes["Flat"], lowest)(query).tolist()) for query in queries]
        scan = Scan(x, choose_filter(demands, negatives_of(x[rng.choice(n, min(n, 1000), replace=False)])), lowest)
        found = recall(scan.near, queries, truth)
        times = milliseconds(scan.near, [*queries])
        bits = scan.scan.sketch_filter.n_bits
        table.add("scan", lowest, found, *times, scan.bytes_per_vector, f"{bits} bits")
        figures[f"scan_p99_ms_{lowest}"], figures[f"scan_recall_{lowest}"] = times[1], found
        for name, index in indexes.items():
            near = of_index(index, lowest)
            effort = with_effort(near, _effort_of(index), queries, truth, found) if name != "Flat" else 0
            took = milliseconds(near, [*queries])
            table.add(name, lowest, recall(near, queries, truth), *took, _bytes_of(name), effort or "")
            figures[f"{name.lower()}_p99_ms_{lowest}"] = took[1]
    table.show()
    return figures


def _indexes(units: Float32) -> Iterator[tuple[str, Any]]:
    flat = faiss.IndexFlatIP(512)
    flat.add(units)
    yield "Flat", flat
    n = len(units)
    cells = max(4, round(n**0.5))
    quantiser = faiss.IndexFlatIP(512)
    ivf = faiss.IndexIVFScalarQuantizer(
        quantiser, 512, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    ivf.cp.niter = 5
    ivf.train(units[:: max(1, n // (40 * cells))])
    ivf.add(units)
    quantiser.this.disown()
    ivf.own_fields = True
    yield "IVF", ivf
    if n <= LARGEST_FOR_HNSW:  # an hour for a million on a core
        hnsw = faiss.IndexHNSWFlat(512, 32, faiss.METRIC_INNER_PRODUCT)
        hnsw.hnsw.efConstruction = 80
        hnsw.add(units)
        yield "HNSW", hnsw


def _effort_of(index: Any) -> Callable[[int], None]:
    def set_effort(effort: int) -> None:
        if hasattr(index, "hnsw"):
            index.hnsw.efSearch = effort
        else:
            index.nprobe = effort

    return set_effort


def _bytes_of(name: str) -> float:
    return {"Flat": 2048.0, "IVF": 1024.0 + 8, "HNSW": 2048.0 + 4 * 2 * 32}[name]


# --- whole look-ups -----------------------------------------------------------------------------------------


def write_tables(root: Path, n: int, model_id: str, run_id: str = "r1") -> None:
    """What a run over `n` images leaves, as far as a look-up reads it: made-up hashes, vectors as in `vectors.py`."""
    x = lake_vectors(n, SEED, largest=max(2, min(100, n // 200)))
    rng = np.random.default_rng(SEED)
    chosen = choose_filter(THRESHOLDS[0.45], negatives_of(x[rng.choice(n, min(n, 1000), replace=False)]))
    thumbnail = scaled(photo_bytes(None)[0], 64)
    for start in range(0, n, CHUNK):
        ids = range(start, min(n, start + CHUNK))
        digests = [rng.bytes(32).hex() for _ in ids]
        _append(root, "images", {"image_id": ids, "uri": [f"s3://bucket/photos/{i // 1000:04d}/{i}.jpg" for i in ids]})
        _append(root, "densities", {"image_id": ids, "similarities": [[]] * len(ids)})
        _append(root, "features", {
            "image_id": ids, "status": ["ok"] * len(ids), "content_hash": digests, "pixel_hash": digests,
            "phash": rng.integers(-(2**63), 2**63 - 1, len(ids)), "width_px": [500] * len(ids),
            "height_px": [375] * len(ids), "n_frames": [1] * len(ids), "thumbnail": [thumbnail] * len(ids),
            "model_id": [model_id] * len(ids), "embedding": [row.tobytes() for row in x[start : start + CHUNK]],
        })  # fmt: skip
    for table in ALL:
        if not (root / table.name).exists():
            write_deltalake(str(root / table.name), pa.Table.from_pylist([], table.schema.arrow))
    write_format(str(root), None, Format(FORMAT, COLUMNS))
    finish(root, run_id, chosen)


def finish(root: Path, run_id: str, chosen: SketchFilter) -> None:
    """The marks of a run over the tables as they are."""
    versions = {t.name: DeltaTable(str(root / t.name)).version() for t in ALL if t is not RUNS}
    notes = {"match": {"engine": "sketch", "floor": 0.3, "sketch": asdict(chosen)},
             "cluster": {TABLE_VERSIONS: versions}}  # fmt: skip
    marks = [{
        "run_id": run_id, "step": step, "status": "complete", "at": datetime.now(UTC), "lake": "s3://bucket/photos",
        "notes": json.dumps(notes.get(step, {})), "config": Config().to_json(),
    } for step in ("inventory", "extract", "match", "cluster")]  # fmt: skip
    write_deltalake(str(root / "runs"), pa.Table.from_pylist(marks, RUNS.schema.arrow), mode="append")


def _append(root: Path, name: str, columns: dict[str, Any]) -> None:
    schema = next(table for table in ALL if table.name == name).schema.arrow
    n = len(columns["image_id"])
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in schema]
    write_deltalake(str(root / name), pa.Table.from_arrays(arrays, schema=schema), mode="append")


def uploads(n: int) -> list[bytes]:
    """Photos of 500 px, each with bytes and pixels of its own."""
    photos = [scaled(photo, 500 - k) for k in range(-(-n // 10)) for photo in photo_bytes(None)[:10]]
    return photos[:n]


def look_up_bytes(n: int, n_queries: int) -> dict[str, Any]:
    faiss.omp_set_num_threads(1)
    extract = ExtractSettings()
    reading = Reading(extract, registry.resolve(extract, on_gpu=False, threads=1))
    assert reading.model is not None
    table = Table((f"{n:,} images", "p50 ms", "p99 ms"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tables")
        write_tables(root, n, reading.model.model_id)
        gc.collect()
        options = Options(f"{folder}/cache", f"{folder}/state", n_decoders=2, reload_seconds=0)
        seconds = {}
        for which in ("first_open", "open"):
            begin = time.perf_counter()
            opened = Lookup.open(root, options)
            seconds[which] = time.perf_counter() - begin
            if which == "first_open":
                opened.close()
        figures = {"n": n, **{f"{name}_seconds": value for name, value in seconds.items()}}
        with opened:
            opened.warm()
            images = uploads(n_queries)
            figures |= _by_kind(opened, images, table)
            figures |= _by_clients(opened, images, reading)
            begin = time.perf_counter()
            opened.add(images[0], "s3://bucket/photos/new.jpg")
            assert opened.lookup(images[0]).copies
            figures["add_seen_seconds"] = time.perf_counter() - begin
            finish(root, "r2", opened._state.run.sketch_filter or choose_filter(THRESHOLDS[0.45]))
            begin = time.perf_counter()
            assert opened.reload()
            figures["swap_seconds"] = time.perf_counter() - begin
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.show()
    return figures


def _by_kind(opened: Lookup, images: list[bytes], table: Table) -> dict[str, float]:
    library = opened._state.searcher.library
    rows = np.random.default_rng(SEED).choice(len(library.snapshot), min(200, len(library.snapshot)), replace=False)
    vectors = [*library.snapshot.vectors(np.sort(rows))]
    opened._never.add("phash", "0" * 16, "as a real list")
    kinds: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        "from a vector": (lambda v: library.compare(0, v, set(), exactly=False), vectors),
        "from bytes, no copy": (opened.lookup, images),
    }
    known = opened.lookup(images[0])
    kinds["by bytes"] = (lambda _: library.rows_with("content_hash", known.content_hash), [None] * 200)
    figures = {}
    for name, (do, queries) in kinds.items():
        p50, p99 = milliseconds(do, queries)
        table.add(name, p50, p99)
        figures |= {f"{name}: p50_ms": p50, f"{name}: p99_ms": p99}
    return figures


def _processor_ms() -> float:
    """Of this process and of its decoder processes, which live on (Linux)."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += int(fields[11]) + int(fields[12])
    return 1e3 * (time.process_time() + ticks / os.sysconf("SC_CLK_TCK"))


def _by_clients(opened: Lookup, images: list[bytes], reading: Reading) -> dict[str, float]:
    """Images a second, over those of the model alone in batches of 8 on as many cores."""
    assert reading.model is not None
    model = registry.load(reading.model)
    inputs = np.zeros((8, reading.model.input_px, reading.model.input_px, 3), np.uint8)
    begin = time.perf_counter()
    for _ in range(6):
        model.embed(inputs)
    alone = 48 / (time.perf_counter() - begin)
    figures = {"model_images_per_second": alone}
    for n_clients in (1, 16, 50):
        turn, lock = itertools.cycle(images), threading.Lock()

        def ask(_: int, turn: Any = turn, lock: Any = lock) -> None:
            with lock:
                data = next(turn)
            opened.lookup(data)

        n_asked = max(100, 4 * n_clients)
        begin, before = time.perf_counter(), _processor_ms()
        with ThreadPoolExecutor(n_clients) as pool:
            list(pool.map(ask, range(n_asked)))
        rate = n_asked / (time.perf_counter() - begin)
        figures |= {f"per_second_{n_clients}_clients": rate, f"of_model_{n_clients}_clients": rate / alone}
        figures[f"processor_ms_{n_clients}_clients"] = (_processor_ms() - before) / n_asked
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("vectors", "bytes"), help="default: both")
    parser.add_argument("--n", type=int, nargs="+", default=[100_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="5,000 vectors, 20 queries")
    asked = parser.parse_args()
    sizes, n_queries = ([5_000], 20) if asked.quick else (asked.n, asked.queries)
    print(describe_machine())
    figures: dict[str, Any] = {}
    for n in sizes:
        if asked.part != "bytes":
            figures[f"vectors {n}"] = compare_with_faiss(n, n_queries)
        if asked.part != "vectors":
            figures[f"bytes {n}"] = look_up_bytes(n, n_queries)
    print_json(figures)


if __name__ == "__main__":
    main()
