"""The whole way of a model that nobody has calibrated: it stops after match, is calibrated, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run_everything
from pyspark.sql import SparkSession
from table_contents import rows
from tiny_lake import build_tiny_lake

from dedup_spark import api
from dedup_spark.config import load_config
from dedup_spark.errors import UncalibratedError
from dedup_spark.models.weights import installed_weights
from dedup_spark.store.tables import Tables


@pytest.mark.slow
def test_a_model_that_nobody_calibrated_stops_after_match_and_goes_on_with_what_calibrate_wrote(
    spark: SparkSession, tables: Tables, tmp_path: Path
) -> None:
    """The installed student, under the name of a file of one's own, so that its calibration is not known."""
    lake = build_tiny_lake(tmp_path / "lake").folder
    weights = installed_weights("sscd_distilled")
    given = ["extract.embedding=onnx", f"extract.weights={weights}", "extract.normalisation=none"]
    given += ["calibrate.n_images=8", "calibrate.neighbours=12", "cluster.target_precision=0.9"]
    config = load_config(None, given)
    with pytest.raises(UncalibratedError, match="dedup-spark calibrate --lake"):
        run_everything(tables, lake, config)
    done = {(r["step"], r["status"]) for r in rows(tables.root, "runs")}
    assert {("match", "complete"), ("cluster", "failed"), ("run", "failed")} <= done
    assert rows(tables.root, "pairs")
    assert not rows(tables.root, "clusters")

    found = api.calibrate(spark, lake=lake, tables=tables.root, settings=config)
    assert found.point.precision.value >= 0.9
    file = tmp_path / "calibrated.toml"
    file.write_text(found.toml)
    calibrated = load_config(str(file))
    assert calibrated.extract == config.extract
    assert calibrated.cluster.prior == tuple(found.settings["cluster"]["prior"])

    going_on = api.run(spark, lake=lake, tables=tables.root, settings_file=file)
    assert going_on.run_id in {r["run_id"] for r in rows(tables.root, "runs") if r["status"] == "failed"}
    assert {s.step: s.status for s in going_on.steps}["match"] == "unchanged"
    assert going_on.clusters > 0
    assert {r["distance_unit"] for r in rows(tables.root, "clusters")} == {"1 - copy_probability"}
