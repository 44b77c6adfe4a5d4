"""What bounds the service: sizes, times, how many wait, who may ask, and where it may fetch from."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from dedup_spark.errors import ConfigError
from dedup_spark.lookup.service.allowed import allowed_prefix

TOKEN = "DEDUP_SPARK_TOKEN"
"""The environment variable that holds the token which every request must bring."""

_UPLOADS_HELD = 16


@dataclass(frozen=True)
class ServiceSettings:
    """How the service listens, and what it refuses.

    Attributes:
        token: Asked for in every request but `/livez`, `/readyz`, `/openapi.json` and the page; None: nobody is asked.
        prefixes: Canonical; images below them may be named by their address. None: no image is fetched.
        max_upload_bytes, max_images: Of one request.
        max_held_bytes: Of the bodies of all requests; 0: sixteen times max_upload_bytes. More are told to come again.
        max_waiting: Requests that wait for a thread; more are told to come again (503).
        n_threads: Requests that are worked on at a time; 0: four a core, so that the model gets several at once.
        head_seconds, body_seconds: In which a client has to send the head and the body of a request.
        answer_seconds: In which a request is answered; its image is then given up (504).
        decode_seconds: The longest that one image may take.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    prefixes: tuple[str, ...] = ()
    max_upload_bytes: int = 32 << 20
    max_images: int = 16
    max_held_bytes: int = 0
    max_waiting: int = 128
    n_threads: int = 0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    answer_seconds: float = 60.0
    decode_seconds: float = 20.0

    @classmethod
    def of(cls, host: str, port: int, prefixes: list[str], **bounds: int) -> ServiceSettings:
        """With the token of the environment. Raises ConfigError where others than this machine could ask without."""
        token = os.environ.get(TOKEN) or None
        if token is None and not _is_loopback(host):
            raise ConfigError(
                f"--host {host}: others than this machine could ask. Set {TOKEN} to a long secret, which every request "
                "then has to bring (Authorization: Bearer ...), or leave --host out"
            )
        return cls(host=host, port=port, token=token, prefixes=tuple(map(allowed_prefix, prefixes)), **bounds)

    @property
    def held_bytes(self) -> int:
        """The budget of bodies."""
        return self.max_held_bytes or _UPLOADS_HELD * self.max_upload_bytes

    @property
    def threads(self) -> int:
        """Requests that are worked on at a time."""
        return self.n_threads or 4 * len(os.sched_getaffinity(0))

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request may call this service, where it listens to this machine alone: a page of somebody else, whose
        name was made to lead here, is refused. Empty: anything."""
        return ("localhost", "127.0.0.1", "::1", self.host) if _is_loopback(self.host) else ()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
