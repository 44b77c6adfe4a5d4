"""The totals of a join: what its items found, counted from rows of JOINED or while they are written."""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

Totals = dict[str, Any]
"""By name: n_items, n_pairs, n_near, n_candidates, read_bytes (of shard files), is_cut_off, and of faiss_ivf
n_full_queries, n_gave_up_gpu and gave_up_gpu, one of the reasons."""

NOTHING: Totals = {
    "n_items": 0, "n_pairs": 0, "n_near": 0, "n_candidates": 0, "read_bytes": 0, "is_cut_off": False,
    "n_full_queries": 0, "n_gave_up_gpu": 0, "gave_up_gpu": None,
}  # fmt: skip


def aggregates(min_similarity: float) -> dict[str, Column]:
    """Totals as aggregates over rows of JOINED. `min_similarity`: of a pair that counts as near."""
    return {
        "n_items": F.count("item"),
        "n_pairs": F.count("image_id_a"),
        "n_near": F.count_if(F.col("similarity") >= F.lit(min_similarity).cast("float")),
        "n_candidates": F.sum("n_candidates"),
        "read_bytes": F.sum("read_bytes"),
        "is_cut_off": F.bool_or("overflow"),
        "n_full_queries": F.sum("n_full_queries"),
        "n_gave_up_gpu": F.count("gave_up_gpu"),
        "gave_up_gpu": F.min("gave_up_gpu"),
    }


def of(joined: DataFrame, min_similarity: float) -> Totals:
    """By a query."""
    row = joined.agg(*(column.alias(name) for name, column in aggregates(min_similarity).items())).first()
    assert row is not None
    return together(NOTHING, row.asDict())


def together(one: Totals, other: Totals) -> Totals:
    """Of two sets of items: sums of the counts, one of the reasons, and whether either was cut off."""
    return {name: _both(one[name], other[name]) for name in NOTHING}


def _both(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return a or b if isinstance(a, bool | str) else a + b
