"""dedup_spark: duplicate and near-duplicate images in a data lake, as tables that SQL can query."""

__version__ = "0.1.0"
