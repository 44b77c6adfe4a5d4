"""Embed again: new vectors of one model for all readable images; hashes, facts and thumbnails stay.

Reads: images, features
Writes: features
Kernels: decoding, features, given_vectors
Scale: from thumbnails it reads about 10 KB per image from the table and nothing from the lake; from originals it reads
    the bytes of the lake once. Then features is rewritten once, about 12 KB per row; thumbnails are not shuffled, as
    the vectors of a slice are broadcast.

Vectors are made from stored thumbnails when these are large enough for the model (`extract.thumbnail_px` at least the
side that its input is made of), else from the lake; the model_id says which, so the two never mix. Finished slices wait
below `_embed`, in a folder of the model, and survive other runs: a row that was read again since is not taken from
them. features changes at the end, in one commit, so that it never holds two models.

With `extract.embedding=table` no model runs and nothing is decoded: the vectors are those of a table of the user.
"""

from __future__ import annotations

import functools
import hashlib
import logging

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.errors import ConfigError, GuardError, TableError
from dedup_spark.kernels.features.signature import thumbnail_kind
from dedup_spark.models import registry as models
from dedup_spark.sources.base import ADDRESS_COLUMNS
from dedup_spark.sources.vector_table import content_of, dimensions_of
from dedup_spark.spark.progress import Progress
from dedup_spark.spark.rapids import unaccelerated
from dedup_spark.stages.embed.task import EMBEDDED, VECTORS, embed_originals, embed_thumbnails
from dedup_spark.stages.reading.given_vectors import Given, give_vectors, is_given, settings_of_given
from dedup_spark.stages.reading.given_vectors import finish as finish_given
from dedup_spark.stages.reading.inputs import inputs_of_tasks, planned_for_inputs
from dedup_spark.stages.reading.model_choice import ModelClocks, choose_model, held_models, settings_of_tasks
from dedup_spark.stages.reading.not_given import is_too_much
from dedup_spark.stages.reading.read_ahead import TIMINGS, TaskSettings
from dedup_spark.stages.reading.slices import broadcast_images, images_per_slice, in_slice, most_broadcast, slice_bounds
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import StepName

log = logging.getLogger(__name__)

