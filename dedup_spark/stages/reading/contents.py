"""Values of images whose bytes are at hand: what the functions for SQL ask of a batch of them. Runs on executors.

Decoder processes of the Python worker decode (`decoder_pool.py`), so that an image that crashes or hangs a decoder is a
value with a reason, and the query goes on. Of a batch only its results are held: hashes, thumbnails of about 10 KB,
vectors of 1 KB; of model inputs (200 KB each) two groups at a time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pyspark import TaskContext

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import PartsSettings, SignatureSettings, parts_of_image, thumbnail_kind
from dedup_spark.models import registry as models
from dedup_spark.models.base import input_of
from dedup_spark.spark.gpus import TaskShare, holds_gpu
from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool
from dedup_spark.stages.reading.embedding import ModelTask, with_embeddings
from dedup_spark.stages.reading.reuse import Planner, planner_of
from dedup_spark.stages.reading.signature_settings import settings_of_signature

Row = dict[str, Any]


def parts_of(contents: Iterable[bytes | None], names: tuple[str, ...], extract: ExtractSettings) -> Iterator[Row]:
    """For each image file its parts (`kernels.features.signature.PARTS`), in order; a null gives an empty row.

    A bad image gives `reject_reason` and `reject_message`. `n` decoders work at a time, for a task of `n` cores.
    """
    decoders = _decoders(_task_cpus(), PartsSettings(names, _signature_settings(extract)), DecoderLimits.of(extract))
    return in_order(functools.partial(_parts_of_one, decoders=decoders), contents, 2 * _task_cpus())


def embeddings_of(contents: Iterable[bytes | None], extract: ExtractSettings) -> Iterator[Row]:
    """For each image file `embedding` (as in features) and `model_id`, in order; else as `parts_of`.

    The model is that of `extract`, on the GPU that the task holds or on the CPU; the worker loads it once.

    Raises:
        ConfigError, ArtifactError: as models.registry.resolve and load.
    """
    task = _model_task(extract, _holds_gpu_for(extract), _task_cpus())
    planner = planner_of("pixels", task.model)
    given = (_given_to(planner, row) for row in parts_of(contents, ("model_input",), extract))
    for rows in with_embeddings(given, task.batch_images, task.load, planner):
        yield from rows


def choice_of(extract: ExtractSettings, model: str | None, weights: str | None, sha256: str | None) -> ExtractSettings:
    """`extract` with another model, and its weights where they are not installed; None leaves it as it is.

    Raises:
        ConfigError: there is no such model.
    """
    chosen: dict[str, Any] = {}
    if model is not None and model != extract.embedding:
        chosen = {"embedding": model, "weights": "", "weights_sha256": ""}
    chosen |= {"weights": weights, "weights_sha256": sha256 or ""} if weights is not None else {}
    asked = {f.name: getattr(extract, f.name) for f in dataclasses.fields(extract)} | chosen
    checked = load_config(given={"extract": asked}).extract
    if checked.embedding in (models.OFF, models.TABLE):
        raise ConfigError(
            f"extract.embedding={checked.embedding} is no model to run: embed(content, 'sscd_distilled') names one"
        )
    return checked


def in_order[Item, Result](read: Callable[[Item], Result], items: Iterable[Item], n_ahead: int) -> Iterator[Result]:
    """`read` of each item, in order, by `n_ahead` threads at most that many items ahead of the consumer."""
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_ahead, thread_name_prefix="decode") as pool:
        for item in items:
            if len(under_way) >= n_ahead:
                yield under_way.popleft().result()
            under_way.append(pool.submit(read, item))
        for rest in under_way:
            yield rest.result()


def _given_to(planner: Planner, row: Row) -> Row:
    pixels = row.get("model_input")
    return row if pixels is None else row | {"model_input": planner.input_of(pixels)}


def _parts_of_one(data: Any, decoders: DecoderPool) -> Row:
    if data is None:
        return {}
    if not isinstance(data, bytes | bytearray):
        raise TypeError(f"an image file is BINARY, as `content` of Spark's binaryFile; found {type(data).__name__}")
    try:
        return dict(decoders.derive(bytes(data)))
    except ImageRejected as e:
        return {"reject_reason": str(e.reason), "reject_message": e.message}


def _signature_settings(extract: ExtractSettings) -> SignatureSettings:
    """As extract makes them for a run with these settings."""
    made = None if extract.embedding in (models.OFF, models.TABLE) else input_of(extract)
    return settings_of_signature(extract, made, from_thumbnail=extract.embed_from == "thumbnail")


def _task_cpus() -> int:
    task = TaskContext.get()
    return task.cpus() if task else 1


def _holds_gpu_for(extract: ExtractSettings) -> bool:
    return extract.gpus_per_task != 0 and extract.runtime != "onnx" and holds_gpu()


@functools.cache
def _decoders(n: int, settings: PartsSettings, limits: DecoderLimits) -> DecoderPool:
    """The Python worker keeps them from task to task; each process is started on first use."""
    return DecoderPool(n, settings, limits, derive=parts_of_image)


@functools.cache
def _model_task(extract: ExtractSettings, on_gpu: bool, cpus: int) -> ModelTask:
    """Cached, because to resolve a model its weights are read for their SHA-256."""
    signature = _signature_settings(extract)
    pixels = thumbnail_kind(signature) if signature.from_thumbnail else "original"
    model = models.resolve(extract, on_gpu=on_gpu, threads=cpus, pixels=pixels)
    return ModelTask(model, TaskShare(cpus, float(on_gpu)), extract.embed_batch_images)
