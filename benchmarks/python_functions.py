"""Claim: on image bytes `mapInArrow` costs no more than `pandas_udf` or `mapInPandas`, and makes several values of one.

Files of Spark's binaryFile source go to Python, and hashes come back, by four ways that run the same function on each
image: `mapInArrow`, `mapInPandas`, `pandas_udf` over a column, and `pandas_udf` over an iterator of columns. There are
two functions. `sha256` reads every byte once, so it shows what the way to Python costs. `phash` decodes in the decoder
processes that the steps use, so it shows what is left of that cost beside real work. A last row asks for two hashes in
one query by two calls of a `pandas_udf`, as people do in SQL, beside one `mapInArrow` that makes both of one decoding.

    python benchmarks/python_functions.py --photos /my/photos
    python benchmarks/python_functions.py --quick

Each round runs all ways one after another, beginning with another one; the table shows the median of the rounds, and
the ratio to mapInArrow in the same rounds.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
from extract import stamped_photos
from harness import Table, describe_machine, photo_bytes, print_json
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf

from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.spark.session import get_session
from dedup_spark.stages.reading import contents

ROWS_PER_BATCH = 64
Way = Callable[[DataFrame, str], DataFrame]


def values(content: Iterable[bytes], kernel: str) -> list[str]:
    """What every way makes of the bytes of some images."""
    if kernel == "sha256":
        return [content_hash(data) for data in content]
    return [str(sorted(row.items())) for row in contents.parts_of(content, tuple(kernel.split("+")), ExtractSettings())]


def by_map_in_arrow(files: DataFrame, kernel: str) -> DataFrame:
    def of_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            images = (image.as_py() for image in batch.column(0))  # one at a time
            yield pa.RecordBatch.from_pydict({"value": values(images, kernel)})

    return files.mapInArrow(of_batches, "value string")


def by_map_in_pandas(files: DataFrame, kernel: str) -> DataFrame:
    def of_frames(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            yield pd.DataFrame({"value": values(frame["content"], kernel)})

    return files.mapInPandas(of_frames, "value string")


def by_pandas_udf(files: DataFrame, kernel: str) -> DataFrame:
    def of_column(content: pd.Series) -> pd.Series:
        return pd.Series(values(content, kernel))

    return files.select(pandas_udf(of_column, "string")("content").alias("value"))


def by_iterator_udf(files: DataFrame, kernel: str) -> DataFrame:
    def of_columns(columns: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for content in columns:
            yield pd.Series(values(content, kernel))

    return files.select(pandas_udf(of_columns, "string")("content").alias("value"))


def by_two_calls(files: DataFrame, kernel: str) -> DataFrame:
    first, second = (by_one_of(part) for part in kernel.split("+"))
    return files.select(first("content"), second("content"))


def by_one_of(part: str) -> Callable[[str], object]:
    def of_column(content: pd.Series) -> pd.Series:
        return pd.Series(values(content, part))

    return pandas_udf(of_column, "string")


WAYS: dict[str, Way] = {
    "mapInArrow": by_map_in_arrow, "mapInPandas": by_map_in_pandas, "pandas_udf": by_pandas_udf,
    "pandas_udf, iterator": by_iterator_udf,
}  # fmt: skip
TWO_VALUES: dict[str, Way] = {"mapInArrow": by_map_in_arrow, "pandas_udf, two calls": by_two_calls}
KERNELS = {"sha256": WAYS, "phash": WAYS, "phash+thumbnail": TWO_VALUES}


def seconds(way: Way, files: DataFrame, kernel: str) -> float:
    begin = time.monotonic()
    way(files, kernel).write.format("noop").mode("overwrite").save()
    return time.monotonic() - begin


def require_equal_answers(files: DataFrame, kernel: str) -> None:
    """The ways that give one column give the same values."""
    answers = {name: sorted(r[0] for r in way(files, kernel).collect()) for name, way in KERNELS[kernel].items()}
    single = [answer for name, answer in answers.items() if "two" not in name]
    assert all(answer == single[0] for answer in single)


def measure(files: DataFrame, kernel: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; the way that begins changes from round to round."""
    ways = list(KERNELS[kernel].items())
    found: dict[str, list[float]] = {name: [] for name, _ in ways}
    for turn in range(rounds):
        first = turn % len(ways)
        for name, way in ways[first:] + ways[:first]:
            found[name].append(seconds(way, files, kernel))
    return found


def session() -> SparkSession:
    spark = get_session("benchmark")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(ROWS_PER_BATCH))
    return spark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="100 images, two rounds")
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the sample photos of the demo)")
    options = parser.parse_args()
    n, rounds = (100, 2) if options.quick else (options.n, options.rounds)
    photos = photo_bytes(options.photos)
    table = Table(("function", "way", "images", "images/s", "ratio of time to mapInArrow"))
    figures: dict[str, object] = {
        "n": n, "rounds": rounds, "machine": describe_machine(), "mean_bytes": sum(map(len, photos)) / len(photos),
    }  # fmt: skip
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    try:
        stamped_photos(scratch / "lake", n, photos)
        files = session().read.load(str(scratch / "lake"), format="binaryFile", recursiveFileLookup=True)
        content = files.select(F.col("content"))
        for kernel in KERNELS:
            require_equal_answers(content.limit(20), kernel)  # and the workers are warm
            taken = {name: statistics.median(took) for name, took in measure(content, kernel, rounds).items()}
            for name, median in taken.items():
                table.add(kernel, name, n, n / median, median / taken["mapInArrow"])
                figures[f"{kernel} {name}"] = n / median
    finally:
        shutil.rmtree(scratch)
    table.show()
    print_json(figures)


if __name__ == "__main__":
    main()
