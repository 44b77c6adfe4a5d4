"""A lake of copies: the model sees each picture once, and no row changes by that."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from table_contents import counts_of, rows

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.features.signature import SignatureSettings
from dedup_spark.models import registry
from dedup_spark.models.base import Embedder
from dedup_spark.pipeline import EMBED, find_step, run_step
from dedup_spark.sources.base import Address
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.gpus import TaskShare
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.extract.task import extract_batches
from dedup_spark.stages.reading import read_ahead, reuse
from dedup_spark.stages.reading.decoder_pool import DecoderLimits
from dedup_spark.stages.reading.embedding import ModelTask
from dedup_spark.stages.reading.read_ahead import TaskSettings
from dedup_spark.stages.reading.slices import in_slice, reading_key
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import IMAGES
from dedup_spark.store.tables import Tables

N_DISTINCT, N_COPIES = 16, 24  # 60 % byte copies
INPUT_PX = 64


def write_lake(folder: Path) -> Path:
    """Photos of noise on a gradient, each with copies in other folders, and one file that no decoder reads, twice."""
    folder.mkdir(parents=True)
    drawn = random.Random(0)
    for i in range(N_DISTINCT):
        noise = Image.effect_noise((90 + i, 70), 20 + 5 * i)
        photo = Image.merge("RGB", (noise, Image.linear_gradient("L").resize(noise.size), noise))
        photo.save(folder / f"{i:02d}.jpg", quality=90)
    for k in range(N_COPIES):
        (folder / f"{k % 3}").mkdir(exist_ok=True)
        shutil.copy(folder / f"{drawn.randrange(N_DISTINCT):02d}.jpg", folder / f"{k % 3}" / f"copy {k:02d}.jpg")
    for name in ("broken.jpg", "0/broken.jpg"):
        (folder / name).write_bytes((folder / "00.jpg").read_bytes()[:500])
    return folder


class Counting:
    """The model, and how many images it saw."""

    def __init__(self, model: Embedder) -> None:
        self._model, self.n_seen = model, 0
        self.model_id, self.dimensions = model.model_id, model.dimensions

    def embed(self, images: UInt8) -> np.ndarray:
        self.n_seen += len(images)
        return self._model.embed(images)


@dataclasses.dataclass
class FolderSource:
    """Reads files below a folder."""

    folder: Path

    def fetch(self, address: Address, max_bytes: int = 2**31 - 1) -> bytes:
        return (self.folder / address.uri).read_bytes()


def addresses(paths: list[str]) -> pa.RecordBatch:
    columns = ("image_id", "object_version", "size_bytes")
    schema = pa.schema([*((name, pa.int64()) for name in columns), ("uri", pa.string())])
    return pa.RecordBatch.from_pylist([{"image_id": i, "uri": path} for i, path in enumerate(paths)], schema=schema)


Extract = Callable[..., tuple[list[dict[str, Any]], int]]


@pytest.fixture
def extract(monkeypatch: pytest.MonkeyPatch) -> Extract:
    """Rows of a task over these paths below a folder, without what names them, and the images that the model saw."""

    def run(folder: Path, paths: list[str], **changes: Any) -> tuple[list[dict[str, Any]], int]:
        settings = dataclasses.replace(ExtractSettings(), input_px=INPUT_PX, **changes)
        model = registry.resolve(settings, on_gpu=False, threads=1)
        counting = Counting(load(model))
        monkeypatch.setattr(registry, "load", lambda model, device: counting)
        task = ModelTask(model, TaskShare(1, 0.0), settings.embed_batch_images)
        signature = SignatureSettings(400_000_000, 16, 256, 80, INPUT_PX)
        source: Any = FolderSource(folder)
        given = TaskSettings(source, signature, settings, task, "run-1", 1)
        reuse._known_vectors.cache_clear()
        rows = [row for batch in extract_batches([addresses(paths)], given) for row in batch.to_pylist()]
        assert sum(row["forward_passes"] or 0 for row in rows) == counting.n_seen
        return [{k: v for k, v in row.items() if k in KEPT} for row in rows], counting.n_seen

    load = registry.load
    return run


KEPT = ("content_hash", "pixel_hash", "phash", "thumbnail", "status", "reject_reason", "model_id", "embedding")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lake(tmp_path_factory.mktemp("copies") / "lake")


def paths_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))


@pytest.mark.parametrize("changes", [{}, {"embed_batch_images": 1}, {"embed_batch_images": 64, "fetch_threads": 1}])
def test_byte_copies_in_a_task_have_one_pass_and_the_rows_of_a_pass_each(
    lake: Path, extract: Extract, changes: dict[str, Any]
) -> None:
    paths = paths_of(lake)
    every, n_every = extract(lake, paths, reuse_embedding="off")
    once, n_once = extract(lake, paths, **changes)
    assert once == every
    assert (n_every, n_once) == (N_DISTINCT + N_COPIES, N_DISTINCT)
    assert sum(row["status"] == "rejected" for row in once) == 2


def test_the_order_does_not_matter(lake: Path, extract: Extract) -> None:
    paths = paths_of(lake)
    in_order = dict(zip(paths, extract(lake, paths)[0], strict=True))
    shuffled = random.Random(1).sample(paths, len(paths))
    again, n_seen = extract(lake, shuffled)
    assert dict(zip(shuffled, again, strict=True)) == in_order
    assert n_seen == N_DISTINCT


def test_equal_pictures_in_other_files_have_one_pass(tmp_path: Path, extract: Extract) -> None:
    """Without loss in other formats, and with other metadata: other bytes, equal pixels."""
    photo = Image.effect_noise((100, 80), 50).convert("RGB")
    for name in ("a.png", "b.bmp", "c.tif", "d.webp"):
        photo.save(tmp_path / name, lossless=True)
    with_exif = Image.Exif()
    with_exif[0x010E] = "a holiday"
    photo.save(tmp_path / "e.jpg", quality=90)
    photo.save(tmp_path / "f.jpg", quality=90, exif=with_exif)
    paths = [f"{name}" for name in ("a.png", "b.bmp", "c.tif", "d.webp", "e.jpg", "f.jpg")]
    made_once, n_seen = extract(tmp_path, paths)
    assert n_seen == 2
    assert len({row["content_hash"] for row in made_once}) == 6
    assert made_once == extract(tmp_path, paths, reuse_embedding="off")[0]


def test_deep_values_make_another_picture_of_equal_input(tmp_path: Path, extract: Extract) -> None:
    """Only the model's input decides, not the pixels as they are in the file."""
    grey = np.asarray(Image.effect_noise((100, 80), 60))
    Image.fromarray(grey).save(tmp_path / "8 bits.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16 bits.png")
    rows, n_seen = extract(tmp_path, sorted(path.name for path in tmp_path.iterdir()))
    assert len({row["pixel_hash"] for row in rows}) == 2
    assert n_seen == 1  # the model would see the same
    assert rows[0]["embedding"] == rows[1]["embedding"]


