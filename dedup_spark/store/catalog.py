"""Whether a catalog can keep the tables of `--database`, asked before anything is written."""

from __future__ import annotations

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dedup_spark.errors import ConfigError
from dedup_spark.spark.delta import DELTA_SETTINGS
from dedup_spark.spark.java_errors import root_cause
from dedup_spark.store.tables import parts_of_name, quoted_name

_SPARKS_OWN = "spark_catalog"
_REPLACED_BY = f"spark.sql.catalog.{_SPARKS_OWN}"


def require_database(spark: SparkSession, name: str) -> None:
    """Raise ConfigError where there is no such schema, or its catalog forgets its tables with the session.

    A schema is not made here: who may make one, and where its files lie, is decided by those who run the catalog; and
    a wrong name would begin a second set of tables.
    """
    parts = parts_of_name(name)
    try:
        catalog = parts[0] if len(parts) > 1 else spark.catalog.currentCatalog()
        is_kept = not _is_in_memory(spark, catalog)
        is_there = is_kept and spark.catalog.databaseExists(quoted_name(parts))
    except (PySparkException, Py4JJavaError) as e:
        raise ConfigError(f"--database {name}: the catalog cannot be asked for it: {root_cause(e)}") from e
    if not is_kept:
        raise ConfigError(
            f"--database {name}: this Spark has no metastore, so it forgets the names of tables when it ends, and the "
            "next run could not create them: leave --database out, and the tables are at --tables; or start Spark "
            "with a catalog (./spark-submit.sh --conf spark.sql.catalogImplementation=hive, Unity Catalog, ...)"
        )
    if not is_there:
        raise ConfigError(
            f"--database {name}: there is no such schema: create it (`CREATE SCHEMA {quoted_name(parts)}`), or correct "
            "the name"
        )


def _is_in_memory(spark: SparkSession, catalog: str) -> bool:
    """Whether a catalog is Spark's own, without Hive's metastore below it. Delta's is a layer above that one."""
    if catalog.lower() != _SPARKS_OWN:
        return False
    replaced_by = spark.conf.get(_REPLACED_BY, "") or DELTA_SETTINGS[_REPLACED_BY]
    is_sparks = replaced_by == DELTA_SETTINGS[_REPLACED_BY]
    return is_sparks and spark.conf.get("spark.sql.catalogImplementation", "") == "in-memory"
