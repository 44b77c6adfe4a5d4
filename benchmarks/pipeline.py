"""Claim: the whole job, six steps from listing to report, keeps most of the speed of a plain loop that only embeds.

All steps run through Spark on this machine. They are compared with a plain loop: as many processes as there are cores,
each of which decodes its share of the same files with Pillow and embeds it with the same model in the same batches. It
makes no hashes, tables or pairs and keeps nothing. A second loop, which also computes all facts that `features` keeps,
shows how much of the difference is that work and how much is Spark.

The lake is `--n` files made from photos by small crops (`harness.make_lake`), so that each photo that is used twice has
near-duplicates, and match and cluster have work to do. One session does three lakes: all `n` images (in a cold JVM, as
a command does), a tenth of them, and all again. The last two are warm; their difference gives the images per second at
the margin, without the seconds that a step costs whatever the lake. The loops run before and after Spark, and the
better time counts.

    python benchmarks/pipeline.py --quick
    python benchmarks/pipeline.py --n 2000 --photos /my/photos
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import numpy.typing as npt
from harness import (
    Table,
    describe_machine,
    files_below,
    make_lake,
    n_cores,
    photo_bytes,
    print_json,
    share_out,
    total_bytes,
)
from PIL import Image, ImageOps

from dedup_spark.config import Config, load_config
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
from dedup_spark.models.base import input_of
from dedup_spark.models.registry import load, resolve
from dedup_spark.pipeline import STEPS, run_step
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.session import get_session
from dedup_spark.store.runs import Run, new_run_id
from dedup_spark.store.tables import Tables

Pixels = npt.NDArray[np.uint8]
BATCH_IMAGES = 8  # as extract takes on CPUs
GUARDS_OFF = ("match.max_pairs_per_image=1000000", "cluster.max_cluster_share=1")  # a lake of copies, on purpose


def decode_only(data: bytes, config: Config) -> Pixels | None:
    """The decoding of a plain script: upright RGB, squashed to the model's input; None where the file is no image."""
    side_px = input_of(config.extract).input_px
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    return np.asarray(upright.resize((side_px, side_px), Image.Resampling.BICUBIC))


def all_facts(data: bytes, config: Config) -> Pixels | None:
    """The model's input after all that the step extract computes of an image, by the same functions."""
    e = config.extract
    content_hash(data)
    made = asdict(input_of(e))
    settings = SignatureSettings(e.max_pixels, e.min_side_px, e.thumbnail_px, e.thumbnail_quality, **made)
    try:
        return sign_image(data, settings).model_input
    except ImageRejected:
        return None


Seconds = dict[str, float]
ALL = [*(step.name for step in STEPS), "all"]
LABELS = {
    "all": "all six steps",
    "plain": "plain loop: decode, embed",
    "plain_facts": "plain loop: all facts of extract",
}
LOOPS: dict[str, Callable[[bytes, Config], Pixels | None]] = {"plain": decode_only, "plain_facts": all_facts}


def embed_share(paths: list[Path], loop: str, config: Config, barrier: Barrier) -> None:
    """One process of a plain loop: passes the barrier when its model is loaded and again when its share is done."""
    try:
        model, side = load(resolve(config.extract, on_gpu=False, threads=1)), input_of(config.extract).input_px
        model.embed(np.full((1, side, side, 3), 128, np.uint8))
        size = BATCH_IMAGES
        barrier.wait()
        for i in range(0, len(paths), size):
            inputs = [LOOPS[loop](path.read_bytes(), config) for path in paths[i : i + size]]
            ready = [pixels for pixels in inputs if pixels is not None]
            if ready:
                model.embed(np.stack(ready))
        barrier.wait()
    except BaseException:
        barrier.abort()  # else the others would wait for ever
        raise


def time_loop(lake: Path, loop: str, config: Config) -> Seconds:
    """The seconds of start-up and of work of one loop."""
    context = multiprocessing.get_context("spawn")  # as Spark's Python workers: nothing inherited
    barrier = context.Barrier(n_cores() + 1)
    shares = share_out(files_below(lake), n_cores())
    begin = time.monotonic()
    workers = [context.Process(target=embed_share, args=(share, loop, config, barrier)) for share in shares]
    for worker in workers:
        worker.start()
    barrier.wait()
    ready = time.monotonic()
    barrier.wait()
    done = time.monotonic()
    for worker in workers:
        worker.join()
    return {"start_seconds": ready - begin, "seconds": done - ready}


def time_steps(lake: Path, root: Path, config: Config) -> Seconds:
    """Seconds of `start` (the session, unless it is there, and empty tables) and of every step."""
    begin = time.monotonic()
    spark = get_session("benchmark")
    tables = Tables(spark, str(root))
    tables.create_missing()
    seconds = {"start": time.monotonic() - begin}
    run = Run(tables, config, open_source(str(lake), config.inventory).root, new_run_id())
    for step in STEPS:
        begin = time.monotonic()
        run_step(spark, config, run, step)
        seconds[step.name] = time.monotonic() - begin
    return seconds | {"all": sum(seconds[step.name] for step in STEPS)}


