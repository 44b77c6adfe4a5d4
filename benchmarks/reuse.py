"""Claim: copies cost no forward pass of the model, and no row is changed by that.

Lakes with a share of byte copies are extracted twice on one Spark session, with `extract.reuse_embedding` off and
pixels; which is first alternates. Shown are the forward passes that `runs` counted, the seconds of the step, and how
many rows of `features` differ between the two in any column but the id of the run.

    python benchmarks/reuse.py --n 2000 --photos /my/photos
    python benchmarks/reuse.py --n 600 --photos /my/photos --shares 0.6

With `--near` it measures what `near` does to vectors instead, on labelled corpora and without Spark: the passes that it
saves, the cosine between each vector that was taken over and the one that the model would have made, and recall and
precision of pairs by cosine with the vectors of both. All images are in one task, in random order.

    python benchmarks/reuse.py --near --photos /my/photos --max-photos 60
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from corpora import CORPORA
from harness import Table, describe_machine, photo_bytes, print_json
from PIL import Image

from dedup_spark.config import load_config
from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
from dedup_spark.kernels.vectors import from_bytes
from dedup_spark.models import registry
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.session import get_session
from dedup_spark.stages.reading.embedding import with_embeddings
from dedup_spark.stages.reading.reuse import planner_of
from dedup_spark.store.runs import Run, new_run_id
from dedup_spark.store.schema import FEATURES, RUNS
from dedup_spark.store.tables import Tables

SEED = 20_246
WARM_UP_IMAGES = 32
PRECISION = 0.99
COUNTED = ("forward_passes", "model_seconds")


# --- lakes with byte copies ------------------------------------------------------------------------------------


def make_copied_lake(folder: Path, n: int, share: float, photos: list[bytes]) -> int:
    """Writes `n` files, of which about `share` are byte copies of others; returns the number of distinct ones."""
    rng = random.Random(SEED)
    n_distinct = n - round(share * n)
    names = rng.sample(range(n), n)
    for place, name in enumerate(names):
        i = place if place < n_distinct else rng.randrange(n_distinct)
        path = folder / f"{name // 1000:04d}" / f"{name:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_distinct(photos, i))
    return n_distinct


def _distinct(photos: list[bytes], i: int) -> bytes:
    """Photo i; from the second turn on a crop of it, encoded again: other bytes and pixels, as cheap to decode."""
    turn, k = divmod(i, len(photos))
    if not turn:
        return photos[k]
    top, left = divmod(turn, 17)
    out = io.BytesIO()
    with Image.open(io.BytesIO(photos[k])) as image:
        image.convert("RGB").crop((left, top, image.width, image.height)).save(out, "JPEG", quality=90)
    return out.getvalue()


def extracted(lake: Path, tables_root: Path, reuse: str, settings: list[str]) -> tuple[Tables, dict[str, Any], float]:
    """The tables, the counts in `runs` and the seconds of the step extract."""
    spark = get_session("benchmark")
    config = load_config(None, [*settings, f"extract.reuse_embedding={reuse}"])
    tables = Tables(spark, str(tables_root))
    tables.create_missing()
    run = Run(tables, config, open_source(str(lake), config.inventory).root, new_run_id())
    run_step(spark, config, run, find_step("inventory"))
    begin = time.monotonic()
    run_step(spark, config, run, find_step("extract"))
    seconds = time.monotonic() - begin
    mark = tables.read(RUNS).where("step = 'extract' AND status = 'complete'").first()
    assert mark is not None
    return tables, mark["counts"], seconds


def n_different(a: Tables, b: Tables) -> int:
    """Rows of features of either that the other lacks, whichever run wrote them."""
    one, other = (tables.read(FEATURES).drop("run_id") for tables in (a, b))
    return one.exceptAll(other).count() + other.exceptAll(one).count()


def measure_lakes(options: argparse.Namespace, photos: list[bytes], scratch: Path) -> dict[str, Any]:
    table = Table(
        (
            "byte copies",
            "distinct",
            "passes off",
            "passes",
            "model s off",
            "model s",
            "step s off",
            "step s",
            "rows unlike",
        )
    )
    figures: dict[str, Any] = {}
    make_copied_lake(scratch / "warm", WARM_UP_IMAGES, 0, [photo + b"warm" for photo in photos])
    for k, share in enumerate(options.shares):
        name = f"{share:.0%}"
        n_distinct = make_copied_lake(scratch / name, options.n, share, photos)
        extracted(scratch / "warm", scratch / f"warm-{k}", "off", options.set)
        order = ("off", "pixels") if k % 2 else ("pixels", "off")
        done = {reuse: extracted(scratch / name, scratch / f"{name}-{reuse}", reuse, options.set) for reuse in order}
        (off, off_counts, off_seconds), (pixels, counts, seconds) = done["off"], done["pixels"]
        both = {f"{key}{suffix}": c[key] for key in COUNTED for suffix, c in (("_off", off_counts), ("", counts))}
        both |= {"seconds_off": off_seconds, "seconds": seconds}
        unlike = n_different(off, pixels)
        table.add(name, n_distinct, *both.values(), unlike)
        figures |= {f"{key}_{name}": value for key, value in (both | {"rows_unlike": unlike}).items()}
        get_session("benchmark").stop()  # the next lake shall find no vectors in the workers
    table.show()
    return figures


# --- near copies -----------------------------------------------------------------------------------------------


def embedded_rows(files: list[tuple[str, bytes]], reuse: str, settings: list[str]) -> list[dict[str, Any]]:
    """Rows with `name`, `embedding` and `forward_passes`, as a task makes them."""
    e = load_config(None, settings).extract
    model = registry.resolve(e, on_gpu=False, threads=1)
    signing = SignatureSettings(e.max_pixels, e.min_side_px, e.thumbnail_px, e.thumbnail_quality, e.input_px)
    planner = planner_of(reuse, model)

    def rows() -> Iterator[dict[str, Any]]:
        for name, data in files:
            signature = sign_image(data, signing)
            assert signature.model_input is not None
            yield {"name": name, "model_input": planner.input_of(signature.model_input, signature.phash)}

    return [row for group in with_embeddings(rows(), 8, lambda: registry.load(model), planner) for row in group]


def pair_figures(cosines: npt.NDArray[np.float32], same: npt.NDArray[np.bool_], cut: float) -> dict[str, float]:
    """Precision and recall of pairs at `cut`, and the recall at precision PRECISION."""
    found = cosines >= cut
    order = np.argsort(-cosines, kind="stable")
    true = np.cumsum(same[order])
    precise = np.flatnonzero(true >= PRECISION * np.arange(1, len(true) + 1))
    best = true[precise[-1]] if len(precise) else 0
    return {
        "precision": float(same[found].mean()) if found.any() else 1.0,
        "recall": float(found[same].mean()),
        "recall_at_99": float(best / same.sum()),
    }


def measure_near(options: argparse.Namespace, photos: list[bytes]) -> dict[str, Any]:
    table = Table(("corpus", "vectors", "images", "passes", "precision", "recall", "recall at 0.99", "least cosine"))
    figures: dict[str, Any] = {}
    cut = load_config(None, options.set).match.min_similarity
    for corpus in options.corpora:
        files = list(CORPORA[corpus](photos))
        random.Random(SEED).shuffle(files)
        groups = np.array([int(name.split("__")[0]) for name, _ in files])
        upper = np.triu_indices(len(files), 1)
        same = groups[upper[0]] == groups[upper[1]]
        own = None
        for reuse in ("pixels", "near"):
            rows = embedded_rows(files, reuse, options.set)
            vectors = from_bytes([row["embedding"] for row in rows]).astype(np.float32)
            own = vectors if own is None else own
            passes = sum(row.get("forward_passes", 0) for row in rows)
            kept = (own * vectors).sum(1)
            measured = pair_figures((vectors @ vectors.T)[upper], same, cut)
            table.add(corpus, reuse, len(files), passes, *measured.values(), float(kept.min()))
            figures |= {f"{name}_{corpus}_{reuse}": value for name, value in measured.items()}
            figures |= {f"passes_{corpus}_{reuse}": passes, f"least_cosine_{corpus}_{reuse}": float(kept.min())}
    table.show()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2_000, help="images of each lake")
    parser.add_argument("--quick", action="store_true", help="100 images")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.3, 0.6], help="shares of byte copies")
    parser.add_argument("--near", action="store_true", help="measure extract.reuse_embedding=near instead")
    parser.add_argument("--corpora", nargs="+", default=["ukbench", "mixed"], choices=tuple(CORPORA))
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the sample photos of the demo)")
    parser.add_argument("--max-photos", type=int, default=100_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of dedup-spark")
    options = parser.parse_args()
    options.n = 100 if options.quick else options.n
    photos = photo_bytes(options.photos)[: options.max_photos]
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    try:
        figures = measure_near(options, photos) if options.near else measure_lakes(options, photos, scratch)
    finally:
        shutil.rmtree(scratch)
    print_json(
        {"n": options.n, "n_photos": len(photos), "machine": describe_machine(), "settings": options.set, **figures}
    )


if __name__ == "__main__":
    main()
