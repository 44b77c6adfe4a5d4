"""The model's thread beside the decoders."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dedup_spark.errors import ArtifactError
from dedup_spark.stages.reading.embedding import with_embeddings
from dedup_spark.stages.reading.reuse import EveryImage

EVERY = EveryImage()


class Model:
    """Counts the images of each batch; may wait until it is let go on."""

    model_id, dimensions = "counting/1", 2

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[int] = []
        self.gate = gate

    def embed(self, images: np.ndarray) -> np.ndarray:
        if self.gate is not None:
            assert self.gate.wait(30)
        self.batches.append(len(images))
        return np.stack([images.mean((1, 2, 3)), np.ones(len(images))], axis=1).astype(np.float32)


def rows(n: int, without: tuple[int, ...] = ()) -> Iterator[dict[str, Any]]:
    for i in range(n):
        yield {"image_id": i} | (
            {} if i in without else {"model_input": EVERY.input_of(np.full((2, 2, 3), i, np.uint8))}
        )


def test_rows_come_in_order_with_their_own_vectors_and_rejects_without() -> None:
    model = Model()
    groups = list(with_embeddings(rows(10, without=(3, 8, 9)), 4, lambda: model, EVERY))
    flat = [row for group in groups for row in group]
    assert [len(group) for group in groups] == [5, 5]  # rejects take no place in a batch of the model
    assert [row["image_id"] for row in flat] == list(range(10))
    for row in flat:
        if row["image_id"] in (3, 8, 9):
            assert "embedding" not in row
        else:
            assert np.frombuffer(row["embedding"], "<f2")[0] == row["image_id"]
            assert row["model_id"] == "counting/1"
    assert model.batches == [4, 3]


def test_rows_without_pixels_do_not_wait_for_a_full_batch_and_do_not_reach_the_model() -> None:
    model = Model()
    groups = list(with_embeddings(rows(20, without=tuple(range(17))), 4, lambda: model, EVERY))
    assert [len(group) for group in groups] == [16, 4]
    assert model.batches == [3]


def test_the_next_batch_is_gathered_while_the_model_works() -> None:
    gate, asked = threading.Event(), []

    def watched() -> Iterator[dict[str, Any]]:
        for row in rows(8):
            asked.append(row["image_id"])
            if len(asked) == 8:
                gate.set()  # the model's first batch ends only now: both halves were gathered by then
            yield row

    groups = with_embeddings(watched(), 4, lambda: Model(gate), EVERY)
    assert [row["image_id"] for row in next(groups)] == [0, 1, 2, 3]
    assert asked == list(range(8))
    assert len(next(groups)) == 4


def test_the_first_row_of_a_group_has_the_work_of_its_batch() -> None:
    for group in with_embeddings(rows(6), 3, Model, EVERY):
        assert group[0]["model_seconds"] >= 0
        assert group[0]["waited_seconds"] >= 0
        assert group[0]["forward_passes"] == 3
        assert not [row for row in group[1:] if "model_seconds" in row]


def test_what_goes_wrong_in_the_thread_is_raised_here() -> None:
    def fails() -> Model:
        raise ArtifactError("no such weights")

    with pytest.raises(ArtifactError, match="no such weights"):
        list(with_embeddings(rows(3), 2, fails, EVERY))


def test_a_consumer_that_stops_early_leaves_no_thread_behind() -> None:
    groups = with_embeddings(rows(100), 2, Model, EVERY)
    next(groups)
    groups.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("model")]


def test_no_rows_make_no_groups() -> None:
    assert list(with_embeddings(iter(()), 4, Model, EVERY)) == []
