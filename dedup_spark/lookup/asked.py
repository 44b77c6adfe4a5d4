"""One image on its way through a look-up: what is known of it so far, and its answer as soon as that is enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from dedup_spark.kernels.arrays import Float16
from dedup_spark.kernels.comparing.probability import DENSITY_RANK
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.kernels.features.signature import Signature
from dedup_spark.lookup.added import Entry, ranks_of
from dedup_spark.lookup.answers import Answer, Found, IndexState, Outcome
from dedup_spark.lookup.proposing import Compared
from dedup_spark.lookup.searching import Searcher
from dedup_spark.vocabulary import DecidedBy


@dataclass
class Asked:
    """Cheap stages first: `by_bytes`, then with `signature` `by_pixels`, then with `vector` `by_likeness`.

    `exhaustive`: equal bytes or pixels do not end it, and vectors are compared exactly. `others`: what is no copy is
    part of the answer.
    """

    data: bytes
    searcher: Searcher
    index: IndexState
    exhaustive: bool
    others: bool
    signature: Signature | None = None
    vector: Float16 | None = None
    answer: Answer | None = None
    compared: Compared | None = None
    n_left_out: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    _rows: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.digest = content_hash(self.data)
        self.listed = self.searcher.never.listed()

    def by_bytes(self) -> None:
        """Whether the negative list or equal bytes answer."""
        with self.timed("search"):
            self._refuse(self._reason_of_bytes())
            self._identical("content_hash", self.digest)

    def read(self, outcome: Signature | ImageRejected) -> None:
        """What the decoder said."""
        if isinstance(outcome, ImageRejected):
            self._finish(Outcome.REJECTED, str(outcome.reason), outcome.message)
        else:
            self.signature = outcome

    def by_pixels(self) -> None:
        """Whether the negative list or equal pixels answer."""
        if self.answer is None and self.signature is not None:
            with self.timed("search"):
                pixels = self.signature.pixel_hash
                self._refuse(self.listed.reason(self.digest, pixels, self.signature.phash))
                self._identical("pixel_hash", pixels)

    def by_likeness(self) -> None:
        """What is near, and whether these are copies."""
        if self.answer is not None or self.signature is None:
            return
        with self.timed("search"):
            compared, own_rows = self.searcher.compare(
                self.digest, self.signature, self.vector, exactly=self.exhaustive
            )
        with self.timed("weigh"):
            near = self.searcher.near(self.signature, compared, self.listed, own_rows)
            self.found += near.found
        self.compared, self.n_left_out = compared, near.n_left_out
        self._finish(Outcome.COPIES if any(one.is_copy for one in self.found) else Outcome.NO_COPY)

    def entry(self, uri: str, at: datetime) -> Entry:
        """As an addition; after `by_likeness` of an image that could be read."""
        assert self.signature is not None
        assert self.compared is not None
        snapshot = self.searcher.library.snapshot
        cosines = self.compared.similarity[self.compared.similarity >= np.float32(snapshot.floor)]
        return Entry(
            uri=uri,
            added_at=at,
            content_hash=self.digest,
            model_id=None if self.vector is None else snapshot.model_id,
            embedding=None if self.vector is None else self.vector.tobytes(),
            ranks=ranks_of(cosines, snapshot.run.config.match.neighbours, DENSITY_RANK),
            signature=replace(self.signature, model_input=None),
        )

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what the block takes to the seconds of a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

    def _refuse(self, reason: str | None) -> None:
        if reason is not None:
            self._finish(Outcome.NEVER_MATCH, reason)

    def _reason_of_bytes(self) -> str | None:
        reason = self.listed.reason(self.digest)
        return reason if reason is not None else self.searcher.reason_of_bytes(self.digest, self.listed)

    def _identical(self, column: str, digest: str) -> None:
        if self.answer is not None:
            return
        for row, one in self.searcher.identical(column, digest, self._rows, self.listed):
            self._rows.add(row)
            self.found.append(one)
        if self.found and not self.exhaustive:
            self._finish(Outcome.COPIES)

    def _finish(self, outcome: Outcome, reason: str | None = None, message: str | None = None) -> None:
        found = self.found if outcome in (Outcome.COPIES, Outcome.NO_COPY) else []
        undecided = sum(one.decided_by == DecidedBy.UNDECIDED for one in found)
        self.answer = Answer(
            outcome=outcome,
            copies=tuple(one for one in found if one.is_copy),
            others=tuple(one for one in found if not one.is_copy) if self.others else (),
            n_undecided=undecided,
            n_left_out=self.n_left_out,
            reason=reason,
            message=message,
            content_hash=self.digest,
            pixel_hash=self.signature.pixel_hash if self.signature else None,
            phash=self.signature.phash if self.signature else None,
            index=self.index,
            seconds=self.seconds,
        )