def test_copies_are_decoded_once_also_far_apart(
    lake: Path, extract: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = read_ahead._decoders(
        1, SignatureSettings(400_000_000, 16, 256, 80, INPUT_PX), DecoderLimits(6 * 2**30, 120.0)
    )
    signed, sign = [], decoders.sign
    monkeypatch.setattr(decoders, "sign", lambda data: (signed.append(data), sign(data))[1])
    for i in range(100):
        Image.new("RGB", (20 + i, 20), (i, i, i)).save(tmp_path / f"{i:03d}.png")
    paths = sorted(path.name for path in tmp_path.iterdir())
    extract(tmp_path, [*paths, *paths])
    assert len(signed) == 100


# --- the steps -------------------------------------------------------------------------------------------------


def step(name: str, tables: Tables, lake: Path, *overrides: str) -> dict[str, int]:
    settings = [f"extract.input_px={INPUT_PX}", "extract.max_reject_share=1", *overrides]
    config = load_config(None, settings)
    run = Run(tables, config, open_source(str(lake), config.inventory).root, "a-run")
    run_step(tables.spark, config, run, EMBED if name == "embed" else find_step(name))
    return counts_of(tables.root, name)


@pytest.fixture
def listed_twice(lake: Path, tables: Tables, tmp_path: Path) -> tuple[Tables, Tables]:
    """Two sets of tables over the lake of copies."""
    step("inventory", tables, lake)
    return tables, Tables(tables.spark, str(shutil.copytree(tables.root, tmp_path / "others")))


N = N_DISTINCT + N_COPIES
IN_SLICES = "extract.slice_images=15"  # three


def require_few_passes(counts: dict[str, int], tables: Tables) -> None:
    """One for each picture; a border between two tasks splits the copies of one picture at most."""
    n_borders = 3 * tables.spark.sparkContext.defaultParallelism - 1
    assert counts["forward_passes"] + counts["forward_passes_saved"] == N
    assert N_DISTINCT <= counts["forward_passes"] <= N_DISTINCT + n_borders


@pytest.mark.slow
def test_a_lake_of_copies_has_a_pass_per_picture_and_the_rows_of_a_pass_each(
    lake: Path, listed_twice: tuple[Tables, Tables]
) -> None:
    tables, others = listed_twice
    counts = step("extract", tables, lake, IN_SLICES)
    require_few_passes(counts, tables)

    counts = step("extract", others, lake, "extract.reuse_embedding=off")  # and in one slice
    assert (counts["forward_passes"], counts["forward_passes_saved"]) == (N, 0)
    assert by_id(tables) == by_id(others)
    listed = tables.read(IMAGES).select("image_id", reading_key()).collect()
    assert {r["image_id"]: r["reading_key"] for r in listed} == {i: r["reading_key"] for i, r in by_id(tables).items()}


@pytest.mark.slow
@pytest.mark.parametrize("embed_from", ["thumbnail", "original"])
def test_embedding_again_has_few_passes_too(lake: Path, listed_twice: tuple[Tables, Tables], embed_from: str) -> None:
    tables, others = listed_twice
    for each in listed_twice:
        step("extract", each, lake)
    changes = ["extract.views=2", f"extract.embed_from={embed_from}"]
    counts = step("embed", tables, lake, *changes, IN_SLICES)
    assert (counts["embedded"], counts["unreadable"]) == (N, 0)
    require_few_passes(counts, tables)
    counts = step("embed", others, lake, *changes, "extract.reuse_embedding=off")
    assert (counts["forward_passes"], counts["forward_passes_saved"]) == (N, 0)
    assert by_id(tables) == by_id(others)
    assert all("views-2" in row["model_id"] for row in by_id(tables).values() if row["status"] == "ok")


def by_id(tables: Tables) -> dict[int, dict[str, Any]]:
    return {row["image_id"]: row for row in rows(tables.root, "features")}


def test_a_row_of_an_older_version_is_in_the_slice_of_its_id(tables: Tables) -> None:
    kept = local_relation(tables.spark, [(1, None), (2, 50), (60, None), (3, 5)], "image_id bigint, reading_key bigint")
    assert {r["image_id"] for r in kept.where(in_slice(0, 10)).collect()} == {1, 3}
    assert {r["image_id"] for r in kept.where(in_slice(11, 60)).collect()} == {2, 60}
