"""`Lookup`: is this image a copy of one in the lake? For services and scripts; no Spark, no Java.

    from dedup_spark import Lookup
    with Lookup.open("s3://bucket/dedup") as lookup:
        answer = lookup.lookup(data)

An answer is the one that a run holding the image would give about its pairs: read by the same decoders, embedded by the
same model, found by the same hashes, thresholds and lists of neighbours, decided by the same evidence.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self, overload

from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.kernels.features.signature import Signature
from dedup_spark.lookup.added import Added, Entry, Removal, address_digest
from dedup_spark.lookup.added_log import MANIFEST, MOST_ADDED, AddedLog, TooManyAdded, is_text
from dedup_spark.lookup.answers import Answer, IndexState, Outcome
from dedup_spark.lookup.asked import Asked
from dedup_spark.lookup.deciding import Judge
from dedup_spark.lookup.finished import FinishedRun, finished_run
from dedup_spark.lookup.forgotten import forgotten_among
from dedup_spark.lookup.library import Library
from dedup_spark.lookup.never import NeverMatch
from dedup_spark.lookup.places import cache_folder, state_folder
from dedup_spark.lookup.reading import Reader, Reading, require_time
from dedup_spark.lookup.searching import Searcher
from dedup_spark.lookup.snapshot import Snapshot, forget_others, open_snapshot
from dedup_spark.sources.addresses import canonical
from dedup_spark.sources.limits import too_large

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a `Lookup` works.

    Attributes:
        cache: Folder for what is made of the tables; None: the user's cache. It may be deleted at any time.
        state: Folder of additions and the negative list; None: the user's state.
        n_decoders: Processes that decode; 0: one a core.
        decode_seconds: The longest that one image may take; None: extract.decoder_timeout_seconds of the run.
        reload_seconds: How often to look for a new run; 0: never by itself.
        max_weighed: Thumbnails compared for one image at most: those of the least certain pairs, 11 to 30 ms each.
            About six times as many images of the lake may vote on them, 6 ms each.
    """

    cache: str | None = None
    state: str | None = None
    n_decoders: int = 0
    decode_seconds: float | None = None
    reload_seconds: float = 30.0
    max_weighed: int = 64


@dataclass(frozen=True)
class _State:
    """What a look-up works with; a new run puts another one in its place, and look-ups under way keep theirs."""

    run: FinishedRun
    reading: Reading
    reader: Reader
    searcher: Searcher
    log: AddedLog


