"""On a real GPU: `make test-gpu`. What is missing (CUDA, a FAISS for GPUs) fails, and is named; nothing is skipped.

They need no Spark and no Java: `python -m pytest -m gpu tests/test_cuda.py`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from model_files import a_resnet_file
from sample_images import PX, sample_images

from dedup_spark.config import ExtractSettings
from dedup_spark.kernels import vectors
from dedup_spark.kernels.faiss_index import fill_index, over_all_cells, train_index
from dedup_spark.kernels.joins.base import Block, score_candidates
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.kernels.joins.exact_gpu import Wanted, exact_gpu_join
from dedup_spark.kernels.joins.faiss_device import FaissGpu, FaissGpuUnusable, open_gpu
from dedup_spark.kernels.joins.faiss_ivf import SearchCounts, SearchLimits, ShardSearch, ivf_join
from dedup_spark.models import registry
from dedup_spark.models.base import Embedder

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.fail(f"no CUDA: PyTorch {torch.__version__} sees no device here; these tests were not run")


def on(device: str, **changes: object) -> Embedder:
    extract = ExtractSettings(**({"input_px": PX, "runtime": "torch"} | changes))  # type: ignore[arg-type]
    return registry.load(registry.resolve(extract, on_gpu=device != "cpu", threads=1), device)


def cosines(a: Embedder, b: Embedder) -> np.ndarray:
    return (a.embed(sample_images()) * b.embed(sample_images())).sum(axis=1)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", ["sscd", "sscd_distilled"])
@pytest.mark.parametrize(("numbers", "least"), [("fp32", 0.9999), ("fp16", 0.999), ("bf16", 0.95)])
def test_cuda_and_cpu_agree(name: str, numbers: str, least: float) -> None:
    assert (
        cosines(on("cuda:0", embedding=name, numbers=numbers), on("cpu", embedding=name, numbers="fp32")).min() > least
    )


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("name", "prefix"), [("resnet50", ""), ("sscd", "backbone.")])
@pytest.mark.parametrize(("numbers", "least"), [("fp32", 0.9999), ("fp16", 0.999), ("bf16", 0.99)])
def test_a_resnet_50_from_a_file_is_the_same_on_cuda(
    name: str, prefix: str, numbers: str, least: float, tmp_path: Path
) -> None:
    given = {"embedding": name, "weights": str(a_resnet_file(tmp_path / "resnet.pt", 512, prefix))}
    assert cosines(on("cuda:0", numbers=numbers, **given), on("cpu", numbers="fp32", **given)).min() > least


@pytest.mark.usefixtures("cuda")
def test_auto_on_a_gpu_is_fp16() -> None:
    assert "/fp16/" in on("cuda:0", runtime="auto").model_id


@pytest.mark.usefixtures("cuda")
def test_equal_batches_give_equal_bits_and_other_batches_equal_vectors() -> None:
    model = on("cuda:0")
    images = sample_images()
    assert np.array_equal(model.embed(images), model.embed(images))
    single = np.concatenate([model.embed(images[i : i + 1]) for i in range(len(images))])
    assert (single * model.embed(images)).sum(axis=1).min() > 0.9999


@pytest.mark.usefixtures("cuda")
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


@pytest.mark.usefixtures("cuda")
def test_the_batch_is_found_from_free_memory() -> None:
    assert on("cuda:0", views=1).max_batch_images >= 64


# --- exact_gpu beside the exact join of the CPU


def blocks_of(n: int, n_blocks: int) -> list[Block]:
    """Random unit vectors of 512 numbers, of which every tenth has a copy in the next block."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n_blocks, n, 512)).astype(np.float32)
    x[1:, ::10] = x[:-1, ::10] + 0.5 * x[1:, ::10]
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    ids = np.arange(n_blocks * n).reshape(n_blocks, n)
    return [Block(ids[i], x[i].astype(np.float16), np.zeros(n, np.int32)) for i in range(n_blocks)]


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("k", [0, 3])
def test_exact_gpu_finds_the_pairs_of_the_exact_join(k: int) -> None:
    a, b = blocks_of(20_000, 2)
    for other in (None, b):
        proposed = exact_gpu_join(a, other, Wanted(0.12, k, 0.45), "cuda:0"), exact_join(a, other, 0.45)
        on_gpu, on_cpu = ({}, {})
        for found, candidates, floor, n in ((on_gpu, proposed[0], 0.12, k), (on_cpu, proposed[1], 0.45, 0)):
            for f in score_candidates(a, other, candidates, floor, n, 0.45, threads=4):
                pairs = zip(f.i.tolist(), f.j.tolist(), f.similarity.tolist(), strict=True)
                found |= {(i, j): cosine for i, j, cosine in pairs if cosine >= np.float32(0.45)}
        assert on_gpu == on_cpu
        assert len(on_cpu) >= len(a) // 10 * (other is not None)


