"""Claim: extract is not much slower where Spark reads the bytes than where Python does.

The step extract reads the same local photos with `extract.bytes_from=fsspec` and `=spark`, in turn, each time into new
tables; the listing is that of Spark's binaryFile for both. On a local disk a file costs no round trip, so this is the
cost of the way through the JVM and Arrow alone; in a store Spark also makes two or three requests of metadata per file
where Python makes none. Hashes only by default: a model takes the same time in both ways, and hides the difference.

    python benchmarks/bytes_from.py --n 4000 --photos /my/photos
    python benchmarks/bytes_from.py --quick

Peak memory is that of a Python worker and its decoder process, in one more run of each way on a session of its own.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from extract import WARM_UP_IMAGES, Cost, peak_worker_bytes, spark_cost, stamped_photos
from harness import Table, describe_machine, photo_bytes, print_json

from dedup_spark.config import Config, load_config
from dedup_spark.spark.session import get_session

WAYS = ("fsspec", "spark")
PLAIN = ["inventory.source=binary_file", "extract.embedding=off"]


def measure(scratch: Path, rounds: int, overrides: list[str]) -> dict[str, list[Cost]]:
    """The cost of extract in each way and round; the way that begins changes from round to round."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for turn in range(-1, rounds):  # the first one warms up
        lake = scratch / ("warm" if turn < 0 else "large")
        for way in WAYS if turn % 2 else WAYS[::-1]:
            cost = spark_cost(lake, scratch / f"tables-{turn}-{way}", config_of(way, overrides))
            costs[way] += [cost] if turn >= 0 else []
    return costs


def peak_bytes(scratch: Path, way: str, overrides: list[str]) -> int:
    """Of a Python worker and its decoder, on a session of their own."""
    get_session("benchmark").stop()
    spark_cost(scratch / "large", scratch / f"tables-memory-{way}", config_of(way, overrides))
    return peak_worker_bytes()


def config_of(way: str, overrides: list[str]) -> Config:
    return load_config(None, [*PLAIN, *overrides, f"extract.bytes_from={way}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4000, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="200 images, one round")
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the sample photos of the demo)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of dedup-spark")
    options = parser.parse_args()
    n, rounds = (200, 1) if options.quick else (options.n, options.rounds)
    photos = photo_bytes(options.photos)
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    try:
        for name, size in (("warm", WARM_UP_IMAGES), ("large", n)):
            stamped_photos(scratch / name, size, photos)
        costs = measure(scratch, rounds, options.set)
        peaks = {way: peak_bytes(scratch, way, options.set) for way in WAYS}
    finally:
        shutil.rmtree(scratch)
    table = Table(("extract.bytes_from", "images", "images/s", "processor ms per image", "worker memory, MB"))
    figures: dict[str, object] = {
        "n": n, "rounds": rounds, "machine": describe_machine(), "settings": options.set,
        "mean_bytes": sum(map(len, photos)) / len(photos),
    }  # fmt: skip
    for way, all_costs in costs.items():
        seconds = statistics.median(cost.seconds for cost in all_costs)
        cpu_ms = statistics.median(cost.cpu_seconds for cost in all_costs) * 1e3 / n
        table.add(way, n, n / seconds, cpu_ms, peaks[way] / 1e6)
        figures |= {f"img_per_s_{way}": n / seconds, f"cpu_ms_{way}": cpu_ms, f"peak_rss_{way}_bytes": peaks[way]}
    seconds_of = {way: statistics.median(cost.seconds for cost in costs[way]) for way in WAYS}
    figures["ratio"] = seconds_of["fsspec"] / seconds_of["spark"]
    table.show()
    print_json(figures)


if __name__ == "__main__":
    main()
