"""Which catalogs can keep the tables of --database. No Spark starts: only settings and names are asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.errors import AnalysisException

from dedup_spark.errors import ConfigError
from dedup_spark.store.catalog import require_database

IN_MEMORY = {"spark.sql.catalogImplementation": "in-memory"}
HIVE = {"spark.sql.catalogImplementation": "hive"}
DELTAS = {"spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog"}
UNITY = {"spark.sql.catalog.spark_catalog": "io.unitycatalog.spark.UCSingleCatalog"}


def session(conf: dict[str, str], *schemas: str, current: str = "spark_catalog") -> Any:
    catalog = SimpleNamespace(currentCatalog=lambda: current, databaseExists=lambda name: name in schemas)
    return SimpleNamespace(catalog=catalog, conf=SimpleNamespace(get=lambda key, default: conf.get(key, default)))


@pytest.mark.parametrize("conf", [IN_MEMORY, IN_MEMORY | DELTAS])
@pytest.mark.parametrize("name", ["dedup", "spark_catalog.dedup", "SPARK_CATALOG.dedup"])
def test_a_catalog_that_forgets_is_refused_even_where_the_schema_is_there(conf: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=f"--database {name}: this Spark has no metastore.*leave --database out"):
        require_database(session(conf, "`dedup`", "`spark_catalog`.`dedup`"), name)


@pytest.mark.parametrize("conf", [HIVE, HIVE | DELTAS, IN_MEMORY | UNITY])
def test_a_catalog_with_a_metastore_is_taken(conf: dict[str, str]) -> None:
    require_database(session(conf, "`dedup`"), "dedup")


def test_another_catalog_of_the_session_is_taken_beside_one_that_forgets() -> None:
    require_database(session(IN_MEMORY, "`main`.`my-lake`"), "main.my-lake")
    require_database(session(IN_MEMORY, "`dedup`", current="main"), "dedup")


@pytest.mark.parametrize(("name", "quoted"), [("dedup", "`dedup`"), ("main.`a.b`", "`main`.`a.b`")])
def test_a_schema_that_is_missing_is_not_made_but_said(name: str, quoted: str) -> None:
    with pytest.raises(ConfigError, match="there is no such schema") as e:
        require_database(session(HIVE, "`another`"), name)
    assert f"(`CREATE SCHEMA {quoted}`)" in str(e.value)


def test_a_catalog_that_cannot_be_asked_is_a_sentence() -> None:
    def fail(_: str) -> None:
        raise AnalysisException("[CATALOG_NOT_FOUND] The catalog `nope` not found.\nConsider ...")

    asked = session(HIVE)
    asked.catalog.databaseExists = fail
    with pytest.raises(
        ConfigError, match=r"--database nope\.x: the catalog cannot be asked.*\[CATALOG_NOT_FOUND\]"
    ) as e:
        require_database(asked, "nope.x")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["a.b.c", "a..b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected SCHEMA or"):
        require_database(session(HIVE), name)
