"""Embedding again: another model for all rows or for none, everything else of a row as it was."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import functions as F
from sample_images import sample_images
from table_contents import counts_of, rows

from dedup_spark import pipeline
from dedup_spark.cli.arguments import make_parser
from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError, GuardError, TableError
from dedup_spark.kernels.features.signature import SignatureSettings, input_of_thumbnail
from dedup_spark.models import registry
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.sources.registry import open_source
from dedup_spark.stages.embed import step as embed
from dedup_spark.stages.reading import not_given
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES, Table
from dedup_spark.store.tables import Tables

FIRST = ["extract.embedding=sscd_distilled", "extract.input_px=64"]
SECOND = ["extract.embedding=sscd_distilled", "extract.input_px=96", "extract.views=2"]
N = 6
VECTOR = {"model_id", "embedding"}

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    for i, pixels in enumerate(sample_images(300)[:N]):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:1000])
    return folder


@pytest.fixture
def extracted(tables: Tables, lake: Path) -> Run:
    """Listed and extracted with the first model."""
    run = a_run(tables, lake, FIRST)
    for step in ("inventory", "extract"):
        run_step(tables.spark, run.config, run, find_step(step))
    return run


def a_run(tables: Tables, lake: Path | str, overrides: list[str]) -> Run:
    config = load_config(None, overrides)
    return Run(tables, config, open_source(str(lake), config.inventory).root, "a-run")


def do_embed(run: Run, overrides: list[str]) -> dict[str, int]:
    """Embeds again; the counts of the step."""
    again = a_run(run.tables, run.lake, overrides)
    run_step(run.tables.spark, again.config, again, pipeline.EMBED)
    return counts_of(run.tables.root, "embed")


def by_id(run: Run) -> dict[int, dict[str, Any]]:
    return {r["image_id"]: r for r in rows(run.tables.root, "features")}


def without_vectors(run: Run) -> dict[int, dict[str, Any]]:
    return {i: {k: v for k, v in row.items() if k not in VECTOR} for i, row in by_id(run).items()}


def model_ids(run: Run) -> set[str]:
    return {r["model_id"] for r in by_id(run).values() if r["status"] == "ok"}


def test_thumbnails_give_new_vectors_and_nothing_else_changes(extracted: Run, lake: Path) -> None:
    before = without_vectors(extracted)
    for file in lake.iterdir():
        file.unlink()  # the lake is not asked
    counts = do_embed(extracted, SECOND)
    assert (counts["embedded"], counts["unreadable"], counts["of_other_lakes"]) == (N, 0, 0)
    assert without_vectors(extracted) == before
    (model_id,) = model_ids(extracted)
    assert "/squash-bicubic-96-of-thumbnail-256-q80/" in model_id
    settings = SignatureSettings(10**9, 16, 256, 80, 96)
    extract = load_config(None, SECOND).extract
    model = registry.load(registry.resolve(extract, on_gpu=False, threads=1))
    for row in by_id(extracted).values():
        if row["status"] == "ok":
            expected = model.embed(input_of_thumbnail(row["thumbnail"], settings)[None])[0]
            assert np.frombuffer(row["embedding"], "<f2") == pytest.approx(expected, abs=1e-3)

    version = extracted.tables.version(FEATURES)
    assert do_embed(extracted, SECOND) == {"embedded": 0}
    assert extracted.tables.version(FEATURES) == version


def test_a_changed_model_is_refused_with_the_command_that_embeds_and_then_goes_on(extracted: Run, lake: Path) -> None:
    again = a_run(extracted.tables, lake, SECOND)
    with pytest.raises(TableError, match="vectors of two models cannot be compared") as refused:
        run_step(again.tables.spark, again.config, again, find_step("extract"))
    command = re.search(r"dedup-spark (embed .*)$", str(refused.value))
    assert command is not None
    options = make_parser().parse_args(shlex.split(command[1]))
    assert (options.lake, options.tables) == (extracted.lake, extracted.tables.root)
    assert load_config(None, options.set).extract == again.config.extract

    do_embed(extracted, options.set)
    Image.fromarray(sample_images(300)[N]).save(lake / "new.png")
    for step in ("inventory", "extract"):
        run_step(again.tables.spark, again.config, again, find_step(step))
    assert len(by_id(extracted)) == N + 2
    assert len(model_ids(extracted)) == 1  # the new image was embedded from its thumbnail, as the others


def test_vectors_from_the_lake_are_those_that_extract_would_have_made(
    extracted: Run, lake: Path, tmp_path: Path
) -> None:
    before = without_vectors(extracted)
    counts = do_embed(extracted, [*SECOND, "extract.embed_from=original"])
    assert counts["embedded"] == N
    assert without_vectors(extracted) == before
    fresh = a_run(Tables(extracted.tables.spark, str(tmp_path / "fresh")), lake, SECOND)
    fresh.tables.create_missing()
    for step in ("inventory", "extract"):
        run_step(fresh.tables.spark, fresh.config, fresh, find_step(step))
    vectors = {i: (row["model_id"], row["embedding"]) for i, row in by_id(extracted).items()}
    assert vectors == {i: (row["model_id"], row["embedding"]) for i, row in by_id(fresh).items()}


def test_a_killed_run_changes_nothing_and_the_next_goes_on_from_its_slices(
    extracted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked = by_id(extracted), []
    vectors_of = embed.vectors_of

    def dies_in_the_third(images: Any, settings: Any, n_images: int) -> Any:
        asked.append(n_images)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return vectors_of(images, settings, n_images)

    monkeypatch.setattr(embed, "vectors_of", dies_in_the_third)
    small = [*SECOND, "extract.slice_images=2"]
    with pytest.raises(KeyboardInterrupt):
        do_embed(extracted, small)
    assert by_id(extracted) == before
    n_done = sum(asked[:2])
    asked[:] = [0, 0, 0]
    do_embed(extracted, small)
    assert sum(asked[3:]) == N - n_done
    assert len(model_ids(extracted)) == 1
    assert len(by_id(extracted)) == N + 1


def test_an_image_that_is_gone_has_no_vector_and_the_rest_have_theirs(extracted: Run, lake: Path) -> None:
    (lake / "0.png").unlink()
    counts = do_embed(extracted, [*SECOND, "extract.embed_from=original"])
    assert (counts["embedded"], counts["unreadable"]) == (N - 1, 1)
    missing = [r for r in by_id(extracted).values() if r["status"] == "ok" and r["embedding"] is None]
    assert [r["model_id"] for r in missing] == [None]
    version = extracted.tables.version(FEATURES)
    assert do_embed(extracted, [*SECOND, "extract.embed_from=original"])["embedded"] == 0
    assert extracted.tables.version(FEATURES) == version  # so the later steps keep their work


def test_a_lake_that_is_not_there_changes_nothing(extracted: Run, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "_MIN_IMAGES_FOR_GUARD", 3)
    before = by_id(extracted)
    for file in lake.glob("*.png"):
        file.unlink()
    with pytest.raises(GuardError, match=r"6 of 6 images could not be read again.*Nothing was changed"):
        do_embed(extracted, [*SECOND, "extract.embed_from=original"])
    assert by_id(extracted) == before


def test_after_a_store_that_did_not_answer_the_same_command_goes_on(
    extracted: Run, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(not_given, "_MIN_IMAGES_FOR_GUARD", 2)
    settings = [*SECOND, "extract.embed_from=original"]
    before = by_id(extracted)
    lake.rename(lake.parent / "elsewhere")
    lake.mkdir()
    (lake / "list").touch()
    with pytest.raises(GuardError, match=r"6 of 6 images of the last slice could not be read again.*nothing is lost"):
        do_embed(extracted, settings)
    assert by_id(extracted) == before
    (lake / "list").unlink()
    lake.rmdir()
    (lake.parent / "elsewhere").rename(lake)
    assert do_embed(extracted, settings)["embedded"] == N
    assert all(row["embedding"] for row in by_id(extracted).values() if row["status"] == "ok")


def test_thumbnails_of_another_kind_are_refused(extracted: Run) -> None:
    with pytest.raises(TableError, match="6 images have a thumbnail that is not thumbnail-128-q80"):
        do_embed(extracted, [*SECOND, "extract.thumbnail_px=128"])


def test_a_model_that_needs_more_pixels_than_thumbnails_have_reads_the_lake(extracted: Run) -> None:
    do_embed(extracted, ["extract.embedding=sscd_distilled", "extract.input_px=288"])
    (model_id,) = model_ids(extracted)
    assert "/squash-bicubic-288/" in model_id
    too_large = load_config(None, ["extract.input_px=288", "extract.embed_from=thumbnail"])
    with pytest.raises(ConfigError, match="smaller than the 288 px that the model's input is made of"):
        registry.require_model(too_large.extract)


def test_no_model_is_no_reason_to_embed(extracted: Run) -> None:
    with pytest.raises(ConfigError, match="there is no model to embed with"):
        do_embed(extracted, ["extract.embedding=off"])


def test_images_without_a_vector_in_two_lakes_do_not_keep_embed_from_ending(extracted: Run, lake: Path) -> None:
    other = lake.parent / "other"
    other.mkdir()
    for i, pixels in enumerate(sample_images(300)[N : N + 2]):
        Image.fromarray(pixels).save(other / f"{i}.png")
    second = a_run(extracted.tables, other, FIRST)
    for step in ("inventory", "extract"):
        run_step(second.tables.spark, second.config, second, find_step(step))
    settings = [*SECOND, "extract.embed_from=original"]
    (lake / "0.png").unlink()
    (other / "0.png").unlink()
    before = by_id(extracted)
    assert do_embed(extracted, settings)["of_other_lakes"] == 2
    assert by_id(extracted) == before
    counts = do_embed(second, settings)
    assert (counts["embedded"], counts["unreadable"], counts["of_other_lakes"]) == (N, 2, 0)
    assert len(model_ids(extracted) - {None}) == 1
    version = extracted.tables.version(FEATURES)
    assert do_embed(second, settings)["embedded"] == 0
    assert do_embed(extracted, settings)["embedded"] == 0
    assert extracted.tables.version(FEATURES) == version


def test_rows_that_a_lost_run_added_until_it_was_fenced_off_are_kept(
    extracted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late_rows(tables: Tables, _: Table) -> bool:
        """Of an image of another lake, read by the model of before."""
        for table, changed in ((FEATURES, {}), (IMAGES, {"lake": F.lit("file:///other")})):
            row = (
                tables.read(table)
                .where(f"image_id = {one}")
                .withColumns({"image_id": F.lit(7).cast("bigint"), **changed})
            )
            tables.append(table, row.select(table.column_names))
        return True

    one = next(i for i, row in by_id(extracted).items() if row["status"] == "ok")
    with monkeypatch.context() as patched:
        patched.setattr(Tables, "fence", late_rows)
        counts = do_embed(extracted, [*SECOND, "extract.embed_from=original"])
    assert counts["of_other_lakes"] == 1
    assert by_id(extracted)[7]["embedding"] == by_id(extracted)[one]["embedding"]


@pytest.mark.parametrize("most", [1, 10**6])
def test_the_vectors_of_a_large_container_are_not_broadcast(
    extracted: Run, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "most_broadcast", lambda *_: most)
    broadcast: list[list[str]] = []
    monkeypatch.setattr(embed.F, "broadcast", lambda rows: (broadcast.append(rows.columns), rows)[1])
    assert do_embed(extracted, SECOND)["embedded"] == N
    assert (["image_id", "model_id", "embedding"] in broadcast) == (most > N)
    assert all(row["embedding"] for row in by_id(extracted).values() if row["status"] == "ok")


def test_slices_of_other_vectors_or_of_another_model_are_not_taken() -> None:
    one, other = (SimpleNamespace(model_id=f"table/{name}/8") for name in ("mine", "yours"))
    found = [embed._progress_name(*asked) for asked in ((one,), (one, "a 1"), (one, "a 2"), (other, "a 1"))]
    assert len(set(found)) == 4
