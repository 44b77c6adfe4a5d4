"""dedup_spark: duplicate and near-duplicate images in a data lake, as tables that SQL can query."""

from dedup_spark.spark.python_workers import read_zips_once

__version__ = "0.2.0"

read_zips_once()
