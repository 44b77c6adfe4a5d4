"""A model without a calibration: when a run stops, and which commands it names. No Spark."""

from __future__ import annotations

import logging
import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.cli.answers import load_settings
from dedup_spark.cli.arguments import make_parser
from dedup_spark.config import load_config
from dedup_spark.errors import GuardError, UncalibratedError
from dedup_spark.stages.calibration import announce_stop, lacks_calibration, require_calibration
from dedup_spark.store.runs import Run

RESNET = "resnet50/0123456789ab/fp32/crop-bilinear-256-224/imagenet-l2/views-1"
OWN_VECTORS = "table/mine"
OVERRIDES = ["extract.embedding=resnet50", "extract.weights=/my weights/r.pth", "match.min_similarity=0.4"]


def run_with(*overrides: str, database: str | None = None) -> Run:
    tables: Any = SimpleNamespace(root="/my tables", database=database)
    return Run(tables, load_config(None, overrides), "file:///lake", "r1", is_logged=False)


def said(model_id: str, *overrides: str, database: str | None = None) -> str:
    with pytest.raises(UncalibratedError) as e:
        require_calibration(run_with(*overrides, database=database), model_id)
    return str(e.value)


@pytest.mark.parametrize("model_id", [RESNET, "onnx/1/stored", "torchscript/1/fp32", OWN_VECTORS, "sscd2/1"])
def test_a_model_without_calibration_stops_a_run(model_id: str) -> None:
    assert lacks_calibration(load_config(), model_id)
    assert f"of model {model_id}, which has no calibration" in said(model_id)
    assert issubclass(UncalibratedError, GuardError)


@pytest.mark.parametrize(
    ("model_id", "overrides"),
    [
        (None, []),
        ("sscd/1/int8", []),
        ("sscd_distilled/1/fp32", []),
        (RESNET, ["cluster.uncalibrated=cosine"]),
        (RESNET, ["cluster.prior=[-10, 20, 0, 4]"]),
        (OWN_VECTORS, ["cluster.prior=[-10, 20, 0, 4]"]),
    ],
)
def test_nothing_stops_where_something_says_what_a_copy_is(model_id: str | None, overrides: list[str]) -> None:
    assert not lacks_calibration(load_config(None, overrides), model_id)
    require_calibration(run_with(*overrides), model_id)


def test_the_commands_that_are_named_are_understood_and_have_the_settings_of_the_run() -> None:
    text = said(RESNET, *OVERRIDES, database="main.dedup")
    commands = [shlex.split(part) for part in text.split("`")[1::2]]
    assert [c[:2] for c in commands] == [
        ["dedup-spark", "calibrate"],
        ["dedup-spark", "calibrate"],
        ["dedup-spark", "run"],
    ]
    for words in commands:
        options = make_parser().parse_args(words[1:])
        assert (options.lake, options.tables, options.database) == ("file:///lake", "/my tables", "main.dedup")
    by_edits, by_pairs, go_on = (make_parser().parse_args(words[1:]) for words in commands)
    assert load_settings(by_edits) == load_settings(by_pairs) == load_config(None, OVERRIDES)
    assert (by_edits.pairs, by_pairs.pairs, go_on.config) == (None, "FILE", by_edits.out)


def test_vectors_that_are_not_made_here_are_calibrated_by_labelled_pairs_alone() -> None:
    given = [
        "extract.embedding=table",
        "vectors.table=/my vectors",
        "vectors.model='2024.1'",
        "vectors.key_column=path",
    ]
    commands = [shlex.split(part) for part in said(OWN_VECTORS, *given).split("`")[1::2]]
    assert [c[1] for c in commands] == ["calibrate", "run"]
    assert "--pairs" in commands[0]
    assert load_settings(make_parser().parse_args(commands[0][1:])) == load_config(None, given)


def test_the_way_out_by_hand_is_named_with_its_price() -> None:
    assert "without knowing precision or recall: --set cluster.uncalibrated=cosine" in said(RESNET)


def test_the_stop_is_announced_before_the_lake_is_read(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        announce_stop(load_config(), "sscd/1")
        assert not caplog.messages
        announce_stop(load_config(), RESNET)
    assert "the run will stop after match" in caplog.messages[0]
