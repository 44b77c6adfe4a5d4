"""The file that calibrate writes: alone it is enough for the next run. No Spark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dedup_spark.commands.calibrate.calibration import LabelledPairs, OperatingPoint, operating_point
from dedup_spark.commands.calibrate.settings_file import describe_operating_point, fitted_settings, overlay
from dedup_spark.commands.calibrate.step import Calibrated
from dedup_spark.config import load_config
from dedup_spark.errors import GuardError
from dedup_spark.kernels.comparing.probability import PRIORS, Prior

OVERRIDES = [
    "extract.embedding=resnet50", 'extract.weights=s3://b/my "best" weights.pth', "inventory.source=tar",
    "match.min_similarity=0.4", "cluster.target_precision=0.9", 'cluster.protected_prefixes=["a/", "ü \\" b/"]',
    "cluster.prior=[1, 2, 3, 4]", "cluster.uncalibrated=cosine",
]  # fmt: skip


def point(edit: int = 0, is_hopeless: bool = False) -> OperatingPoint:
    n = 400
    is_copy = np.arange(n) % 2 == 0
    score = np.full(n, 0.99) if is_hopeless else np.where(is_copy, 0.99, 0.1)
    return operating_point(LabelledPairs(np.arange(n) // 4, np.full(n, edit), is_copy, score), 0.9, 0.5)


def test_the_file_has_what_was_fitted_and_every_other_setting_of_the_run(tmp_path: Path) -> None:
    config, found = load_config(None, OVERRIDES), Calibrated(Prior(-10.1234567, 20.0, -1.5, 4.0), point())
    file = tmp_path / "calibrated.toml"
    file.write_text(overlay(found, config, "r1"), encoding="utf-8")
    read = load_config(str(file))
    assert read == load_config(given=fitted_settings(found, config))
    assert read.cluster.prior == (-10.123457, 20.0, -1.5, 4.0)
    assert read.cluster.min_copy_probability == pytest.approx(found.point.cut, abs=1e-6)
    for section in ("inventory", "extract", "match"):
        assert getattr(read, section) == getattr(config, section)
    kept = ("target_precision", "protected_prefixes", "uncalibrated")
    assert [getattr(read.cluster, k) for k in kept] == [getattr(config.cluster, k) for k in kept]


def test_the_defaults_are_not_repeated() -> None:
    text = overlay(Calibrated(PRIORS["sscd"], point()), load_config(None, ["cluster.target_precision=0.9"]), "r1")
    assert [line.split(" =")[0] for line in text.splitlines() if not line.startswith("#")] == [
        "[cluster]", "target_precision", "prior", "min_copy_probability",
    ]  # fmt: skip
    assert "# Measured on other images of the same lake: precision 1.0000 (" in text


def test_pairs_that_people_labelled_have_no_edits() -> None:
    config = load_config(None, ["cluster.target_precision=0.9"])
    assert "recall of each edit" in describe_operating_point(point(), config)
    assert "edit" not in describe_operating_point(point(edit=-1), config)
    labelled = Calibrated(PRIORS["sscd"], point(edit=-1), "other labelled pairs of l.csv", "400 labelled pairs")
    assert "# Measured on other labelled pairs of l.csv: " in overlay(labelled, config, "r1")


def test_what_to_look_at_where_no_cut_is_precise_enough_depends_on_the_pairs() -> None:
    config, hopeless = load_config(), point(is_hopeless=True)
    with pytest.raises(GuardError, match=r"copies that are in no cluster\. Check the largest clusters, or accept"):
        overlay(Calibrated(PRIORS["sscd"], hopeless), config, "r1")
    with pytest.raises(GuardError, match=r"labelled others score like duplicates\. Look at their labels, or accept"):
        overlay(Calibrated(PRIORS["sscd"], hopeless, "l.csv", "400 labelled pairs"), config, "r1")
