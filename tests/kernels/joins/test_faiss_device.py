"""FAISS on a GPU, by a library whose GPUs are CPU indexes: what is asked of it, and what is said where it fails."""

from __future__ import annotations

from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from faiss_gpus import Library

from dedup_spark.kernels import vectors
from dedup_spark.kernels.joins.faiss_device import FaissGpuUnusable, open_gpu

ROWS = np.random.default_rng(1).standard_normal((1000, 32)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


def flat() -> faiss.Index:
    index = faiss.IndexFlatIP(32)
    index.add(ROWS)
    return index


def test_a_build_for_cpus_is_named_with_the_package_to_install() -> None:
    library = SimpleNamespace(__version__="1.15.1", get_num_gpus=lambda: 0)
    with pytest.raises(
        FaissGpuUnusable, match=r"FAISS 1\.15\.1 here was built for CPUs: install faiss-gpu in place of"
    ):
        open_gpu("cuda:0", library)


def test_the_faiss_that_is_installed_says_that_it_has_no_gpu() -> None:
    """Whether it is the package for CPUs or the one for GPUs, on a machine without one."""
    if faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(FaissGpuUnusable, match=r"built for CPUs|sees 0 GPUs here, and the task holds GPU 0"):
        open_gpu("cuda:0")


def test_a_gpu_that_faiss_does_not_see_is_named_with_its_number() -> None:
    with pytest.raises(FaissGpuUnusable, match="sees 2 GPUs here, and the task holds GPU 2"):
        open_gpu("cuda:2", Library(2))


def test_a_search_on_the_gpu_answers_as_the_cpu_does() -> None:
    gpu = open_gpu("cuda:1", Library(2))
    assert gpu.number == 1
    scores, labels = gpu.search(gpu.copy(flat()), ROWS[:7], 5)
    expected = flat().search(ROWS[:7], 5)
    assert np.array_equal(labels, expected[1])
    assert np.array_equal(scores, expected[0])


def test_a_search_that_runs_out_of_memory_is_divided_and_loses_no_query() -> None:
    library = Library(most_queries=300)
    gpu = open_gpu("cuda:0", library)
    copy = gpu.copy(flat())
    _, labels = gpu.search(copy, ROWS, 1)
    assert labels[:, 0].tolist() == list(range(1000))
    assert copy.searched == [250] * 4


def test_memory_that_is_too_small_for_few_queries_is_said_in_words() -> None:
    gpu = open_gpu("cuda:0", Library(most_queries=10))
    with pytest.raises(
        FaissGpuUnusable,
        match=r"^GPU 0 did not take a search of 250 queries for 3 neighbours: its memory is full: .* 67108864 bytes",
    ):
        gpu.search(gpu.copy(flat()), ROWS, 3)


def test_an_index_that_does_not_fit_is_said_in_words() -> None:
    with pytest.raises(
        FaissGpuUnusable, match=r"copy of an index \(IndexFlatIP, 1,000 vectors of 32 .* memory is full"
    ):
        open_gpu("cuda:0", Library(is_full=True)).copy(flat())


def test_a_type_without_a_form_for_gpus_is_said_in_words() -> None:
    index = faiss.IndexHNSWFlat(32, 8, faiss.METRIC_INNER_PRODUCT)
    with pytest.raises(FaissGpuUnusable, match=r"IndexHNSWFlat, 0 vectors.*no form of it for GPUs.*is no type of GPUs"):
        open_gpu("cuda:0", Library()).copy(index)


def test_longer_lists_than_a_gpu_selects_are_refused_before_the_search() -> None:
    gpu = open_gpu("cuda:0", Library())
    with pytest.raises(FaissGpuUnusable, match="at most 2,048 neighbours"):
        gpu.search(gpu.copy(flat()), ROWS, 2049)


def test_cells_are_trained_and_assigned_as_on_a_cpu() -> None:
    gpu = open_gpu("cuda:0", Library())
    centroids = gpu.train_centroids(ROWS, 9, seed=3)
    assert np.array_equal(centroids, vectors.train_centroids(ROWS, 9, seed=3))
    cells = gpu.nearest_cells(centroids).nearest(ROWS)
    assert np.array_equal(cells, vectors.nearest_cells(ROWS, centroids))
    assert cells.dtype == np.int32


def test_training_that_does_not_fit_is_said_in_words() -> None:
    with pytest.raises(FaissGpuUnusable, match=r"k-means of 1,000 vectors to 4 cells: its memory is full"):
        open_gpu("cuda:0", Library(is_full=True)).train_centroids(ROWS, 4, seed=1)


def test_large_tables_of_a_product_quantiser_are_halved_so_that_they_fit_a_block_of_threads() -> None:
    for n_bytes in (16, 64):
        index = faiss.index_factory(64, f"IVF4,PQ{n_bytes}np", faiss.METRIC_INNER_PRODUCT)
        assert open_gpu("cuda:0", Library()).copy(index).nprobe == 1


def test_scalars_that_would_end_the_process_are_refused_before_the_copy() -> None:
    gpu = open_gpu("cuda:0", Library())
    for codec in ("SQ4", "SQ6", "SQ8", "SQfp16"):
        assert gpu.copy(faiss.index_factory(32, f"IVF4,{codec}", faiss.METRIC_INNER_PRODUCT))
    with pytest.raises(FaissGpuUnusable, match="SQ4, SQ6, SQ8 and SQfp16 have no form for GPUs"):
        gpu.copy(faiss.index_factory(32, "IVF4,SQbf16", faiss.METRIC_INNER_PRODUCT))
