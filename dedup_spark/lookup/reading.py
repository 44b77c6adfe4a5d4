"""From the bytes of an upload to what features would say of it: decoded in child processes, embedded as the lake was.

The same code and the same settings as in the step extract, so that the same bytes give the same row.
"""

from __future__ import annotations

import functools
import io
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from PIL import Image

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Float16, UInt8
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import Signature, SignatureSettings, thumbnail_kind
from dedup_spark.models import registry as models
from dedup_spark.models.base import Embedder, ModelSettings
from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool
from dedup_spark.stages.reading.signature_settings import settings_of_signature


@dataclass(frozen=True)
class Reading:
    """How uploads are read: as the lake was. `model` None: its images have no vectors, or vectors of a table."""

    extract: ExtractSettings
    model: ModelSettings | None

    @classmethod
    def of(cls, extract: ExtractSettings, model_id: str | None, *, threads: int) -> Reading:
        """Raises ConfigError where this installation computes other vectors than those of the lake."""
        if model_id is None or not models.computes(model_id):
            return cls(extract, None)
        on_cpu = replace(extract, gpus_per_task=0.0)
        kinds = ("original", thumbnail_kind(settings_of_signature(extract, None)))
        found = [models.resolve(on_cpu, on_gpu=False, threads=threads, pixels=kind) for kind in kinds]
        for model in found:
            if model.model_id == model_id:
                return cls(extract, model)
        raise ConfigError(
            f"the lake's vectors are of model {model_id}, and this installation computes {found[0].model_id}: vectors "
            "of two models cannot be compared. Install the weights and the runtime of the run"
        )

    @property
    def signature(self) -> SignatureSettings:
        """How images become signatures, with the model's input."""
        if self.model is None:
            return settings_of_signature(self.extract, None)
        is_small = self.model.pixels != "original"
        return settings_of_signature(self.extract, self.model.input, from_thumbnail=is_small)


class Reader:
    """Decoder processes and a model. Used by any number of threads."""

    def __init__(self, reading: Reading, *, n_decoders: int, timeout_seconds: float | None = None) -> None:
        limits = DecoderLimits.of(reading.extract)
        if timeout_seconds is not None:
            limits = replace(limits, timeout_seconds=min(timeout_seconds, limits.timeout_seconds))
        self._n = n_decoders
        self._decoders = DecoderPool(n_decoders, reading.signature, limits)
        self._model = _Model(reading.model) if reading.model else None
        self._threads = ThreadPoolExecutor(n_decoders, thread_name_prefix="decode")

    def sign(self, images: Sequence[bytes], ends_at: float | None = None) -> list[Signature | ImageRejected]:
        """What features would hold of each image, with the model's input, or why it cannot be read; in order.

        Raises TimeoutError at `ends_at`, a time of time.monotonic(), and ConfigError after `close`.
        """
        sign = functools.partial(self._sign, ends_at=ends_at)
        if len(images) == 1:  # as most are
            return [sign(images[0])]
        try:
            return [*self._threads.map(sign, images)]
        except RuntimeError as e:  # no thread is begun after a close
            raise ConfigError(_CLOSED) from e

    def embed(self, signatures: Sequence[Signature]) -> list[Float16 | None]:
        """The vector (d,) of each; None where the lake has none that can be computed."""
        inputs = [signature.model_input for signature in signatures]
        if self._model is None or not inputs:
            return [None] * len(inputs)
        asked = [self._model.ask(pixels) for pixels in inputs if pixels is not None]
        return [future.result() for future in asked]

    def warm(self) -> None:
        """Start all decoder processes, which takes each a second: else the first uploads wait for them."""
        one = io.BytesIO()
        Image.new("RGB", (32, 32)).save(one, "PNG")
        self.sign([one.getvalue()] * self._n)

    def close(self) -> None:
        """End the decoder processes; what is being read fails."""
        self._decoders.close()
        self._threads.shutdown(cancel_futures=True)
        if self._model:
            self._model.close()

    def _sign(self, data: bytes, ends_at: float | None) -> Signature | ImageRejected:
        try:
            return self._decoders.sign(data, timeout_seconds=require_time(ends_at))
        except ImageRejected as e:
            return e


def require_time(ends_at: float | None) -> float | None:
    """The seconds that are left until then, a time of time.monotonic(). Raises TimeoutError where there are none."""
    left = None if ends_at is None else ends_at - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError("nobody waits for this look-up any more")
    return left


_MOST_AT_ONCE = 8
_CLOSED = "the look-up was closed"


class _Model:
    """One thread runs the model: whatever was asked for meanwhile, by whomever, goes through it together."""

    def __init__(self, settings: ModelSettings) -> None:
        self._waiting: list[tuple[UInt8, Future[Float16]]] = []
        self._asked = threading.Condition()
        self._is_closed = False
        self._embedder: Embedder = models.load(settings)
        threading.Thread(target=self._work, name="look-up model", daemon=True).start()

    def ask(self, pixels: UInt8) -> Future[Float16]:
        future: Future[Float16] = Future()
        with self._asked:
            if self._is_closed:
                raise ConfigError(_CLOSED)
            self._waiting.append((pixels, future))
            self._asked.notify()
        return future

    def close(self) -> None:
        """What still waits fails."""
        with self._asked:
            self._is_closed = True
            waiting, self._waiting = self._waiting, []
            self._asked.notify()
        for _, future in waiting:
            future.set_exception(ConfigError(_CLOSED))

    def _work(self) -> None:
        while True:
            with self._asked:
                self._asked.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._embed(batch)

    def _embed(self, batch: list[tuple[UInt8, Future[Float16]]]) -> None:
        try:
            vectors = self._embedder.embed(np.stack([pixels for pixels, _ in batch])).astype("<f2")
        except Exception as e:  # whoever asked gets it: the thread goes on with what others ask
            for _, future in batch:
                future.set_exception(e)
            return
        for (_, future), vector in zip(batch, vectors, strict=True):
            future.set_result(vector)


def facts_of(signature: Signature) -> dict[str, Any]:
    """By column of features, without the pixels."""
    return {f.name: getattr(signature, f.name) for f in fields(signature) if f.name != "model_input"}