@dataclass(frozen=True)
class Measured:
    """Seconds by step, for all `n` images in a cold JVM, for all and a tenth in a warm one, and for each loop."""

    n: int
    n_tenth: int
    cold: Seconds
    tenth: Seconds
    warm: Seconds
    loops: dict[str, Seconds]

    def margin(self, step: str) -> float | None:
        """Images per second at the margin; None where a tenth of the images took as long."""
        more = self.warm[step] - self.tenth[step]
        return (self.n - self.n_tenth) / more if more > 0 else None

    def figures(self) -> dict[str, float | None]:
        """Images per second, by step and in all, with and without start-up, and their ratios to the plain loops."""
        n, whole = self.n, self.cold["start"] + self.cold["all"]
        found = {"start_seconds": self.cold["start"], "cold_all_img_per_s": n / self.cold["all"]}
        found |= {f"cold_{step}_seconds": self.cold[step] for step in ALL} | {"with_start_img_per_s": n / whole}
        rates: dict[str, float | None] = {}
        for step in ALL:
            rates |= {f"{step}_seconds": self.warm[step], f"{step}_tenth_seconds": self.tenth[step]}
            rates |= {f"{step}_img_per_s": n / self.warm[step], f"{step}_margin_img_per_s": self.margin(step)}
        for name, loop in self.loops.items():
            rates |= {f"{name}_{key}": seconds for key, seconds in loop.items()}
            rates[f"{name}_img_per_s"] = n / loop["seconds"]
            rates[f"{name}_with_start_img_per_s"] = n / sum(loop.values())
            rates[f"ratio_with_start_to_{name}"] = sum(loop.values()) / whole
            for step in ("all", "extract"):
                margin = self.margin(step)
                rates[f"ratio_{step}_to_{name}"] = loop["seconds"] / self.warm[step]
                rates[f"ratio_{step}_to_{name}_at_margin"] = margin and margin * loop["seconds"] / n
        return found | rates

    def show(self) -> None:
        """Prints the table for people."""
        n, plain = self.n, self.loops["plain"]
        table = Table(("", "seconds", "images/s", "to plain", f"{self.n_tenth:,} images", "images/s at the margin"))
        for step in ALL:
            ratio = plain["seconds"] / self.warm[step] if step in ("extract", "all") else ""
            margin = self.margin(step) or "-"
            table.add(
                LABELS.get(step, f"  {step}"), self.warm[step], n / self.warm[step], ratio, self.tenth[step], margin
            )
        cold, whole = self.cold["all"], self.cold["start"] + self.cold["all"]
        table.add("  in a cold JVM", cold, n / cold, plain["seconds"] / cold, "", "")
        table.add("  and with start-up", whole, n / whole, sum(plain.values()) / whole, "", "")
        for name, loop in self.loops.items():
            seconds, whole = loop["seconds"], sum(loop.values())
            table.add(LABELS[name], seconds, n / seconds, plain["seconds"] / seconds, "", "")
            table.add("  with start-up", whole, n / whole, sum(plain.values()) / whole, "", "")
        table.show()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2_000, help="images (default: 2,000)")
    parser.add_argument("--quick", action="store_true", help="100 images")
    parser.add_argument("--photos", type=Path, help="a folder of photos (default: the sample photos of the demo)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of dedup-spark")
    options = parser.parse_args()
    n = 100 if options.quick else options.n
    config = load_config(None, [*GUARDS_OFF, *options.set])
    if config.extract.embedding == "off":
        parser.error("without embeddings there is nothing to compare: leave extract.embedding on")
    photos = photo_bytes(options.photos)
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    try:
        lake = make_lake(scratch / "lake", n, photos)
        n_bytes = total_bytes(lake)
        small = make_lake(scratch / "small", max(1, n // 10), photos)
        before = {loop: time_loop(lake, loop, config) for loop in LOOPS}
        cold = time_steps(lake, scratch / "cold", config)
        tenth, warm = time_steps(small, scratch / "tenth", config), time_steps(lake, scratch / "warm", config)
        get_session("benchmark").stop()
        after = {loop: time_loop(lake, loop, config) for loop in LOOPS}
    finally:
        shutil.rmtree(scratch)
    loops = {loop: min(before[loop], after[loop], key=lambda found: found["seconds"]) for loop in LOOPS}
    print(f"{n:,} images of {n_bytes / n / 1024:,.0f} KiB, model {config.extract.embedding}, {describe_machine()}\n")
    measured = Measured(n, max(1, n // 10), cold, tenth, warm, loops)
    measured.show()
    setting = {"n": n, "mean_bytes": n_bytes / n, "n_processes": n_cores(), "machine": describe_machine()}
    print_json(setting | measured.figures())


if __name__ == "__main__":
    main()
