"""Which images need a forward pass of the model, and which take the vector of an image that had one. On executors.

The model sees its input and nothing else, so inputs of equal pixels have equal vectors: those of equal bytes, and those
of equal pictures in different files (another format without loss, other metadata). `extract.reuse_embedding` says
what counts as equal. The vectors that a Python worker made last are kept from task to task, about 1.4 KB each.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from cachetools import LRUCache

from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.features.grids import GridLog, grid_of
from dedup_spark.models.base import ModelSettings

Row = dict[str, Any]
_VECTORS_KEPT = 16_384
"""Of 512 dimensions about 23 MB per worker."""
_GRIDS_KEPT = 2_048
"""Of 3 KB each; one look at all of them takes 0.1 ms."""
_ROWS_PER_PASS = 4
"""A batch ends after so many times its images in rows, however few of them need a pass, so that rows do not pile up."""


@dataclass(slots=True, eq=False)
class ModelInput:
    """What the model gets of one image, and then its vector. Images whose bytes are equal share one.

    Attributes:
        pixels: (input_px, input_px, 3) uint8 RGB; None as soon as nobody needs them.
        digest: SHA-256 of the pixels; empty where it is not asked for.
        phash: That of the image; only for `near`.
        grid: As `grids.grid_of`; only for `near`.
        vector: Little-endian float16, after the forward pass.
        task: The mark of the task that gave it to the model.
        donor: The earlier input whose vector this one takes.
    """

    pixels: UInt8 | None
    digest: bytes = b""
    phash: int | None = None
    grid: UInt8 | None = None
    vector: bytes | None = None
    task: object = None
    donor: ModelInput | None = None


@dataclass
class Batch:
    """Rows in order, and the inputs that the model has to see for them."""

    rows: list[Row] = field(default_factory=list)
    inputs: list[ModelInput] = field(default_factory=list)


class Planner(Protocol):
    """Decides, row by row and in their order, which inputs the model sees. One per task, used by one thread."""

    recent_images: int
    """How many images a task remembers to decode identical bytes once; with each it keeps its `ModelInput`."""

    def input_of(self, pixels: UInt8, phash: int | None = None) -> ModelInput:
        """With what `place` will need. Called by many threads."""
        ...

    def place(self, given: ModelInput) -> tuple[ModelInput, bool]:
        """The input whose vector this one takes, itself or an earlier one, and whether the model has yet to see it."""
        ...


class EveryImage:
    """`off`: each image has a forward pass of its own."""

    recent_images = 64  # about 210 KB each, as pixels are kept

    def input_of(self, pixels: UInt8, phash: int | None = None) -> ModelInput:
        return ModelInput(pixels)

    def place(self, given: ModelInput) -> tuple[ModelInput, bool]:
        return ModelInput(given.pixels), True  # equal bytes share `given`


class EqualPixels:
    """`pixels`: one forward pass for all inputs of equal pixels that this worker still remembers.

    Inputs under way count too: the model sees batches in order, so an earlier one has its vector by then.
    """

    recent_images = 512  # about 12 KB each: the images of a task by default

    def __init__(self, known: LRUCache[bytes, ModelInput]) -> None:
        self._known, self._mark = known, object()

    def input_of(self, pixels: UInt8, phash: int | None = None) -> ModelInput:
        return ModelInput(pixels, hashlib.sha256(pixels).digest())

    def place(self, given: ModelInput) -> tuple[ModelInput, bool]:
        if given.donor is not None:
            return given.donor, False
        if self._will_have_vector(given):
            return given, False
        donor = self._find(given)
        if donor is None:
            given.task = self._mark
            self._remember(given)
            return given, True
        given.donor, given.pixels, given.grid = donor, None, None
        return donor, False

    def _find(self, given: ModelInput) -> ModelInput | None:
        donor = self._known.get(given.digest)
        return donor if donor is not None and self._will_have_vector(donor) else None

    def _remember(self, given: ModelInput) -> None:
        self._known[given.digest] = given

    def _will_have_vector(self, one: ModelInput) -> bool:
        """Not so where it was under way in a task that failed."""
        return one.vector is not None or one.task is self._mark


class NearPixels(EqualPixels):
    """`near`: in addition, images of this task take the vector of one that had a pass and looks the same.

    That is: pHashes and grids within the bounds of `kernels/features/grids.py`. Which image has the pass depends
    on the order of the task, so vectors do too. A vector that was taken over is never passed on: differences do not add
    up.
    """

    def __init__(self, known: LRUCache[bytes, ModelInput]) -> None:
        super().__init__(known)
        self._log: GridLog[ModelInput] = GridLog(_GRIDS_KEPT)

    def input_of(self, pixels: UInt8, phash: int | None = None) -> ModelInput:
        made = super().input_of(pixels)
        made.phash, made.grid = phash, grid_of(pixels)
        return made

    def _find(self, given: ModelInput) -> ModelInput | None:
        donor = super()._find(given)
        if donor is None and given.phash is not None and given.grid is not None:
            donor = self._log.find(given.phash, given.grid)
        return donor

    def _remember(self, given: ModelInput) -> None:
        super()._remember(given)
        if given.phash is not None and given.grid is not None:
            self._log.add(given.phash, given.grid, given)
            given.grid = None


_PLANNERS: dict[str, type[EqualPixels]] = {"pixels": EqualPixels, "near": NearPixels}


def planner_of(reuse_embedding: str, model: ModelSettings) -> Planner:
    """The planner of a task by `extract.reuse_embedding`."""
    kind = _PLANNERS.get(reuse_embedding)
    return kind(_known_vectors(reuse_embedding, model)) if kind else EveryImage()


@functools.cache
def _known_vectors(reuse_embedding: str, model: ModelSettings) -> LRUCache[bytes, ModelInput]:
    """Of this Python worker, in which one task runs at a time."""
    return LRUCache(_VECTORS_KEPT)


def in_batches(rows: Iterable[Row], batch_images: int, planner: Planner) -> Iterator[Batch]:
    """All rows in order; each batch has `batch_images` inputs for the model, or fewer where it holds many rows.

    `model_input` of a row becomes the input whose vector it takes.
    """
    batch = Batch()
    for row in rows:
        given = row.get("model_input")
        if given is not None:
            row["model_input"], is_new = planner.place(given)
            if is_new:
                batch.inputs.append(row["model_input"])
        batch.rows.append(row)
        if len(batch.inputs) == batch_images or len(batch.rows) == _ROWS_PER_PASS * batch_images:
            yield batch
            batch = Batch()
    if batch.rows:
        yield batch
