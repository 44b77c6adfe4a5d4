"""Public functions that take arrays refuse another shape or dtype by a sentence with the name of the array."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dedup_spark.kernels import faiss_index, vectors
from dedup_spark.kernels.clusters import components, grouping, keeping, linkage
from dedup_spark.kernels.comparing import geometry, probability
from dedup_spark.kernels.features import hashing, quality
from dedup_spark.kernels.joins import base, hashes, recall, sketch, sketches

IDS, CELLS, HALVES = np.arange(6), np.zeros(6, np.int32), np.eye(6, 8, dtype=np.float16)
SINGLES, CENTROIDS, DOUBLES = HALVES.astype(np.float32), np.eye(2, 8, dtype=np.float32), np.full(6, 0.5)
GREY, SQUARE = np.zeros((20, 30), np.uint8), np.eye(6)
BYTES, WORDS = np.zeros((6, 16), np.uint8), np.zeros((6, 2), np.uint64)

FLAT = faiss_index.train_index("Flat", CENTROIDS, SINGLES)

DOORS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (vectors.train_centroids, {"sample": SINGLES, "n_cells": 2, "seed": 1}),
    (vectors.nearest_cells, {"vectors": SINGLES, "centroids": CENTROIDS}),
    (vectors.Quantiser, {"centroids": CENTROIDS}),
    (vectors.Quantiser(CENTROIDS).nearest, {"vectors": SINGLES}),
    (vectors.build_shard, {"ids": IDS, "vectors": HALVES, "cells": CELLS, "centroids": CENTROIDS}),
    (vectors.to_float32, {"vectors": HALVES}),
    (vectors.cosines, {"a": HALVES, "b": HALVES}),
    (faiss_index.train_index, {"text": "IVF,Flat", "centroids": CENTROIDS, "sample": SINGLES}),
    (faiss_index.fill_index, {
        "trained": FLAT, "ids": IDS, "vectors": SINGLES, "cells": CELLS, "centroids": CENTROIDS
    }),
    (faiss_index.over_all_cells, {
        "index": vectors.build_shard(IDS, HALVES, CELLS, CENTROIDS), "held": CELLS[:1], "centroids": CENTROIDS
    }),
    (faiss_index.scores_of, {
        "index": faiss_index.fill_index(FLAT, IDS, SINGLES, CELLS, CENTROIDS), "queries": SINGLES, "ids": IDS
    }),
    (base.Block, {"ids": IDS, "vectors": HALVES, "cells": CELLS}),
    (base.best, {"row": IDS, "other_id": IDS, "similarity": SINGLES[0, :6].copy(), "k": 1}),
    (hashes.near_in_buckets, {"keys": IDS, "hashes": IDS, "max_bits": 3, "max_bucket": 9}),
    (sketches.negatives_of, {"vectors": HALVES}),
    (sketches.make_sketches, {"vectors": SINGLES, "n_bits": 128, "seed": 1}),
    (sketch.BlockSketches, {"first": BYTES, "rest": WORDS}),
    (sketch.split_sketches, {"sketches": BYTES, "sketch_filter": sketches.SketchFilter(64, 64, 9, 9)}),
    (sketch.near_in_first_bits, {"queries": BYTES, "base": BYTES, "radius": 3}),
    (components.label_components, {"a": IDS, "b": IDS}),
    (components.shortest_path, {"a": IDS, "b": IDS, "similarity": DOUBLES, "start": 1, "goal": 1}),
    (geometry.describe_grey, {"grey": GREY}),
    (geometry.centred_blocks, {"grey": GREY}),
    (geometry.cut_blocks, {"plane": GREY.astype(np.float32)}),
    (grouping.group_component, {
        "n": 6, "a": IDS, "b": IDS, "probability": DOUBLES, "min_probability": 0.5, "method": "average"
    }),
    (keeping.centre, {"near": SQUARE > 0, "rank": IDS}),
    (keeping.assign_keepers, {"distance": SQUARE.astype(np.float32), "alike": SQUARE > 0, "rank": IDS}),
    (linkage.cut_component, {"similarity": SQUARE, "min_similarity": 0.5, "method": "average"}),
    (linkage.cosine_matrix, {"vectors": HALVES}),
    (linkage.agreement_matrix, {"phashes": IDS}),
    (linkage.merge_tree, {"similarity": SQUARE, "method": "average"}),
    (linkage.newick, {"tree": np.array([[0.0, 1.0, 0.5, 2.0]]), "names": ["a", "b"]}),
    (probability.prior, {"model": probability.PRIORS["sscd"], "cosine": DOUBLES, "normalised": DOUBLES}),
    (hashing.hamming_bits, {"a": IDS, "b": IDS}),
    (quality.sharpness, {"grey": GREY}),
    (quality.luma_stddev, {"grey": GREY}),
    (quality.entropy_bits, {"grey": GREY}),
]  # fmt: skip
CASES = [
    pytest.param(f, arguments, name, id=f"{f.__qualname__} {name}")
    for f, arguments in DOORS
    for name, value in arguments.items()
    if isinstance(value, np.ndarray)
]


@pytest.mark.parametrize(("function", "arguments", "name"), CASES)
def test_an_array_of_another_shape_or_dtype_is_refused(
    function: Callable[..., Any], arguments: dict[str, Any], name: str
) -> None:
    function(**arguments)
    array = arguments[name]
    with pytest.raises(ValueError, match=r"^\w+: expected \w+ of shape \(.*; found \w+ of shape \("):
        function(**arguments | {name: array[..., None]})
    with pytest.raises(ValueError, match=r"^\w+: expected \w+ of shape \(.*; found complex128 of shape \("):
        function(**arguments | {name: array.astype(np.complex128)})


def test_recall_needs_as_many_found_as_true_counts() -> None:
    with pytest.raises(ValueError, match=r"n_found: expected float64 .* n = 3; found float64 of shape \(2,\)"):
        recall.estimate([1, 2, 3], [1, 2], 100)


ALL_OF = [vectors, faiss_index, components, keeping, hashing, quality, hashes]


@pytest.mark.parametrize("module", ALL_OF, ids=lambda m: m.__name__)
def test_every_public_function_that_takes_arrays_is_among_those_above(module: Any) -> None:
    tried = {function.__qualname__ for function, _ in DOORS}
    for name, function in inspect.getmembers(module, inspect.isfunction):
        taken = [str(kind) for argument, kind in function.__annotations__.items() if argument != "return"]
        if function.__module__ == module.__name__ and not name.startswith("_"):
            assert name in tried or not any(kind.startswith(("Float", "Int", "UInt", "Bools")) for kind in taken)
