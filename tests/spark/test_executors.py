"""What is asked of executors is answered there."""

from __future__ import annotations

import pyarrow as pa

from dedup_spark.spark.executors import _say


def test_each_answer_is_a_row() -> None:
    (batch,) = _say([pa.RecordBatch.from_pydict({"i": [0]})], lambda: {"b", "a"})
    assert batch.to_pydict() == {"said": ["a", "b"]}


def test_no_answer_is_no_row() -> None:
    (batch,) = _say([pa.RecordBatch.from_pydict({"i": [0]})], frozenset)
    assert batch.schema == pa.schema({"said": pa.string()})
    assert len(batch) == 0
