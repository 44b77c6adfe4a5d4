"""What a run is told whose model is not that of the tables. No Spark."""

from __future__ import annotations

import inspect
import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.cli.answers import load_settings
from dedup_spark.cli.arguments import make_parser
from dedup_spark.config import load_config
from dedup_spark.stages.extract import step as extract
from dedup_spark.stages.reading.model_choice import ModelClocks, embed_command
from dedup_spark.store.runs import Run


def run_with(*overrides: str) -> Run:
    tables: Any = SimpleNamespace(root="/my tables", database="main.dedup")
    return Run(tables, load_config(None, overrides), "abfss://lake", "r1", is_logged=False)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["extract.embedding=resnet50", "extract.weights=/my weights/r.pth", "extract.input_px=256"],
        ["inventory.source=binary_file", "extract.bytes_from=spark"],
        ["extract.embed_from=thumbnail", "extract.thumbnail_px=320", "extract.thumbnail_quality=90"],
        *(
            ["extract.embedding=table", "vectors.table=/v", f'vectors.model="{model}"']
            for model in ("2024.1", "true", "7", "my model")
        ),
    ],
)
def test_the_command_that_embeds_again_is_understood_and_reads_the_lake_as_the_run_does(overrides: list[str]) -> None:
    run = run_with(*overrides)
    options = make_parser().parse_args(shlex.split(embed_command(run))[1:])
    assert (options.command, options.lake, options.tables) == ("embed", run.lake, "/my tables")
    assert options.database == "main.dedup"
    assert load_settings(options) == run.config


def test_what_models_did_is_added_up_over_all_slices_of_a_step() -> None:
    run = run_with()
    clocks: Any = ModelClocks(run)
    slices = ((1.25, 0.5, 10, 90), (0.5, 0.25, 1, 0))  # the second is one image that is tried again
    names = ("model_seconds", "waited_seconds", "forward_passes", "forward_passes_saved")
    for seen in slices:
        clocks._observed = SimpleNamespace(get=lambda seen=seen: dict(zip(names, seen, strict=True)))
        clocks.count()
    assert run._mark.counts == dict(zip(names, (2, 1, 11, 90), strict=True))


def test_extract_makes_one_sum_for_all_that_it_reads() -> None:
    assert inspect.getsource(extract).count("ModelClocks(") == 1
