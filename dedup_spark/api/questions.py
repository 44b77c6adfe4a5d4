"""Functions that answer questions about finished tables; they write nothing.

`engine`: "duckdb" reads the tables without Spark and Java (the extra `reader`), "spark" by a session. None: Spark where
a session or a database is given, else DuckDB. Both know the same tables, views and functions of views; of the rest of
SQL each has its own dialect. What a function needs is imported when it is called, so that `sql` waits for no SciPy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dedup_spark.api.settings import Settings, config_of
from dedup_spark.commands.asking import to_ask
from dedup_spark.store.view_definitions import ViewSettings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from dedup_spark.commands.apart import Place
    from dedup_spark.commands.dendrogram.tree import Dendrogram
    from dedup_spark.commands.explain import Explanation
    from dedup_spark.commands.trace import Trace
    from dedup_spark.stages.report.values import Summary


def sql(
    spark: SparkSession | None,
    query: str,
    *,
    tables: Place,
    max_rows: int | None = None,
    database: str | None = None,
    engine: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> pa.Table:
    """The answer to one query over all tables and views by their names, as an Arrow table in this process.

    One SELECT: what writes is refused. With Spark the tables and views stay open in the session as temporary views; one
    of your own of such a name is replaced.

    Args:
        query: One query in SQL, such as `SELECT * FROM duplicates`.
        max_rows: The most rows to return; None: all, which Spark refuses beyond spark.driver.maxResultSize.
        engine: See the head of this module.
    """
    of_views = ViewSettings.of(config_of(settings, settings_file))
    with to_ask("sql", spark, tables, database=database, engine=engine, settings=of_views) as found:
        return found.answer(query, max_rows)


def open_views(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> SparkSession:
    """Open every table and view by its name as a temporary view of the session, and return the session.

    Nothing is written. Temporary views of these names that the session has already are replaced.
    """
    from dedup_spark.commands import opening
    from dedup_spark.spark.task_errors import told_in_a_sentence
    from dedup_spark.store import views

    config = config_of(settings, settings_file)
    with told_in_a_sentence(), opening.to_read(opening.Opening("sql", spark, tables, database)) as found:
        views.open_views(found, ViewSettings.of(config))
        return found.spark


def summary(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> Summary:
    """The main figures of the tables: images found and read, clusters, images that may go. Cost: a few counts."""
    from dedup_spark.commands import opening
    from dedup_spark.spark.task_errors import told_in_a_sentence
    from dedup_spark.stages.report.summary import collect_summary

    config = config_of(settings, settings_file)
    with told_in_a_sentence(), opening.to_read(opening.Opening("report", spark, tables, database)) as found:
        return collect_summary(found, ViewSettings.of(config))


def trace(
    spark: SparkSession | None,
    uri: str,
    *,
    tables: Place,
    database: str | None = None,
    engine: str | None = None,
) -> list[Trace]:
    """What became of an image: its rows in images, features, pairs, clusters and cluster_history.

    Args:
        uri: Its address, its id (see `find_images`), or the end of its address; where up to five images have that end,
            there is a trace of each.
    """
    from dedup_spark.commands import trace as tracing

    with to_ask("trace", spark, tables, database=database, engine=engine) as found:
        return tracing.trace_image(found, uri)


def explain(
    spark: SparkSession | None,
    uri_a: str,
    uri_b: str,
    *,
    tables: Place,
    database: str | None = None,
    engine: str | None = None,
) -> Explanation:
    """Why two images are joined, or are not: their facts, the evidence between them, the path or what kept them apart.

    Args:
        uri_a: The address of the first image, its id, or an end of the address that no other has.
        uri_b: The same of the second image.
    """
    from dedup_spark.commands import explain as explaining

    with to_ask("explain", spark, tables, database=database, engine=engine) as found:
        return explaining.explain_pair(found, uri_a, uri_b)


def clusters(
    spark: SparkSession | None,
    named: str | int | None = None,
    *,
    tables: Place,
    sort: str = "size",
    reverse: bool = False,
    min_size: int | None = None,
    max_size: int | None = None,
    relations: Sequence[str] = (),
    tiers: Sequence[str] = (),
    edits: Sequence[str] = (),
    removable: bool = False,
    bridges: bool = False,
    paths: Sequence[str] = (),
    max_rows: int | None = None,
    database: str | None = None,
    engine: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> pa.Table:
    """The clusters, one row each, the largest first; or the images of one of them, one row each, the keeper first.

    Args:
        named: A cluster by its id (a number, or hex digits of which the first few are enough), or by an image in it.
            None: the list, to which alone the conditions apply.
        sort: `size` (images), `frees` (bytes that removing its removable images would free), `removable` (their
            number), `distance` (of the image farthest from the keeper) or `path` (of the keeper).
        relations: Of clusters with a copy of one of these relations to the keeper; so `tiers` and `edits`.
        removable: Of clusters with such a copy that may be removed now, as in the view duplicates.
        bridges: Of clusters with such a copy that has a pair with an image outside.
        paths: Of clusters with an image whose address matches, for each of these patterns (`*`, `?`).
        max_rows: The most rows to return; None: all.
    """
    from dedup_spark.commands.clusters import reading
    from dedup_spark.commands.clusters.choosing import Choice
    from dedup_spark.commands.clusters.naming import find_cluster

    of_copies = tuple(relations), tuple(tiers), tuple(edits)
    choice = Choice(sort, reverse, min_size, max_size, *of_copies, removable, bridges, tuple(paths))
    of_views = ViewSettings.of(config_of(settings, settings_file))
    with to_ask("clusters", spark, tables, database=database, engine=engine, settings=of_views) as found:
        asked = reading.list_of(choice) if named is None else reading.images_of(find_cluster(found, str(named)))
        asked = asked.limited(max_rows)
        return found.ask(asked.query, asked.values)


def dendrogram(
    spark: SparkSession | None,
    cluster_id: int | str | None = None,
    *,
    tables: Place,
    database: str | None = None,
    engine: str | None = None,
    image: str | None = None,
    at: float | None = None,
    max_pictures: int = 500,
    max_thumbnails: int = 0,
    of_lake: bool = False,
    pairs: Place | None = None,
) -> Dendrogram:
    """The tree of merges of the component that a cluster or an image is in, as the last step cluster cut it.

    By the matrix and the linkage of that run, so that its cut gives the groups of that run: `groups` of the result are
    those at `at`, each with what would become of the published clusters.

    Args:
        cluster_id: A cluster, as a number or as text in hex; None where `image` is given.
        image: The address of an image, its id, or an end of the address that no other has.
        at: The height of another cut, in the unit of the result's `axis`; None: the cut of the run.
        max_pictures: The most leaves; of a larger component the largest branch around the keeper, or the image.
        max_thumbnails: The most leaves that get a thumbnail.
        of_lake: Whether `curves` hold how precision and recall of all pairs of the lake move with the cut.
        pairs: A CSV or Parquet file of labelled pairs (uri_a, uri_b or image_id_a, image_id_b; duplicate), for their
            precision and recall.
    """
    from dedup_spark.commands.dendrogram.reading import Asked, read_dendrogram

    labelled = os.fspath(pairs) if pairs is not None else None
    asked = Asked(cluster_id, image, at, max_pictures, max_thumbnails, of_lake, labelled)
    with to_ask("dendrogram", spark, tables, database=database, engine=engine) as found:
        return read_dendrogram(found, asked)
