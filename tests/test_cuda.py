"""On a real GPU: `make test-gpu`. Without CUDA these fail, and say so; nothing is skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import a_resnet_file
from sample_images import PX, sample_images

from dedup_spark.config import ExtractSettings
from dedup_spark.models import registry
from dedup_spark.models.base import Embedder

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True, scope="module")
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.fail(f"no CUDA: PyTorch {torch.__version__} sees no device here; these tests were not run")


def on(device: str, **changes: object) -> Embedder:
    extract = ExtractSettings(**({"input_px": PX, "runtime": "torch"} | changes))  # type: ignore[arg-type]
    return registry.load(registry.resolve(extract, on_gpu=device != "cpu", threads=1), device)


def cosines(a: Embedder, b: Embedder) -> np.ndarray:
    return (a.embed(sample_images()) * b.embed(sample_images())).sum(axis=1)


@pytest.mark.parametrize("name", ["sscd", "sscd_distilled"])
@pytest.mark.parametrize(("numbers", "least"), [("fp32", 0.9999), ("fp16", 0.999), ("bf16", 0.95)])
def test_cuda_and_cpu_agree(name: str, numbers: str, least: float) -> None:
    assert (
        cosines(on("cuda:0", embedding=name, numbers=numbers), on("cpu", embedding=name, numbers="fp32")).min() > least
    )


@pytest.mark.parametrize(("name", "prefix"), [("resnet50", ""), ("sscd", "backbone.")])
@pytest.mark.parametrize(("numbers", "least"), [("fp32", 0.9999), ("fp16", 0.999), ("bf16", 0.99)])
def test_a_resnet_50_from_a_file_is_the_same_on_cuda(
    name: str, prefix: str, numbers: str, least: float, tmp_path: Path
) -> None:
    given = {"embedding": name, "weights": str(a_resnet_file(tmp_path / "resnet.pt", 512, prefix))}
    assert cosines(on("cuda:0", numbers=numbers, **given), on("cpu", numbers="fp32", **given)).min() > least


def test_auto_on_a_gpu_is_fp16() -> None:
    assert "/fp16/" in on("cuda:0", runtime="auto").model_id


def test_equal_batches_give_equal_bits_and_other_batches_equal_vectors() -> None:
    model = on("cuda:0")
    images = sample_images()
    assert np.array_equal(model.embed(images), model.embed(images))
    single = np.concatenate([model.embed(images[i : i + 1]) for i in range(len(images))])
    assert (single * model.embed(images)).sum(axis=1).min() > 0.9999


def test_memory_that_runs_out_halves_the_batch_and_loses_no_row() -> None:
    model = on("cuda:0", embed_batch_images=2048)
    images = np.repeat(sample_images(), 200, axis=0)
    expected = np.repeat(model.embed(sample_images()), 200, axis=0)
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 0.02 * free) / total)
    try:
        assert (model.embed(images) * expected).sum(axis=1).min() > 0.9999
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_batch_is_found_from_free_memory() -> None:
    assert on("cuda:0", views=1).max_batch_images >= 64
