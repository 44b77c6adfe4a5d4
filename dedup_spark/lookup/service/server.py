"""Runs the service by uvicorn until it is told to end: requests under way are answered first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from typing import Any

import cv2
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dedup_spark.lookup.lookup import Options
from dedup_spark.lookup.service.app import make_app
from dedup_spark.lookup.service.settings import ServiceSettings
from dedup_spark.lookup.service.work import Work

log = logging.getLogger(__name__)

_SECONDS_TO_END = 20
_KEEP_ALIVE_SECONDS = 15
_CONNECTIONS_PER_REQUEST = 8
_MOST_HEAD_BYTES = 16 << 10
_OTHER_FILES = 400
"""That the process may have open beside its connections."""


def serve(tables: str, options: Options, settings: ServiceSettings) -> None:
    """Returns after SIGINT or SIGTERM."""
    cv2.setNumThreads(1)  # requests are what runs side by side
    work = Work(tables, options, settings)
    config = uvicorn.Config(
        make_app(work),
        host=settings.host,
        port=settings.port,
        http=protocol(settings.head_seconds),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=_most_connections(settings),
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SECONDS_TO_END,
        h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
    )
    log.info("serve: http://%s:%d", settings.host, settings.port)
    try:
        uvicorn.Server(config).run()
    finally:
        work.close()


def _most_connections(settings: ServiceSettings) -> int:
    """Eight times those that are worked on or wait, and so few that files, pipes and tables can still be opened: the
    limit of open files is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # where the system allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    wanted = _CONNECTIONS_PER_REQUEST * (settings.threads + settings.max_waiting)
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, soft - _OTHER_FILES))


def protocol(head_seconds: float) -> type[asyncio.Protocol]:
    """HTTP/1.1 by h11, which closes a connection whose request head does not come in time: uvicorn waits for ever."""

    class WithinTime(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            if self._late is None and self._is_idle():
                self._expect_head()
            super().data_received(data)
            if not self._is_idle():
                self._forget()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _is_idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _expect_head(self) -> None:
            self._late = self.loop.call_later(head_seconds, self._close)

        def _forget(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _close(self) -> None:
            self._late = None
            if self._is_idle() and not self.transport.is_closing():
                self.transport.close()

    return WithinTime
