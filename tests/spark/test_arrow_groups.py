"""Groups come whole wherever batches end."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dedup_spark.spark.arrow_groups import whole_groups


@pytest.mark.parametrize("rows_per_batch", [1, 2, 3, 100])
def test_every_group_is_one_table_in_the_order_of_the_rows(rows_per_batch: int) -> None:
    sizes = {-7: 5, 0: 1, 3: 9, 4: 2}
    table = pa.table({"label": np.repeat(list(sizes), list(sizes.values())), "row": np.arange(17)})
    batches = table.to_batches(max_chunksize=rows_per_batch)
    groups = list(whole_groups([batches[0].slice(0, 0), *batches, batches[0].slice(0, 0)], "label"))
    assert [(g["label"][0].as_py(), len(g)) for g in groups] == list(sizes.items())
    assert [row for g in groups for row in g["row"].to_pylist()] == list(range(17))


def test_nothing_has_no_groups() -> None:
    assert list(whole_groups([], "label")) == []