_MIN_IMAGES_FOR_GUARD = 200  # a share of so few images means nothing
_MADE_BY = ["image_id", "object_version", "run_id", "signature_version"]
"""Columns of features that change when the image is read again."""


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Give every readable image a vector of the model in the settings; the rest of its row stays."""
    tables, settings = run.tables, task_settings(spark, config, run)
    is_pending = F.expr("status = 'ok'") & ~F.col("model_id").eqNullSafe(F.lit(settings.model_id))
    features = tables.read(FEATURES)
    pending = features.where(is_pending)
    n_pending = pending.count()
    if not n_pending:
        run.count(embedded=0)
        tables.drop_progress(StepName.EMBED)  # left by an embedding that was killed at its very end
        return
    if tables.fence(FEATURES):  # a run before this one may have added rows until now
        features = tables.read(FEATURES)
        pending = features.where(is_pending)
        n_pending = pending.count()
    if settings.signature.from_thumbnail:
        _require_thumbnails(pending, settings)
    staged = _embed_slices(run, config, settings, pending)

    n_staged, n_without = staged.count(), staged.where("embedding IS NULL").count()
    n_unreadable = 0 if is_given(config) else n_without
    run.count(embedded=n_staged - n_without, unreadable=n_unreadable, of_other_lakes=n_pending - n_staged)
    if n_staged < n_pending:
        log.warning(
            "embed: %s images are of other lakes: the same command with their --lake", f"{n_pending - n_staged:,}"
        )
        log.warning("embed: until then the tables keep the vectors that they have")
        return
    _guard_against_unreadable(n_unreadable, n_pending, config.extract.max_reject_share)
    if n_staged > n_without or not pending.where("model_id IS NOT NULL").isEmpty():  # else all rows stay as they are
        columns = FEATURES.column_names
        tables.overwrite(FEATURES, staged.select(columns).unionByName(features.where(~is_pending).select(columns)))
    finish_given(run, settings)
    tables.drop_staged()
    tables.drop_progress(StepName.EMBED)


def task_settings(spark: SparkSession, config: Config, run: Run) -> TaskSettings:
    """Decide on the driver what all tasks must share."""
    if config.extract.embedding == models.OFF:
        raise ConfigError("extract.embedding=off: there is no model to embed with; choose one by --set")
    if is_given(config):
        return settings_of_given(spark, config, run)
    fits = models.fits_thumbnails(config.extract)
    held = held_models(run.tables.read(FEATURES))
    model = choose_model(spark, config.extract, held, prefer_thumbnails=fits)
    return settings_of_tasks(spark, config, run, model)


def _embed_slices(run: Run, config: Config, settings: TaskSettings, pending: DataFrame) -> DataFrame:
    """The rows of `pending` that are of this lake, with new vectors; finished slices are not done again."""
    tables = run.tables
    content = content_of(tables.spark, config.vectors) if is_given(config) else ""
    name = _progress_name(settings, content)
    tables.drop_progress(StepName.EMBED, keep=name)
    todo = _addresses(run, settings, pending)
    tables.add_progress(StepName.EMBED, name, pending.limit(0).select(FEATURES.column_names))  # a fence: see Tables
    if not is_given(config):  # the table that gave no vector is the same now: see _progress_name
        _forget_not_given(tables, name, todo)
    done = tables.read_progress(StepName.EMBED, name)
    if done is not None:
        todo = todo.join(_still_right(tables, done, pending).select("image_id"), "image_id", "left_anti")
    todo = tables.stage("todo", todo.drop("thumbnail").orderBy("reading_key"))  # so a slice reads its own part
    n_todo = todo.count()
    given = _given(run, settings, todo)
    progress, clocks = Progress("embed", "images", n_todo), ModelClocks(run)
    n_done = 0
    for low, high in slice_bounds(todo, n_todo, _images_per_slice(tables.spark, config, settings)):
        here = todo.where(F.col("reading_key").between(low, high))
        n_slice = here.count()
        ids = F.broadcast(here.select("image_id"))  # without this Spark might shuffle the thumbnails
        old = pending.where(in_slice(low, high)).join(ids, "image_id", "left_semi")
        part = old if settings.signature.from_thumbnail else here
        with (
            progress.watching(tables.spark, done_before=n_done, n_under_way=n_slice),
            unaccelerated(tables.spark),
            planned_for_inputs(tables.spark, settings),
        ):
            made = _in_no_time(given.within(low, high)) if given else vectors_of(part, settings, n_slice)
            vectors = tables.stage("vectors", clocks.watch(made).select(VECTORS.names))
        clocks.count()
        if not given:
            _guard_against_a_lost_store(part, vectors, n_slice, config.extract.max_unavailable_share)
        new = old.drop("model_id", "embedding").join(_gathered(vectors, n_slice, settings), "image_id", "left")
        tables.add_progress(StepName.EMBED, name, new.select(FEATURES.column_names))
        n_done += n_slice
        progress.show(n_done, force=True)
    done = tables.read_progress(StepName.EMBED, name)
    return _still_right(tables, done, pending) if done is not None else pending.limit(0)


def _forget_not_given(tables: Tables, name: str, todo: DataFrame) -> None:
    """Delete finished rows of this lake that have no vector: the store did not give these images, and may do so now.

    Those of another lake stay, as only the command for that lake can do them again.
    """
    done = tables.read_progress(StepName.EMBED, name)
    if done is None:
        return
    without = done.where("embedding IS NULL").select("image_id")
    again = tables.stage("not_given", without.join(todo.select("image_id"), "image_id", "left_semi"))
    if not again.isEmpty():
        tables.delete_progress(StepName.EMBED, name, again)


def vectors_of(images: DataFrame, settings: TaskSettings, n_images: int) -> DataFrame:
    """EMBEDDED from (image_id, thumbnail) or from about `n_images` addresses; lazy."""
    model = settings.model
    assert model is not None
    if settings.signature.from_thumbnail:
        wanted = images.select("image_id", "thumbnail", F.length("thumbnail").alias("size_bytes"))
        return model.share.map_in_arrow(wanted, functools.partial(embed_thumbnails, settings=settings), EMBEDDED.ddl)
    inputs = inputs_of_tasks(images, settings, n_images)
    return model.share.map_in_arrow(inputs, functools.partial(embed_originals, settings=settings), EMBEDDED.ddl)


def _given(run: Run, settings: TaskSettings, todo: DataFrame) -> Given | None:
    """The vectors of the images `todo`, where a table of the user gives them."""
    if settings.given_model_id is None:
        return None
    listed = todo.where("uri IS NOT NULL").select("image_id", "uri", "member", "reading_key")
    nothing = todo.limit(0).select("image_id", "reading_key", F.lit(None).cast("binary").alias("embedding"))
    return give_vectors(run, settings, listed) or Given(nothing, settings.given_model_id)  # none of `todo` is listed


def _in_no_time(given: Given) -> DataFrame:
    """EMBEDDED from vectors that no model had to make."""
    return given.with_model_id().withColumns({name: F.lit(0.0) for name in TIMINGS.names})


def _images_per_slice(spark: SparkSession, config: Config, settings: TaskSettings) -> int:
    return broadcast_images(images_per_slice(spark, config.extract), *_n_dimensions(settings))


def _n_dimensions(settings: TaskSettings) -> list[int]:
    return [dimensions_of(settings.given_model_id)] if settings.given_model_id else []


def _gathered(vectors: DataFrame, n: int, settings: TaskSettings) -> DataFrame:
    """For a join without a shuffle, unless a container, which no slice divides, has too many members for that."""
    return F.broadcast(vectors) if n <= most_broadcast(*_n_dimensions(settings)) else vectors


def _addresses(run: Run, settings: TaskSettings, pending: DataFrame) -> DataFrame:
    """The rows of `pending` that this run embeds: all from thumbnails, else those of its lake, with their addresses.

    An image that is no longer listed has a null address, belongs to every lake, and ends without a vector.
    """
    key = F.coalesce("reading_key", "image_id").alias("reading_key")
    if settings.signature.from_thumbnail:
        return pending.select("image_id", key, "thumbnail")
    rows = pending.select("image_id", "object_version", key)
    listed = run.tables.read(IMAGES).select("image_id", "object_version", "lake", *ADDRESS_COLUMNS)
    joined = rows.join(listed, ["image_id", "object_version"], "left")
    return joined.where(F.col("lake").isNull() | (F.col("lake") == settings.source.root)).drop("lake")


def _progress_name(settings: TaskSettings, content: str = "") -> str:
    """One name per model, per set of columns that a version of dedup_spark knows, and per content of a vector table."""
    return hashlib.sha256(f"{settings.model_id} {FEATURES.schema.ddl}{content}".encode()).hexdigest()[:16]


def _guard_against_a_lost_store(part: DataFrame, vectors: DataFrame, n_images: int, max_share: float) -> None:
    """Raise GuardError before a slice of images without bytes is kept, so that the same command reads them again."""
    if "uri" not in part.columns:
        return
    listed = part.where("uri IS NOT NULL").select("image_id")
    n_without = listed.join(vectors.where("embedding IS NOT NULL"), "image_id", "left_anti").count()
    if is_too_much(n_without, n_images, max_share):
        raise GuardError(
            f"{n_without:,} of {n_images:,} images of the last slice could not be read again, more than "
            f"extract.max_unavailable_share ({max_share:g}); nothing is lost: when the store is well again, the same "
            "command goes on. Go on without them by --set extract.max_unavailable_share=1"
        )


def _still_right(tables: Tables, done: DataFrame, pending: DataFrame) -> DataFrame:
    """The rows of `done` whose images are still to be embedded and were not read again since.

    The others are few, and a query of narrow columns finds them, so that no thumbnail is shuffled.
    """
    outdated = tables.stage("outdated", done.select(*_MADE_BY).join(pending.select(*_MADE_BY), _MADE_BY, "left_anti"))
    return done.join(outdated, _MADE_BY, "left_anti")


def _require_thumbnails(pending: DataFrame, settings: TaskSettings) -> None:
    """Raise TableError when a thumbnail has another size or quality than the model_id names."""
    kind = thumbnail_kind(settings.signature)
    n_others = pending.where(~F.col("signature_version").endswith(f"/{kind}")).count()
    if n_others:
        raise TableError(
            f"{n_others:,} images have a thumbnail that is not {kind}: give extract.thumbnail_px and "
            "extract.thumbnail_quality as they were made, or read the lake by --set extract.embed_from=original"
        )


def _guard_against_unreadable(n_unreadable: int, n_images: int, max_share: float) -> None:
    if n_images >= _MIN_IMAGES_FOR_GUARD and n_unreadable > max_share * n_images:
        raise GuardError(
            f"{n_unreadable:,} of {n_images:,} images could not be read again, more than extract.max_reject_share "
            f"({max_share:g}); is the lake there? Nothing was changed. Allow it with --set extract.max_reject_share=1"
        )
    if n_unreadable:
        log.warning("embed: %s images could not be read and have no vector; extract will try them", f"{n_unreadable:,}")
