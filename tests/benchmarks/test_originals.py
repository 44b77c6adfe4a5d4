"""The benchmark of originals: each kind of copy is made, and the original comes first by the default order."""

from __future__ import annotations

import numpy as np
import original_copies
import originals
import pytest

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.edits import encoded


@pytest.fixture(scope="module")
def photo() -> bytes:
    return encoded(load_sample_photo("chelsea.png").convert("RGB"), "JPEG", quality=90)


@pytest.mark.parametrize("kind", original_copies.ORIGINALS)
@pytest.mark.parametrize("times", ["right", "equal", "by chance"])
def test_the_original_comes_first_among_its_copies(photo: bytes, kind: str, times: str) -> None:
    rows = [row for row in originals.group_of(photo, kind, [1]) if row["kind"] not in original_copies.HARD]
    assert len(rows) > 10
    first = originals.first_of_each({"group": originals.with_times(rows, times, np.random.default_rng(2))})
    assert first == {"group": "original"}
