"""The functions for SQL over Spark's binaryFile: the values of `features`, on the session that users have."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import FinishedRun
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from table_contents import rows

import dedup_spark
from dedup_spark import functions
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.features.hashing import hamming_bits

OF_SIGNATURE = ("pixel_hash", "phash", "width_px", "height_px", "format", "thumbnail", "reject_reason")


@pytest.fixture(scope="module")
def names(spark: SparkSession) -> Iterator[list[str]]:
    """The names in SQL, on a session with adaptive execution and code generation, as users have it."""
    settings = {"spark.sql.adaptive.enabled": "true", "spark.sql.codegen.wholeStage": "true",
                "spark.sql.codegen.factoryMode": "FALLBACK",
                "spark.sql.execution.arrow.maxRecordsPerBatch": "16"}  # fmt: skip
    before = {key: spark.conf.get(key) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)
    yield functions.register(spark)
    for key, earlier in before.items():
        spark.conf.set(key, str(earlier))


@pytest.fixture(scope="module")
def files(spark: SparkSession, finished: FinishedRun, names: list[str]) -> DataFrame:
    """The lake of the finished run, as Spark's own source gives it, as the view `files`."""
    lake = str(finished.lake.folder)
    found = spark.read.load(lake, format="binaryFile", recursiveFileLookup=True)
    found = found.withColumn("name", F.element_at(F.split("path", "/lake/"), -1))
    found.createOrReplaceTempView("files")
    return found


@pytest.fixture(scope="module")
def known(finished: FinishedRun) -> dict[str, dict[str, Any]]:
    """The rows of features by the name of the file below the lake; Spark's source gives no empty file."""
    root = str(finished.tables.root)
    names = {row["image_id"]: row["uri"].partition("/lake/")[2] for row in rows(root, "images")}
    return {names[row["image_id"]]: row for row in rows(root, "features") if row["reject_reason"] != "empty"}


@pytest.fixture(scope="module")
def valued(files: DataFrame, spark: SparkSession) -> list[Row]:
    """What all functions give for every file of the lake, in one query."""
    return spark.sql(
        "SELECT name, phash(content) AS phash, pixel_hash(content) AS pixel_hash, dhash(content) AS dhash, "
        "thumbnail(content) AS thumbnail, embed(content) AS embedding, signature(content) AS signature FROM files"
    ).collect()


def test_all_values_are_those_of_features_for_the_same_files(valued: list[Row], known: dict[str, Any]) -> None:
    assert {row.name for row in valued} == set(known)
    for row in valued:
        wanted = known[row.name]
        for name in ("phash", "pixel_hash", "thumbnail"):
            assert row[name].value == wanted[name], (row.name, name)
            assert row[name].reject_reason == wanted["reject_reason"]
        assert {name: row.signature[name] for name in OF_SIGNATURE} == {name: wanted[name] for name in OF_SIGNATURE}
        assert row.signature.dhash == row.dhash.value
        assert row.signature.reject_message == wanted["reject_message"]
        assert (row.dhash.value is None) == (row.phash.value is None)


def test_embeddings_are_those_of_features_of_the_same_model(valued: list[Row], known: dict[str, Any]) -> None:
    for row in valued:
        wanted = known[row.name]
        assert (row.embedding.model_id, row.embedding.reject_reason) == (wanted["model_id"], wanted["reject_reason"])
        if wanted["embedding"] is not None:
            found, made = (np.frombuffer(v, "<f2").astype(float) for v in (row.embedding.value, wanted["embedding"]))
            assert np.abs(found - made).max() < 2e-3  # a batch of other images rounds otherwise


def test_sql_compares_what_it_computed_with_what_a_run_kept(
    spark: SparkSession, files: DataFrame, finished: FinishedRun
) -> None:
    dedup_spark.open_views(spark, tables=str(finished.tables.root))
    found = spark.sql(
        "SELECT min(cosine(embed(content, 'sscd_distilled').value, f.embedding)) AS least, count(*) AS n, "
        "max(hamming(phash(content).value, f.phash)) AS bits FROM files JOIN images i ON endswith(i.uri, files.name) "
        "JOIN features f USING (image_id) WHERE f.status = 'ok' AND startswith(files.name, 'edits/')"
    ).first()
    assert found is not None
    assert found.n == 9
    assert found.least > 0.9999
    assert found.bits == 0


