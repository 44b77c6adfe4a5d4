"""Starts Spark on this machine, with what earlier starts have left (`kept`), fit for the size of the lake."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import SparkSession

from dedup_spark.spark import kept, launch, surroundings
from dedup_spark.spark.delta import delta_jar
from dedup_spark.spark.java import require_java
from dedup_spark.spark.local_settings import (
    JAVA_OPTIONS,
    chosen_by_user,
    has_environment_file,
    laptop_settings,
    without_chosen,
)
from dedup_spark.store import files

log = logging.getLogger(__name__)

_STARTED: set[str] = set()
"""The ids of the applications that were started here."""
_NAMES_OF_JARS = ("spark.jars.packages", "spark.jars")


def start(
    builder: SparkSession.Builder, app_name: str, *, is_small: bool = False, archive_to: Path | None = None
) -> SparkSession:
    """A new local session. `archive_to`: its JVM writes the classes that it has loaded into this file when it ends.

    Raises:
        ConfigError: it did not start.
    """
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    home = surroundings.settings_of_home()
    chosen = chosen_by_user(_spark_home())
    may_keep = chosen.isdisjoint(_NAMES_OF_JARS) and not has_environment_file(_spark_home())
    jars = kept.jars_of(delta_jar(), _spark_home()) if may_keep else []
    settings = {**without_chosen(laptop_settings(chosen, is_small=is_small), chosen), **_own(app_name), **home}
    if jars:
        del settings["spark.jars.packages"]
        _share_classes(settings, jars, archive_to)
    fetches = not jars and not surroundings.has_jar(delta_jar(), home.get("spark.jars.ivy"))
    log.info("starting Spark on this machine%s", ", which first fetches Delta's jars, once" if fetches else "")
    with surroundings.names_in_utf_8(), kept.class_path(jars):
        spark = launch.start(builder, settings)
    _STARTED.add(spark.sparkContext.applicationId)
    if not jars and may_keep:
        own = [path.name for path in Path(_spark_home(), "jars").glob("*.jar")]
        kept.keep_jars(delta_jar(), _spark_home(), kept.lacking(_found_by_ivy(spark), own))
    return spark


def is_ours(spark: SparkSession) -> bool:
    """Whether the session was started here; a later one of the same JVM, which the user has built, was not."""
    return spark.sparkContext.applicationId in _STARTED


def archive() -> Path | None:
    """Where the archive of classes is, or would be; None while the jars of Delta are not known."""
    jars = kept.jars_of(delta_jar(), _spark_home())
    return kept.archive_of(require_java(), _spark_home(), jars) if jars else None


def _spark_home() -> str:
    return str(_find_spark_home())  # type: ignore[no-untyped-call]


def _own(app_name: str) -> dict[str, str]:
    return {
        "spark.app.name": app_name,
        "spark.master": "local[*,4]",  # 4 attempts: without the number a local master does not retry a task
        "spark.sql.warehouse.dir": str(files.private_folder("warehouse")),
    }


def _share_classes(settings: dict[str, str], jars: list[str], archive_to: Path | None) -> None:
    """Add the options for the archive of classes, unless the user has options of Java of their own."""
    if JAVA_OPTIONS not in settings:
        return
    if archive_to is not None:
        added = kept.option_to_write(archive_to)
    else:
        added = kept.archive_options(kept.archive_of(require_java(), _spark_home(), jars))
    settings[JAVA_OPTIONS] = f"{settings[JAVA_OPTIONS]} {added}".strip()


def _found_by_ivy(spark: SparkSession) -> list[str]:
    """The jars of the session that lie in a folder of Ivy, in Spark's order."""
    named = (spark.sparkContext.getConf().get("spark.jars") or "").split(",")
    paths = [Path(unquote(urlsplit(name).path)) for name in named if name]
    return [str(path) for path in paths if path.parent.name == "jars" and path.is_file()]
