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
from dedup_spark.errors import TableError
from dedup_spark.kernels.features.model_input import InputSettings
from dedup_spark.models.base import ModelSettings, settings_named
from dedup_spark.stages.extract import step as extract
from dedup_spark.stages.reading.model_choice import ModelClocks, embed_command, require_one_model
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


def model(square: str = "crop", input_px: int = 224, pixels: str = "original", sha256: str = "0" * 64) -> str:
    resize = "bilinear" if square == "crop" else "bicubic"
    made = InputSettings(input_px, resize, square)
    return ModelSettings("resnet50", "/r.pth", sha256, "torch", "fp32", made, "imagenet", 1, pixels, 1, 0).model_id


def refusal(held: str, asked: str | None) -> str:
    with pytest.raises(TableError) as refused:
        require_one_model([held], asked, run_with())
    return str(refused.value)


def test_the_settings_of_the_model_that_the_tables_hold_are_named_where_they_differ() -> None:
    text = refusal(model("squash", 256), model())
    changed = "--set extract.square=squash --set extract.resize=bicubic --set extract.input_px=256"
    assert f"Use the settings of the first ({changed}), other --tables, or embed" in text
    assert "--set extract.views" not in text


def test_weights_and_thumbnails_of_the_model_that_the_tables_hold_are_named_too() -> None:
    text = refusal(model(pixels="thumbnail-320-q90", sha256="f" * 64), model())
    assert "extract.thumbnail_px=320 --set extract.thumbnail_quality=90 --set extract.embed_from=thumbnail" in text
    assert f"and weights whose SHA-256 begins with {'f' * 12}" in text
    assert "--set extract.embedding=resnet50" in refusal(model(), None)


@pytest.mark.parametrize("square", ["crop", "squash"])
@pytest.mark.parametrize("pixels", ["original", "thumbnail-320-q90"])
def test_a_model_id_names_settings_that_load(square: str, pixels: str) -> None:
    named = settings_named(model(square, 256, pixels))
    extract = load_config(given={"extract": named | {"weights": "/r.pth"}}).extract
    assert (extract.square, extract.input_px, extract.embed_from) == (square, 256, pixels.partition("-")[0])


@pytest.mark.parametrize("model_id", ["table/mine/v1/8", "sscd/1/int8", ""])
def test_of_another_model_id_nothing_is_guessed(model_id: str) -> None:
    assert settings_named(model_id) == {}
    if model_id:
        assert "Use the settings of the first, other --tables" in refusal(model_id, model())
