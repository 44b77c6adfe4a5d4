"""Which model a step embeds with; the driver decides it for extract and embed."""

from __future__ import annotations

import logging

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config, ExtractSettings, as_overrides, changed_settings
from dedup_spark.errors import TableError
from dedup_spark.kernels.features.signature import SignatureSettings, thumbnail_kind
from dedup_spark.models import registry as models
from dedup_spark.models.base import ModelSettings, settings_named
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.gpus import task_share
from dedup_spark.spark.python_memory import executor_memory
from dedup_spark.stages.command_lines import command_line
from dedup_spark.stages.reading.budget import MODEL_ON_GPU_BYTES
from dedup_spark.stages.reading.embedding import ModelTask
from dedup_spark.stages.reading.read_ahead import TIMINGS, TaskSettings
from dedup_spark.stages.reading.signature_settings import settings_of_signature
from dedup_spark.store.observed import Observed
from dedup_spark.store.runs import Run

log = logging.getLogger(__name__)

_DECIDING_VECTORS = ("inventory", "extract", "vectors")
"""The sections that say which vectors `embed` makes, and how it reads the lake for them."""


def choose_model(
    spark: SparkSession, extract: ExtractSettings, held: list[str], *, prefer_thumbnails: bool = False
) -> ModelTask:
    """The model of `extract` on this cluster; `held` are the model_ids in features.

    extract.embed_from=auto takes thumbnails or originals as for the rows that are there; where no row is of this
    model, `prefer_thumbnails` decides.

    Raises:
        ConfigError: as models.registry.resolve, or the settings ask for GPUs that the cluster does not have.
        ArtifactError: weights missing, unreadable or not the ones expected.
    """
    share = task_share(spark, extract)
    if share.gpus and extract.runtime == "onnx":
        log.warning("extract.runtime=onnx runs on the CPU: tasks will hold GPUs that they do not use")

    def resolved(pixels: str) -> ModelSettings:
        return models.resolve(extract, on_gpu=share.gpus > 0, threads=share.cpus, pixels=pixels)

    original, thumbnail = resolved("original"), resolved(thumbnail_kind(signature_settings(extract, None)))
    if extract.embed_from == "auto":
        from_thumbnail = thumbnail.model_id in held or (prefer_thumbnails and original.model_id not in held)
    else:
        from_thumbnail = extract.embed_from == "thumbnail"
    return ModelTask(thumbnail if from_thumbnail else original, share, extract.embed_batch_images)


def settings_of_tasks(
    spark: SparkSession, config: Config, run: Run, model: ModelTask | None, given_model_id: str | None = None
) -> TaskSettings:
    """What all tasks of a stage share; the model is logged and noted in `runs`.

    `given_model_id`: of the vectors that a table of the user gives, where there is no model to run.
    """
    described = model.describe() if model else f"vectors of model {given_model_id}, from vectors.table"
    if model or given_model_id:
        log.info("%s", described)
        run.note(model=described)
    task_cpus = model.share.cpus if model else int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))
    is_on_gpu = model is not None and model.share.gpus > 0
    return TaskSettings(
        source=open_source(run.lake, config.inventory),
        signature=signature_settings(config.extract, model),
        extract=config.extract,
        model=model,
        given_model_id=given_model_id,
        run_id=run.run_id,
        task_cpus=task_cpus,
        executor=executor_memory(spark, task_cpus, MODEL_ON_GPU_BYTES if is_on_gpu else 0),
    )


def signature_settings(extract: ExtractSettings, model: ModelTask | None) -> SignatureSettings:
    """How images become signatures and, with a model, its input."""
    if model is None:
        return settings_of_signature(extract, None)
    return settings_of_signature(extract, model.model.input, from_thumbnail=model.model.pixels != "original")


def held_models(features: DataFrame) -> list[str]:
    """The model_ids in features, at most two of them: more than one is an error."""
    held = features.where("model_id IS NOT NULL").select("model_id").distinct().limit(2).collect()
    return sorted(r["model_id"] for r in held)


def require_one_model(held: list[str], model_id: str | None, run: Run) -> None:
    """Raise TableError when features holds embeddings of another model than the one asked for."""
    others = [other for other in held if other != model_id]
    if not others:
        return
    found = f"features holds embeddings of model {others[0]}, and the settings ask for {model_id or 'no model'}"
    if model_id is None:
        raise TableError(f"{found}. Use the settings of that model{_in_brackets(others[0], '')}, or other --tables")
    raise TableError(
        f"{found}: vectors of two models cannot be compared. Use the settings of the first"
        f"{_in_brackets(others[0], model_id)}, other --tables, or embed all images again (hashes and thumbnails are "
        f"kept): {embed_command(run)}"
    )


def _in_brackets(held: str, asked: str) -> str:
    """The settings that would give the model `held` where `asked` is given now, as far as its id names them."""
    mine, now = settings_named(held), settings_named(asked)
    differing = {name: value for name, value in mine.items() if now.get(name) != value}
    words = " ".join(f"--set {setting}" for setting in as_overrides({"extract": differing}))
    sha256 = held.split("/")[1]
    if mine and sha256 not in asked.split("/"):
        words += f"{', ' if words else ''}and weights whose SHA-256 begins with {sha256}"
    return f" ({words})" if words else ""


def embed_command(run: Run) -> str:
    """The command that embeds these tables again with the model of this run's settings."""
    changed = changed_settings(run.config, *_DECIDING_VECTORS)
    return command_line("embed", run.lake, run.tables.root, run.tables.database, changed=changed)


class ModelClocks:
    """Adds up, over all slices of a step, how long models worked and waited for pixels, and what they saw.

    A step makes one and hands it to all that reads: `count` sets the step's counts to the sums so far.

    The sums are observed in the pass that writes the rows, so they cost no second one; others can be observed too. The
    write is in a block of `unaccelerated`; as its rows come from Python, the accelerator could do nothing of it.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._totals = dict.fromkeys(TIMINGS, 0.0)
        self._observed = Observed()

    def watch(self, rows: DataFrame, **others: Column) -> DataFrame:
        """`rows` (with TIMINGS), which must be written next and once; `others` are aggregates that `count` returns."""
        sums = {name: F.coalesce(F.sum(name), F.lit(0.0)) for name in TIMINGS}
        return self._observed.watch(rows, **sums, **others)

    def count(self) -> dict[str, float] | None:
        """After the write: add what was observed to the step's counts: seconds, and forward passes made and saved.

        Returns all that was observed; None, with a warning, where this Spark does not report it.
        """
        seen = self._observed.get()
        if seen is None:
            log.warning("this Spark reported no observed metrics of a write: model_seconds stays incomplete")
            return None
        for name in self._totals:
            self._totals[name] += seen[name]
        self._run.count(**{name: round(total) for name, total in self._totals.items()})
        return seen
