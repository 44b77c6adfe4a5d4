"""Regroups the Arrow batches that Spark gives to a task into whole groups. Runs on executors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa


def whole_groups(batches: Iterable[pa.RecordBatch], column: str) -> Iterator[pa.Table]:
    """From rows sorted by a bigint column to one table per value of it; one group is held at a time."""
    held: list[pa.Table] = []
    for batch in batches:
        values = batch[column].to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
        for start, end in itertools.pairwise(starts):
            part = pa.Table.from_batches([batch.slice(start, end - start)])
            if held and part.num_rows and held[0][column][0] != part[column][0]:
                yield pa.concat_tables(held)
                held = []
            if part.num_rows:
                held.append(part)
    if held:
        yield pa.concat_tables(held)
