"""Who is worked for, who waits, and who is told to come again: a bounded number of threads behind a bounded queue."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from dedup_spark.errors import DedupError
from dedup_spark.lookup.lookup import Lookup, Options
from dedup_spark.lookup.service.bodies import Bodies, Held
from dedup_spark.lookup.service.metrics import Metrics
from dedup_spark.lookup.service.settings import ServiceSettings
from dedup_spark.lookup.service.uploads import Refused

log = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0


class Work:
    """Opens the tables beside the requests, and runs look-ups in threads."""

    def __init__(self, tables: str, options: Options, settings: ServiceSettings) -> None:
        self.settings, self.metrics, self.bodies = settings, Metrics(), Bodies(settings.held_bytes)
        self._tables, self._options = tables, options
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="look-up")
        self._lookup: Lookup | None = None
        self._why_not = "the tables are being opened"
        self._closing = threading.Event()
        self._opening = threading.Thread(target=self._open, name="open", daemon=True)
        self._opening.start()

    @property
    def lookup(self) -> Lookup:
        """Raises Refused (503) until the tables are open."""
        if self._lookup is None:
            raise Refused(503, self._why_not)
        return self._lookup

    @property
    def is_open(self) -> bool:
        """Whether the tables are open."""
        return self._lookup is not None

    @contextmanager
    def receiving(self) -> Iterator[Held]:
        """The share of a request in the bytes that are held, for the time until `run` has it."""
        held = self.bodies.hold()
        try:
            yield held
        finally:
            if not held.is_lent:
                held.release()

    async def run[Result](self, do: Callable[[Lookup, float], Result], held: Held) -> Result:
        """`do` in a thread, with the time (of time.monotonic) at which nobody waits for it any more; what the request
        holds is free when it has ended. Raises Refused: 503 where too many wait, 504 after `answer_seconds`."""
        lookup, ends_at = self.require_room(), time.monotonic() + self.settings.answer_seconds
        future = self._threads.submit(do, lookup, ends_at)
        self.metrics.in_flight += 1
        held.is_lent = True
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: held.release())
        future.add_done_callback(lambda _: _soon(loop, self._done))
        return await self._within(future)

    def require_room(self) -> Lookup:
        """What is looked up in. Raises Refused (503) where too many wait, or the tables are not open."""
        lookup = self.lookup
        if self.metrics.in_flight >= self.settings.threads + self.settings.max_waiting:
            self.metrics.count("refused_total", why="busy")
            raise Refused(503, "too many requests are waiting")
        return lookup

    async def _within[Result](self, future: Future[Result]) -> Result:
        try:
            waited = asyncio.shield(asyncio.wrap_future(future))
            async with asyncio.timeout(self.settings.answer_seconds):
                return await waited
        except TimeoutError:
            future.cancel()  # where it still waits for a thread
            self.metrics.count("refused_total", why="late")
            raise Refused(504, f"no answer within {self.settings.answer_seconds:g} s") from None

    def _done(self) -> None:
        self.metrics.in_flight -= 1

    def close(self) -> None:
        """End threads and decoder processes."""
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._lookup is not None:
            self._lookup.close()

    def _open(self) -> None:
        """Again and again, until the tables are there: a service may be started before the first run has finished."""
        while not self._closing.is_set():
            try:
                self._lookup = _opened(self._tables, self._options)
                log.info("serve: run %s is open", self._lookup.index.run_id)
                return
            except DedupError as e:
                self._why_not = str(e)
            except Exception as e:  # a store that is down: the next try may work, and /readyz says why
                self._why_not = f"{type(e).__name__}: {e}"
            log.warning("serve: the tables cannot be opened yet: %s", self._why_not)
            self._closing.wait(_RETRY_SECONDS)


def _opened(tables: str, options: Options) -> Lookup:
    """With its decoder processes; where these do not start, nothing of it is left."""
    opened = Lookup.open(tables, options)
    try:
        opened.warm()
    except BaseException:
        opened.close()
        raise
    return opened


def _soon(loop: asyncio.AbstractEventLoop, do: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(do)