def test_equal_pictures_are_grouped_by_their_hash(files: DataFrame, spark: SparkSession, finished: FinishedRun) -> None:
    groups = spark.sql(
        "SELECT pixel_hash(content).value AS hash, collect_list(name) AS names FROM files GROUP BY 1 "
        "HAVING hash IS NOT NULL AND count(*) > 1"
    ).collect()
    found = {frozenset(row.names) for row in groups}
    assert {frozenset(same) for same in (*finished.lake.same_bytes, *finished.lake.same_pixels)} <= found


def test_columns_of_a_dataframe_are_taken_too_and_two_models_in_one_query(files: DataFrame) -> None:
    some = files.where("startswith(name, 'photos/')")
    model = F.when(F.col("name").endswith("(1).jpg"), F.lit("sscd")).otherwise(F.lit(None))
    found = some.select("name", functions.embed("content", model).alias("e"), functions.phash("content").alias("h"))
    made = found.collect()
    assert len(made) == 2
    for row in made:
        named = "sscd/" if row.name.endswith("(1).jpg") else "sscd_distilled/"
        assert row.e.model_id.startswith(named)
        assert isinstance(row.h.value, int)


def test_bytes_are_sent_to_python_once_for_all_functions_of_a_query(files: DataFrame, spark: SparkSession) -> None:
    query = spark.sql("SELECT phash(content), dhash(content), thumbnail(content), embed(content) FROM files")
    plan = str(query._jdf.queryExecution().executedPlan().toString())  # type: ignore[operator]
    assert plan.count("ArrowEvalPython") == 1


@pytest.mark.parametrize(
    ("a", "b", "bits"),
    [
        ("9223372036854775807", "9223372036854775806", 1), ("-1", "0", 64), ("-9223372036854775808", "-1", 63),
        ("7", "7", 0), ("NULL", "7", None), ("9223372036854775807", "NULL", None),
    ],
)  # fmt: skip
def test_hamming_counts_every_bit_and_nulls_lose_none(
    spark: SparkSession, names: list[str], a: str, b: str, bits: int | None
) -> None:
    pairs = f"VALUES (CAST({a} AS BIGINT), CAST({b} AS BIGINT)), (NULL, NULL) AS t(a, b)"
    beside_nulls = spark.sql(f"SELECT hamming(a, b) AS bits, a, b FROM {pairs}")
    by_columns = beside_nulls.select(functions.hamming("a", F.col("b")).alias("bits"))
    for found in (beside_nulls, by_columns):
        assert [row.bits for row in found.collect()] == [bits, None]
    if bits is not None:
        assert hamming_bits(np.array([int(a)]), np.array([int(b)])).tolist() == [bits]


def test_cosine_takes_stored_vectors_and_arrays_and_refuses_two_lengths(spark: SparkSession, names: list[str]) -> None:
    half = "unhex('003C00380000')"  # 1, 0.5 and 0 in float16, little-endian
    found = spark.sql(
        f"SELECT cosine({half}, array(1.0, 0.5, 0.0)) AS one, cosine(array(1.0D, 0), array(0.0D, 2)) AS none, "
        f"cosine({half}, NULL) AS unknown, cosine(array(1F, 0F), array(-2F, 0F)) AS opposite"
    ).first()
    assert found is not None
    assert found.asDict() == {"one": 1.0, "none": 0.0, "unknown": None, "opposite": -1.0}
    with pytest.raises(PythonException, match="vectors of 2 and 3 dimensions are of two models"):
        spark.sql(f"SELECT cosine({half}, array(1.0, 0.5))").collect()


@pytest.mark.slow
def test_a_wrong_model_is_said_in_the_error_of_the_query(spark: SparkSession, files: DataFrame) -> None:
    with pytest.raises(PythonException, match=r"extract\.embedding must be one of sscd"):
        spark.sql("SELECT embed(content, 'ssdc') FROM files").collect()


def test_nulls_and_wrong_bytes_are_no_errors(spark: SparkSession, names: list[str]) -> None:
    found = spark.sql("SELECT phash(NULL) AS null, phash(CAST('x' AS BINARY)) AS x, signature(X'') AS empty").first()
    assert found is not None
    assert found.null.asDict() == {"value": None, "reject_reason": None, "reject_message": None}
    assert (found.x.value, found.x.reject_reason, found.empty.reject_reason) == (None, "not_an_image", "empty")