# --- FAISS on a GPU beside FAISS on the CPU


@pytest.fixture(scope="module")
def gpu() -> FaissGpu:
    try:
        return open_gpu("cuda:0")
    except FaissGpuUnusable as e:
        pytest.fail(f"FAISS on a GPU was not tested: {e}")


N, D, N_CELLS = 6_000, 512, 40
INDEX_TYPES = ("IVF,SQfp16", "IVF,Flat", "IVF,SQ8", "IVF,PQ32", "IVF,PQ64", "Flat")


@functools.cache
def lake() -> tuple[Block, np.ndarray]:
    """6,000 unit vectors, half of them in families of five at cosine 0.5 to 0.9, by cell; and the centroids."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, D)).astype(np.float32)
    x[: N // 2] = np.repeat(x[: N // 10], 5, axis=0) + rng.uniform(0.3, 1, (N // 2, 1)) * x[: N // 2]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    centroids = vectors.train_centroids(x[::4].copy(), N_CELLS, seed=1)
    cells = vectors.nearest_cells(x, centroids)
    order = np.argsort(cells, kind="stable")
    ids = rng.permutation(np.unique(rng.integers(-(2**63), 2**63 - 1, N)))
    return Block(ids[order], x[order].astype(np.float16), cells[order]), centroids


@functools.cache
def index_of(index_type: str) -> faiss.Index:
    block, centroids = lake()
    x = block.unit_vectors(slice(None))
    if index_type == "IVF,SQfp16":
        index: Any = vectors.build_shard(block.ids, block.vectors, block.cells, centroids)
    else:
        index = fill_index(train_index(index_type, centroids, x), block.ids, x, block.cells, centroids)
    return over_all_cells(index, np.unique(block.cells), centroids)


def scored_pairs(search: ShardSearch, limits: SearchLimits, counts: SearchCounts) -> dict[tuple[int, int], float]:
    found = {}
    proposed = ivf_join(search, None, limits, counts)
    for f in score_candidates(search.block, None, proposed, limits.lowest, 0, limits.keep):
        pairs = zip(f.i.tolist(), f.j.tolist(), strict=True)
        found |= dict(zip(pairs, f.similarity.tolist(), strict=True))
    return found


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_a_search_by_faiss_on_a_gpu_answers_as_on_the_cpu(gpu: FaissGpu, index_type: str) -> None:
    block, index = lake()[0], index_of(index_type)
    queries = block.unit_vectors(slice(0, N, 10))
    on_cpu, on_gpu = ShardSearch(block, index), ShardSearch.on(gpu, block, index)
    (scores, ids), (of_gpu, ids_of_gpu) = (search.best(queries, 20, 16) for search in (on_cpu, on_gpu))
    assert np.abs(scores - of_gpu).max() < 5e-3
    assert np.mean([len(set(a) & set(b)) / 20 for a, b in zip(ids.tolist(), ids_of_gpu.tolist(), strict=True)]) > 0.98


@pytest.mark.parametrize("index_type", INDEX_TYPES)
@pytest.mark.parametrize("n_probes", [8, N_CELLS])
def test_pairs_found_by_faiss_on_a_gpu_are_those_found_on_the_cpu(
    gpu: FaissGpu, index_type: str, n_probes: int
) -> None:
    block, index = lake()[0], index_of(index_type)
    limits = SearchLimits(n_probes, 0, 0.45, 0.45, margin=0.02)
    on_cpu, on_gpu = (
        scored_pairs(search, limits, SearchCounts())
        for search in (ShardSearch(block, index), ShardSearch.on(gpu, block, index))
    )
    assert len(on_cpu) > 1_500
    assert len(on_cpu.keys() ^ on_gpu.keys()) <= 0.001 * len(on_cpu)  # scores that differ in the last digits
    assert all(on_cpu[pair] == on_gpu[pair] for pair in on_cpu.keys() & on_gpu.keys())


def test_a_query_with_more_near_images_than_the_gpu_lists_loses_none(gpu: FaissGpu) -> None:
    block, index = lake()[0], index_of("IVF,SQfp16")
    counts = SearchCounts()
    few = scored_pairs(ShardSearch.on(gpu, block, index), SearchLimits(N_CELLS, 3, 0.5, 0.5), counts)
    every = scored_pairs(ShardSearch(block, index), SearchLimits(N_CELLS, 0, 0.5, 0.5), SearchCounts())
    assert counts.n_full > 500
    assert len(few.keys() ^ every.keys()) <= 0.001 * len(every)


def test_longer_lists_than_a_gpu_selects_are_refused_in_words(gpu: FaissGpu) -> None:
    search = ShardSearch.on(gpu, lake()[0], index_of("IVF,Flat"))
    with pytest.raises(FaissGpuUnusable, match="at most 2,048"):
        search.best(lake()[0].unit_vectors(slice(0, 9)), 2049, 5)
    assert search.best(lake()[0].unit_vectors(slice(0, 9)), 2048, 2049)[1].shape == (9, 2048)  # of 40 cells


def test_cells_trained_on_a_gpu_are_as_good_as_those_of_the_cpu(gpu: FaissGpu) -> None:
    x = lake()[0].unit_vectors(slice(None))
    on_cpu, on_gpu = vectors.train_centroids(x, 100, seed=3), gpu.train_centroids(x, 100, seed=3)
    assert np.linalg.norm(on_gpu, axis=1) == pytest.approx(1, abs=1e-4)
    nearness = [float((x @ centroids.T).max(axis=1).mean()) for centroids in (on_cpu, on_gpu)]
    assert nearness[1] == pytest.approx(nearness[0], rel=0.01)


def test_vectors_are_assigned_to_their_nearest_cell_on_a_gpu(gpu: FaissGpu) -> None:
    x, centroids = lake()[0].unit_vectors(slice(None)), lake()[1]
    products = x @ centroids.T
    cells = gpu.nearest_cells(centroids).nearest(x)
    assert cells.dtype == np.int32
    chosen = np.take_along_axis(products, cells[:, None].astype(np.int64), 1)[:, 0]
    assert (products.max(axis=1) - chosen).max() < 2e-3
    assert (cells == products.argmax(axis=1)).mean() > 0.995


@pytest.mark.usefixtures("cuda")
def test_a_gpu_whose_memory_is_full_says_so_and_works_again_afterwards(gpu: FaissGpu) -> None:
    index = faiss.IndexFlatIP(D)
    index.add(np.zeros((1_000_000, D), np.float32))  # 2 GB
    torch.cuda.empty_cache()
    held = torch.empty(max(0, torch.cuda.mem_get_info()[0] - (1 << 30)), dtype=torch.uint8, device="cuda:0")
    try:
        with pytest.raises(FaissGpuUnusable, match=r"1,000,000 vectors of 512 dimensions.*its memory is full"):
            gpu.copy(index)
    finally:
        del held
        torch.cuda.empty_cache()
    assert gpu.copy(index).ntotal == 1_000_000
