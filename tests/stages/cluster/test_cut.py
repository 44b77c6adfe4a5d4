"""The cut by each linkage, and where a linkage is not defined; without Spark."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from fabricated import families, to_bytes
from scipy.cluster.hierarchy import fcluster, linkage

from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError
from dedup_spark.stages.cluster.cut import _cut_batches_by_likeness, cut_settings, require_linkage

FITTED = "cluster.prior=[-10.0, 27.0, -15.0, 4.0]"


@pytest.mark.parametrize(
    ("model", "overrides", "is_defined"),
    [
        ("sscd_distilled", [], False),
        ("sscd/sha256:0/int8", [], False),
        ("resnet50", [], True),
        ("resnet50", [FITTED], False),
        ("off", [], True),
        (None, [], True),
    ],
)
def test_wards_method_is_refused_exactly_where_probabilities_decide(
    model: str | None, overrides: list[str], is_defined: bool
) -> None:
    require_linkage(load_config(None, [*overrides, "cluster.linkage=complete"]), model)
    config = load_config(None, [*overrides, "cluster.linkage=ward"])
    if is_defined:
        require_linkage(config, model)
    else:
        with pytest.raises(ConfigError, match="Ward's method is defined for Euclidean distances"):
            require_linkage(config, model)


def test_a_component_is_cut_by_ward_as_its_unit_vectors_are() -> None:
    vectors = families([6, 6, 3], 0.7, np.random.default_rng(3))
    columns = {
        "component_id": [1] * 15, "image_id": list(range(15)), "phash": [0] * 15,
        "embedding": pa.array([bytes(to_bytes(v)) for v in vectors], pa.binary()),
    }  # fmt: skip
    settings = cut_settings(load_config(None, ["cluster.linkage=ward"]))
    (found,) = _cut_batches_by_likeness(iter([pa.RecordBatch.from_pydict(columns)]), settings)
    stored = vectors.astype("<f2").astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    expected = fcluster(linkage(stored, "ward"), np.sqrt(2 - 2 * 0.45), criterion="distance")
    labels = found["cluster_label"].to_numpy()
    assert [[int(a == b) for b in labels] for a in labels] == [[int(a == b) for b in expected] for a in expected]
    assert len(set(labels.tolist())) == 3