class Lookup:
    """Answers from the last finished run of a set of tables. Used by any number of threads; `close` it at the end."""

    def __init__(self, tables: str, options: Options) -> None:
        """See `open`."""
        self._tables, self._options = tables, options
        run = finished_run(tables)
        self._cache, folder = cache_folder(run.root, options.cache), state_folder(run.root, options.state)
        self._folder, self._log, self._never = folder, AddedLog(folder), NeverMatch(folder)
        self._adding, self._reloading = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        self._readers: tuple[Reading, Reader] | None = None
        self._leaving: list[tuple[threading.Timer, Reader]] = []
        self.reload_error: str | None = None
        try:
            self._state = self._open(run)
        except BaseException:
            self._close_readers()
            raise
        if options.reload_seconds > 0:
            threading.Thread(target=self._watch, name="reload", daemon=True).start()

    @classmethod
    def open(cls, tables: str | os.PathLike[str], options: Options = Options()) -> Self:
        """Open the tables at a path or URI. The first time this copies thumbnails and vectors into the cache.

        Raises:
            ConfigError: no run is finished, or this installation has not the model of the lake.
            TableError: there are no tables.
        """
        return cls(os.fspath(tables), options)

    @overload
    def lookup(
        self, images: bytes, *, exhaustive: bool = False, others: bool = False, ends_at: float | None = None
    ) -> Answer: ...

    @overload
    def lookup(
        self, images: Sequence[bytes], *, exhaustive: bool = False, others: bool = False, ends_at: float | None = None
    ) -> list[Answer]: ...

    def lookup(
        self,
        images: bytes | Sequence[bytes],
        *,
        exhaustive: bool = False,
        others: bool = False,
        ends_at: float | None = None,
    ) -> Answer | list[Answer]:
        """What each of these image files shows; several are decoded and embedded together.

        Args:
            exhaustive: Go on where equal bytes or pixels have answered already, and compare with every vector instead
                of by sketches (0.5 us an image of the lake).
            others: Also give the images that were compared and are no copies.
            ends_at: A time of time.monotonic() at which nobody waits any more; TimeoutError is raised then.
        """
        several = [images] if isinstance(images, bytes) else images
        answers = [_answer_of(one) for one in self._asked(several, exhaustive, others, ends_at)]
        return answers[0] if isinstance(images, bytes) else answers

    def add(self, image: bytes, uri: str, *, ends_at: float | None = None) -> Answer:
        """Make an image findable at once, under its address, until a run holds it there. Returns what it shows itself.

        It is on the disk when this returns. An image that is rejected, or matches never, is not added; of an address
        the last image counts.

        Raises:
            ConfigError: `uri` is empty or no text, or was forgotten.
            TooManyAdded: a run has to take over first what was added before.
        """
        address = _address(uri)
        (one,) = self._asked([image], exhaustive=True, others=False, ends_at=ends_at)
        answer = _answer_of(one)
        if answer.outcome not in (Outcome.REJECTED, Outcome.NEVER_MATCH):
            self._require_addable(address)
            held = self._state.searcher.library.added.at(address)
            if held is None or held.content_hash != one.digest:
                self._log.append(one.entry(address, datetime.now(UTC)))
                self._current()
        return answer

    def remove(self, uri: str) -> int:
        """Take back what was added at this address, from the disk too; returns how many images. Other processes find it
        no more from their next look on. What a run holds is for `dedup-spark forget`."""
        address = _address(uri)
        n_removed = int(self._current().searcher.library.added.at(address) is not None)
        if n_removed:
            self._log.append(Removal(address_digest(address), datetime.now(UTC)))
            self._log.retire(lambda entry: False)
            self._current()
        return n_removed

    @property
    def lakes(self) -> tuple[str, ...]:
        """The roots of the lakes that were looked through."""
        return self._state.run.lakes

    @property
    def max_bytes(self) -> int:
        """Of the largest image that the run read: extract.max_object_bytes."""
        return self._state.run.config.extract.max_object_bytes

    def rejected(self, why: ImageRejected) -> Answer:
        """The answer for an image whose bytes cannot be had."""
        state = self._current()
        asked = Asked(b"", state.searcher, _index(state), exhaustive=False, others=False)
        asked.read(why)
        return _answer_of(asked)

    def warm(self) -> None:
        """Start the decoder processes now and not with the first images."""
        self._state.reader.warm()

    def never_match(
        self, image: bytes | None = None, *, content_hash: str | None = None, pixel_hash: str | None = None,
        phash: str | None = None, max_bits: int = 0, reason: str = "",
    ) -> None:  # fmt: skip
        """Let an image (its bytes and its pixels), or a hash in hex, match nothing from now on.

        Args:
            max_bits: Of a pHash, also those that differ in so many bits, at most 3.

        Raises:
            ConfigError: a hash that is none, or nothing was given.
        """
        hashes = {"content_hash": content_hash, "pixel_hash": pixel_hash, "phash": phash}
        if image is not None:
            hashes |= self._hashes_of(image)
        given = {kind: value for kind, value in hashes.items() if value}
        if not given:
            raise ConfigError("never_match: expected an image or a hash")
        for kind, value in given.items():
            self._never.add(kind, value, reason, max_bits if kind == "phash" else 0)

    def thumbnail(self, image_id: int) -> bytes | None:
        """The stored JPEG of an image of the lake; None where there is none."""
        snapshot = self._state.searcher.library.snapshot
        row = snapshot.row_of(image_id)
        return None if row is None else snapshot.thumbnail(row)

    def facts(self, image_id: int) -> dict[str, object] | None:
        """What is known of an image of the lake: address, sides, cluster; None where there is none."""
        snapshot = self._state.searcher.library.snapshot
        row = snapshot.row_of(image_id)
        return None if row is None else snapshot.facts(row)

    @property
    def index(self) -> IndexState:
        """Which run is asked, and how old it is. It waits for nothing; what was added it knows as of the last look."""
        return _index(self._state)

    def reload(self) -> bool:
        """Open the run that is the last finished one now; returns whether it is another one than before.

        Look-ups go on meanwhile, with the run before. Raises what `open` raises; then that run stays.
        """
        with self._reloading:
            state, run = self._state, finished_run(self._tables)
            if (run.name, run.changed_at) == (state.run.name, state.run.changed_at):
                if run.checked_at != state.run.checked_at:
                    self._state = replace(state, run=run)
                return False
            opened = self._opened_beside(run)
            if opened.reader is not state.reader:
                self._close_later(state.reader)
            log.info("lookup: run %s is open, in place of %s", run.run_id, state.run.run_id)
            return True

    def close(self) -> None:
        """End the decoder processes and the thread that looks for new runs."""
        self._closing.set()
        self._close_readers()

    def _close_readers(self) -> None:
        for timer, reader in self._leaving:
            timer.cancel()
            reader.close()
        if self._readers:
            self._readers[1].close()

    def _close_later(self, reader: Reader) -> None:
        """When the look-ups under way with it are done."""
        later = threading.Timer(_LONGEST_SECONDS, reader.close)
        later.daemon = True
        later.start()
        self._leaving = [(timer, other) for timer, other in self._leaving if timer.is_alive()] + [(later, reader)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_addable(self, address: str) -> None:
        state = self._current()
        if len(state.searcher.library.added) >= MOST_ADDED:
            raise TooManyAdded(
                f"{MOST_ADDED:,} additions are open: let a run take them over first (`dedup-spark run` on {MANIFEST})"
            )
        if forgotten_among(state.run.root, [address]):
            raise ConfigError("add: this address was forgotten (`dedup-spark forget`), so no run would list it")

    def _asked(
        self, images: Sequence[bytes], exhaustive: bool, others: bool, ends_at: float | None = None
    ) -> list[Asked]:
        """The images with their answers, each by the cheapest stage that knows one."""
        state = self._current()
        index, most = _index(state), state.run.config.extract.max_object_bytes
        asked = [Asked(data, state.searcher, index, exhaustive, others) for data in images]
        for one in asked:
            if len(one.data) > most:
                one.read(too_large(most, len(one.data)))
            else:
                one.by_bytes()
        for one, outcome in _read(state.reader, [one for one in asked if one.answer is None], ends_at):
            one.read(outcome)
            one.by_pixels()
        _embed(state.reader, [one for one in asked if one.answer is None])
        for one in asked:
            require_time(ends_at)
            one.by_likeness()
        return asked

    def _hashes_of(self, image: bytes) -> dict[str, str]:
        outcome = self._state.reader.sign([image])[0]
        pixels = {} if isinstance(outcome, ImageRejected) else {"pixel_hash": outcome.pixel_hash}
        return {"content_hash": content_hash(image)} | pixels

    def _opened_beside(self, run: FinishedRun) -> _State:
        """As `_open`; where that fails nothing is left of it."""
        before = self._readers
        try:
            return self._open(run)
        except BaseException:
            if self._readers is not None and self._readers is not before:
                self._readers[1].close()
            self._readers = before
            raise

    def _open(self, run: FinishedRun) -> _State:
        """Open a run, and put its state in the place of the one before; the additions that it holds are retired."""
        snapshot = open_snapshot(run, self._cache)
        reading = Reading.of(run.config.extract, snapshot.model_id, threads=1)
        reader = self._reader(reading)
        judge = Judge(run.config, snapshot.model_id, max_weighed=self._options.max_weighed)
        added = Added(len(snapshot), snapshot.model_id)
        self._retire(run, snapshot)
        log_of_state = AddedLog(self._folder, is_tidy=True)  # each state reads on by itself, and nobody waits for that
        added.extend(log_of_state.read_all())
        searcher = Searcher(Library(snapshot, added), judge, self._never)
        self._state = _State(run, reading, reader, searcher, log_of_state)
        self._forget_others(run)
        return self._state

    def _forget_others(self, run: FinishedRun) -> None:
        """Copies of what this run has no more go from the cache."""
        try:
            forget_others(run, self._cache)
        except (DedupError, OSError) as e:  # the run is open, and answers; the next open tries again
            log.warning("lookup: what run %s does not need is left in %s: %s", run.run_id, self._cache, e)

    def _reader(self, reading: Reading) -> Reader:
        if self._readers and self._readers[0] == reading:
            return self._readers[1]
        n = self._options.n_decoders or len(os.sched_getaffinity(0))
        reader = Reader(reading, n_decoders=n, timeout_seconds=self._options.decode_seconds)
        self._readers = (reading, reader)
        return reader

    def _retire(self, run: FinishedRun, snapshot: Snapshot) -> None:
        """Drop what the run holds, or what was forgotten, from the log. Nothing else: a run that found other bytes at
        an address may have listed it before they were replaced."""
        uris = sorted({entry.uri for entry in self._log.entries()})
        held = snapshot.contents_at(uris) if uris else {}
        forgotten = forgotten_among(run.root, uris)

        def is_done(entry: Entry) -> bool:
            return entry.uri in forgotten or entry.content_hash in held.get(entry.uri, set())

        if n_retired := self._log.retire(is_done):
            log.info(
                "lookup: run %s holds %d additions, or they were forgotten: they are retired", run.run_id, n_retired
            )

    def _current(self) -> _State:
        """The state, with what was added meanwhile by whichever process. What a newer run holds, which another process
        has opened already, stays here until this one has it too."""
        with self._adding:
            state = self._state
            state.searcher.library.added.extend(state.log.read()[1])
            return state

    def _watch(self) -> None:
        while not self._closing.wait(self._options.reload_seconds):
            try:
                self.reload()
                self.reload_error = None
            except Exception as e:  # whatever it is: the run that is open goes on answering, and the next look may work
                self.reload_error = str(e)
                log.warning("lookup: the tables cannot be opened anew, and run %s stays: %s", self._state.run.run_id, e)


_LONGEST_SECONDS = 600.0
"""Look-ups under way with a reader that a new run does not use any more are done after that."""


def _answer_of(one: Asked) -> Answer:
    assert one.answer is not None
    return one.answer


def _address(uri: str) -> str:
    """Its canonical form. Raises ConfigError for what no manifest and no table holds."""
    if not uri.strip() or not is_text(uri) or "\0" in uri:
        raise ConfigError("expected the address of the image, from which the next run reads it, as text")
    return canonical(uri)


def _read(
    reader: Reader, asked: list[Asked], ends_at: float | None
) -> Iterator[tuple[Asked, Signature | ImageRejected]]:
    begin = time.perf_counter()
    outcomes = reader.sign([one.data for one in asked], ends_at) if asked else []
    for one, outcome in zip(asked, outcomes, strict=True):
        one.seconds["read"] = time.perf_counter() - begin
        yield one, outcome


def _embed(reader: Reader, asked: list[Asked]) -> None:
    begin = time.perf_counter()
    signatures = [one.signature for one in asked if one.signature is not None]
    for one, vector in zip(asked, reader.embed(signatures), strict=True):
        one.vector, one.seconds["embed"] = vector, time.perf_counter() - begin


def _index(state: _State) -> IndexState:
    run, library = state.run, state.searcher.library
    return IndexState(
        run_id=run.run_id,
        version=run.name,
        made_at=run.made_at,
        checked_at=run.checked_at,
        age_seconds=(datetime.now(UTC) - run.checked_at).total_seconds(),
        n_images=len(library.snapshot),
        n_added=len(library.added),
    )
