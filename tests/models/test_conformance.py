"""What every runtime must give, whichever model it runs; no Spark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from model_files import a_resnet_file, a_torchscript_file, an_onnx_file
from sample_images import PX, sample_images

from dedup_spark.config import ExtractSettings
from dedup_spark.models import registry, sscd_to_onnx
from dedup_spark.models.base import Embedder
from dedup_spark.models.weights import sha256_of

CASES = {
    "sscd int8, onnx": {"embedding": "sscd", "runtime": "onnx"},
    "sscd fp32, onnx": {"embedding": "sscd", "runtime": "onnx", "numbers": "fp32"},
    "sscd fp32, torch": {"embedding": "sscd", "runtime": "torch"},
    "sscd from a state dict, torch": {"embedding": "sscd", "weights": "sscd.pt"},
    "sscd from a graph, onnx": {"embedding": "sscd", "weights": "sscd.onnx"},
    "sscd from a graph, torch": {"embedding": "sscd", "weights": "sscd.onnx", "runtime": "torch"},
    "distilled, onnx": {"embedding": "sscd_distilled", "runtime": "onnx"},
    "distilled, torch": {"embedding": "sscd_distilled", "runtime": "torch"},
    "distilled bf16, torch": {"embedding": "sscd_distilled", "runtime": "torch", "numbers": "bf16"},
    "distilled in two views": {"embedding": "sscd_distilled", "views": 2},
    "resnet50, torch": {"embedding": "resnet50", "weights": "resnet50.pth"},
    "onnx file, onnx": {"embedding": "onnx", "weights": "mine.onnx"},
    "onnx file, torch": {"embedding": "onnx", "weights": "mine.onnx", "runtime": "torch"},
    "torchscript, torch": {"embedding": "torchscript", "weights": "mine.torchscript"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    a_resnet_file(folder / "resnet50.pth")
    a_resnet_file(folder / "sscd.pt", 64, "backbone.")
    sscd_to_onnx.export(str(folder / "sscd.pt"), str(folder / "sscd.onnx"))
    an_onnx_file(folder / "mine.onnx")
    a_torchscript_file(folder / "mine.torchscript")
    return folder


def extract_settings(case: str, files: Path) -> ExtractSettings:
    wished = {"input_px": PX} | CASES[case]
    if "weights" in wished:
        file = files / str(wished["weights"])
        wished |= {"weights": str(file), "weights_sha256": sha256_of(file.read_bytes())}
    return ExtractSettings(**wished)  # type: ignore[arg-type]


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest, files: Path) -> Embedder:
    return registry.load(registry.resolve(extract_settings(request.param, files), on_gpu=False, threads=1))


def tolerance(model: Embedder) -> float:
    """Sums in another order differ in their last bits: of fp32, or of bf16."""
    return 2e-2 if "/bf16/" in model.model_id else 1e-6


def test_rows_are_unit_vectors_of_the_width_that_the_model_names(model: Embedder) -> None:
    vectors = model.embed(sample_images())
    assert (vectors.shape, vectors.dtype) == ((len(sample_images()), model.dimensions), np.float32)
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-6)


def test_a_row_does_not_depend_on_its_neighbours(model: Embedder) -> None:
    images = sample_images()
    together = model.embed(images)
    for n in (1, 2, 5):
        parts = [model.embed(images[i : i + n]) for i in range(0, len(images), n)]
        assert np.concatenate(parts) == pytest.approx(together, abs=tolerance(model))
    assert model.embed(images[::-1])[::-1] == pytest.approx(together, abs=tolerance(model))


def test_the_same_images_give_the_same_bits(model: Embedder) -> None:
    assert np.array_equal(model.embed(sample_images()), model.embed(sample_images()))


def test_no_images_give_no_rows(model: Embedder) -> None:
    assert model.embed(sample_images()[:0]).shape == (0, model.dimensions)


def test_images_that_may_not_be_written_are_taken(model: Embedder) -> None:
    images = sample_images()[:1].copy()
    images.flags.writeable = False
    assert model.embed(images).shape == (1, model.dimensions)


COUNT_BUSY_THREADS = """
import os, sys
import numpy as np
from dedup_spark.config import ExtractSettings
from dedup_spark.models import registry, sscd_to_onnx

def ticks():
    found = {}
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/stat") as stat:
            user, system = stat.read().rpartition(")")[2].split()[11:13]
        found[task] = int(user) + int(system)
    return found

settings = ExtractSettings(embedding="sscd", input_px=224, runtime=sys.argv[1])
model = registry.load(registry.resolve(settings, on_gpu=False, threads=int(sys.argv[2])))
images = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
model.embed(images)
before = ticks()
model.embed(images)
print(sum(after - before.get(task, 0) > 10 for task, after in ticks().items()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_threads_work_than_the_task_has_cores(runtime: str, threads: int) -> None:
    """Whatever OMP_NUM_THREADS says: in a Python worker it follows spark.task.cpus, not the stage's profile."""
    arguments = [sys.executable, "-c", COUNT_BUSY_THREADS, runtime, str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(3 - threads)}
    counted = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    assert int(counted.stdout) == threads


def embedded(runtime: str, **changes: object) -> np.ndarray:
    settings = ExtractSettings(**({"embedding": "sscd", "input_px": PX, "runtime": runtime} | changes))  # type: ignore[arg-type]
    return registry.load(registry.resolve(settings, on_gpu=False, threads=1)).embed(sample_images())


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1)


def test_runtimes_of_the_same_numbers_agree() -> None:
    sscd = cosines(embedded("onnx", numbers="fp32"), embedded("torch", numbers="fp32"))
    distilled = cosines(
        embedded("onnx", embedding="sscd_distilled"), embedded("torch", embedding="sscd_distilled", numbers="fp32")
    )
    assert sscd.min() > 0.9999
    assert distilled.min() > 0.9999


def test_runtimes_of_the_same_numbers_share_a_model_id_and_other_numbers_have_another() -> None:
    ids = {
        (runtime, numbers): registry.resolve(
            ExtractSettings(embedding="sscd", runtime=runtime, numbers=numbers), on_gpu=False, threads=1
        ).model_id
        for runtime, numbers in [("onnx", "int8"), ("onnx", "fp32"), ("torch", "fp32"), ("torch", "fp16")]
    }
    assert ids["onnx", "fp32"] == ids["torch", "fp32"]
    assert len(set(ids.values())) == 3


def test_int8_is_near_its_dequantised_form_on_average() -> None:
    assert cosines(embedded("onnx"), embedded("torch")).mean() > 0.95


@pytest.mark.parametrize(("numbers", "least"), [("fp16", 0.999), ("bf16", 0.99)])
def test_half_precision_is_near_single_precision(numbers: str, least: float) -> None:
    student = {"embedding": "sscd_distilled"}
    half, single = embedded("torch", numbers=numbers, **student), embedded("torch", numbers="fp32", **student)
    assert cosines(half, single).min() > least


def test_an_embedding_of_two_views_does_not_change_when_the_picture_is_turned_over() -> None:
    settings = ExtractSettings(embedding="sscd_distilled", input_px=PX, views=2)
    model = registry.load(registry.resolve(settings, on_gpu=False, threads=1))
    assert model.embed(sample_images()) == pytest.approx(model.embed(sample_images()[:, ::-1]), abs=1e-6)
    assert model.model_id.endswith("/views-2")