def test_functions_with_other_settings_stand_beside_the_plain_ones(spark: SparkSession, files: DataFrame) -> None:
    made = functions.register(
        spark, settings={"extract.thumbnail_px": 64, "extract.min_side_px": 10_000}, prefix="big_"
    )
    assert made == [f"big_{name}" for name in functions.register(spark)]
    found = spark.sql(
        "SELECT big_phash(content).reject_reason AS big, phash(content).reject_reason AS plain FROM files "
        "WHERE name = 'edits/original.jpg'"
    ).first()
    assert found is not None
    assert (found.big, found.plain) == ("too_small", None)
    with pytest.raises(ConfigError, match="thumbnail_px"):
        functions.make({"extract.thumbnail_px": 1})


@pytest.mark.parametrize(
    ("n_rows", "n_bytes", "is_warned"),
    [("16", "1g", False), ("10000", "64MB", False), ("10000", "2147483647", True), ("0", "1g", True)],
)
def test_a_session_that_bounds_neither_rows_nor_bytes_of_a_batch_is_warned_of(
    spark: SparkSession, names: list[str], caplog: pytest.LogCaptureFixture, n_rows: str, n_bytes: str, is_warned: bool
) -> None:
    keys = (functions._BATCH_ROWS, functions._BATCH_BYTES)
    before = [str(spark.conf.get(key)) for key in keys]
    try:
        for key, value in zip(keys, (n_rows, n_bytes), strict=True):
            spark.conf.set(key, value)
        functions.register(spark)
    finally:
        for key, value in zip(keys, before, strict=True):
            spark.conf.set(key, value)
    assert bool(caplog.messages) is is_warned


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [(None, 0), ("67108864", 2**26), ("64MB", 2**26), ("64m", 2**26), ("1 g", 2**30), ("2kb", 2048), ("7b", 7)],
)
def test_sizes_are_read_as_spark_writes_them(text: str | None, n_bytes: int) -> None:
    assert functions._bytes_of(text) == n_bytes


def test_structs_keep_whole_numbers_whole() -> None:
    rows_ = iter([{"phash": 2**63 - 1}, {}, {"reject_reason": "empty", "reject_message": "0 bytes"}])
    frame = functions._frame(rows_, {"value": ("phash", functions._BIGINT)})
    assert frame["value"].dtype == pd.Int64Dtype()
    assert frame["value"][0] == 2**63 - 1
    assert frame["reject_reason"].tolist() == [None, None, "empty"]
    assert functions._frame(iter([]), {"value": ("phash", functions._BIGINT)}).columns.tolist() == [
        "value", "reject_reason", "reject_message",
    ]  # fmt: skip


def test_the_settings_travel_as_plain_values_and_the_package_by_its_name() -> None:
    """What is sent to a worker must not hold the package itself: with --py-files that is on executors already."""
    from pyspark.serializers import CloudPickleSerializer

    for name in ("phash", "signature", "embed", "cosine"):
        sent = CloudPickleSerializer().dumps((getattr(functions.make(), name).func, None))
        assert len(sent) < 4096
        assert b"dedup_spark.functions" in sent


@pytest.mark.slow
def test_functions_work_where_the_package_is_in_a_zip_on_executors_only(finished: FinishedRun, tmp_path: Path) -> None:
    package = Path(dedup_spark.__file__).parent
    with zipfile.ZipFile(tmp_path / "dedup_spark.zip", "w") as packed:
        for path in package.rglob("*.py"):
            packed.write(path, path.relative_to(package.parent))
    script = f"""
import os, sys
sys.path.insert(0, {str(tmp_path / "dedup_spark.zip")!r})
from pyspark.sql import SparkSession
import dedup_spark.functions as dedup
assert ".zip" in dedup.__file__
spark = (SparkSession.builder.master("local-cluster[1,1,1024]").config("spark.driver.host", "127.0.0.1")
         .config("spark.ui.enabled", "false").config("spark.executorEnv.PYTHONPATH", "").getOrCreate())
spark.sparkContext.addPyFile({str(tmp_path / "dedup_spark.zip")!r})
dedup.register(spark)
spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "8")
spark.read.load({str(finished.lake.folder / "photos")!r}, format="binaryFile").createOrReplaceTempView("files")
print(spark.sql("SELECT phash(content).value, length(embed(content).value) FROM files").collect())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={"PATH": "/usr/bin:/bin", "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "HOME": "/root"},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("1024") == 2
