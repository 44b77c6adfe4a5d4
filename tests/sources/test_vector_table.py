"""Tables of vectors: which columns are taken, what is refused, and that any spelling of an address finds its image."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from dedup_spark.config import VectorsSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.given_vectors import VectorFault
from dedup_spark.sources import vector_table
from dedup_spark.sources.vector_table import content_of, open_vectors

D = 8
UNIT = np.eye(D, dtype=np.float32)


def converted(vectors: pa.Array, dtype: str | None = None) -> tuple[list[Any], list[str | None]]:
    made, faults = vector_table._convert(vectors, n_dimensions=D, dtype=dtype)
    return [None if v is None else np.frombuffer(v, "<f2").tolist() for v in made.to_pylist()], faults.to_pylist()


# --- on executors, without Spark --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.float32(), D)])
def test_arrays_of_numbers_become_embeddings(kind: pa.DataType) -> None:
    if pa.types.is_fixed_size_list(kind):
        vectors = pa.array((2 * UNIT).tolist(), kind).cast(pa.list_(pa.float32()))  # as Spark gives it
    else:
        vectors = pa.array((2 * UNIT).tolist(), kind)
    assert converted(vectors) == (UNIT.tolist(), [None] * D)


def test_a_part_of_a_batch_and_nulls_inside_of_it_stay_at_their_places() -> None:
    rows = [None, UNIT[1].tolist(), None, [None] * D, [1.0] * (D - 1), UNIT[2].tolist()]
    made, faults = converted(pa.array(rows, pa.list_(pa.float32())).slice(1))
    assert made == [UNIT[1].tolist(), None, None, None, UNIT[2].tolist()]
    assert faults == [None, VectorFault.NONE, VectorFault.NAN, VectorFault.DIMENSIONS, None]


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_bytes_become_embeddings_by_the_numbers_that_the_setting_names(dtype: str) -> None:
    rows = [UNIT[3].astype(dtype).tobytes(), None, b"\x00" * 7, b"", (7 * UNIT[4]).astype(dtype).tobytes()]
    made, faults = converted(pa.array(rows, pa.binary()), dtype)
    assert made == [UNIT[3].tolist(), None, None, None, UNIT[4].tolist()]
    assert faults == [None, VectorFault.NONE, VectorFault.DIMENSIONS, VectorFault.DIMENSIONS, None]


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("s3a://bucket/a b//c%20.jpg", "s3://bucket/a b//c%20.jpg"),
        ("s3://bucket/a.jpg", "s3://bucket/a.jpg"),
        ("S3N://bucket/a.jpg", "s3://bucket/a.jpg"),
        ("wasbs://c@acc.blob.core.windows.net/a.jpg", "abfss://c@acc.dfs.core.windows.net/a.jpg"),
        ("./cats/1.jpg", "s3://bucket/photos/cats/1.jpg"),
        ("cats/1.jpg", "s3://bucket/photos/cats/1.jpg"),
        ("/no/such/../folder/1.jpg", "file:///no/folder/1.jpg"),
        ("file:/no/such.jpg", "file:///no/such.jpg"),
    ],
)
def test_addresses_get_their_canonical_spelling(given: str, canonical: str) -> None:
    batch = pa.record_batch(
        {"uri": [given, "s3://b/2"], "member": pa.array([None, "m"], pa.string()), "vector": UNIT[:2].tolist()}
    )
    convert = functools.partial(vector_table._convert, n_dimensions=D, dtype=None)
    (made,) = vector_table._by_address([batch], convert, "s3://bucket/photos")
    assert made.schema.equals(vector_table.BY_ADDRESS.arrow)
    assert made.column("uri").to_pylist() == [canonical, "s3://b/2"]
    assert made.column("member").to_pylist() == [None, "m"]


# --- the columns of the table -----------------------------------------------------------------------------


def write(place: Path, **columns: Any) -> str:
    place.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table(columns), place)
    return str(place)


def opened(spark: SparkSession, table: str, **settings: Any) -> vector_table.VectorTable:
    return open_vectors(spark, VectorsSettings(table=table, model="mine", **settings))


def test_the_usual_columns_are_found_and_others_are_named(spark: SparkSession, tmp_path: Path) -> None:
    by_id = write(tmp_path / "a.parquet", image_id=[1, 2], uri=["x", "y"], embedding=UNIT[:2].tolist())
    assert not opened(spark, by_id).has_addresses
    assert opened(spark, by_id, key_column="uri").has_addresses
    mine = write(tmp_path / "b.parquet", **{"my.path": ["x"], "part": ["m"], "v 1": [UNIT[0].tolist()]})
    with pytest.raises(ConfigError, match=r"no column 'image_id' or 'uri'; the columns are: my\.path, part, v 1; name"):
        opened(spark, mine)
    with pytest.raises(ConfigError, match=r"no column 'embedding' or 'vector'.*vectors\.vector_column"):
        opened(spark, mine, key_column="my.path")
    table = opened(spark, mine, key_column="my.path", vector_column="v 1", member_column="part")
    assert (table.n_dimensions, table.model_id) == (D, f"table/mine/{D}")
    row = table.embeddings(D, str(tmp_path)).collect()[0]
    assert (row["uri"], row["member"]) == (f"file://{tmp_path}/x", "m")


def test_the_dimensions_are_those_of_most_vectors_or_of_the_setting(spark: SparkSession, tmp_path: Path) -> None:
    rows = [[1.0] * 9, *[[1.0] * 12] * 3, None, [1.0] * 9]
    path = write(tmp_path / "a.parquet", uri=[str(i) for i in range(6)], vector=rows)
    assert opened(spark, path).n_dimensions == 12
    assert opened(spark, path, dimensions=9).n_dimensions == 9
    faults = {r["uri"][-1]: r["fault"] for r in opened(spark, path).embeddings(12, "/").collect()}
    assert faults == {"0": VectorFault.DIMENSIONS, "5": VectorFault.DIMENSIONS, "4": VectorFault.NONE,
                      "1": None, "2": None, "3": None}  # fmt: skip
    for wrong, said in (([[1.0] * 7], "have 7 dimensions; expected 8 to 8192"), ([None], "holds no vector")):
        path = write(tmp_path / "b.parquet", uri=["x"], vector=pa.array(wrong, pa.list_(pa.float64())))
        with pytest.raises(ConfigError, match=said):
            _ = opened(spark, path).n_dimensions


def test_what_holds_no_vector_or_no_key_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image_id=[1.5], uri=["x"], embedding=[b"abcd"], vector=["text"])
    with pytest.raises(ConfigError, match="'image_id' is double; expected a whole number"):
        opened(spark, path)
    with pytest.raises(ConfigError, match=r"'embedding' holds bytes: say by vectors\.numbers"):
        opened(spark, path, key_column="uri")
    with pytest.raises(ConfigError, match="'vector' is string; expected an array of numbers or bytes"):
        opened(spark, path, key_column="uri", vector_column="vector")
    with pytest.raises(ConfigError, match="no such file or table"):
        opened(spark, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="nowhere"):
        opened(spark, "nowhere.nothing", format="catalog")


@pytest.mark.parametrize("table", ["main.lake.vectors", "viewfs://mount/vectors"])
def test_what_python_does_not_reach_is_refused_with_the_setting_for_it(table: str) -> None:
    with pytest.raises(ConfigError, match=r"vectors\.format=catalog.*delta\.`s3://") as refused:
        vector_table.require_vectors(VectorsSettings(table=table, model="mine"))
    assert f"vectors.table {table}: " in str(refused.value)
    vector_table.require_vectors(VectorsSettings(table=table, model="mine", format="catalog"))


def test_delta_json_orc_and_catalog_tables_are_read(spark: SparkSession, tmp_path: Path) -> None:
    rows = pa.table({"image_id": [7], "vector": [[2] + [0] * (D - 1)]})
    write_deltalake(str(tmp_path / "delta"), rows)
    (tmp_path / "lines.jsonl").write_text(f'{{"image_id": 7, "vector": {[2] + [0] * (D - 1)}}}\n')
    frame = opened(spark, str(tmp_path / "delta")).rows
    frame.selectExpr("key AS image_id", "vector").write.orc(str(tmp_path / "orc"))
    frame.selectExpr("key AS image_id", "vector").createOrReplaceTempView("my_vectors")
    found = [
        opened(spark, str(tmp_path / "delta")),
        opened(spark, str(tmp_path / "lines.jsonl")),
        opened(spark, str(tmp_path / "orc"), format="orc"),
        opened(spark, "my_vectors", format="catalog"),
    ]
    for table in found:
        (row,) = table.embeddings(table.n_dimensions, "/").collect()
        assert (row["image_id"], np.frombuffer(row["embedding"], "<f2").tolist()) == (7, UNIT[0].tolist())


def test_a_table_that_changed_is_told_from_what_it_was(spark: SparkSession, tmp_path: Path) -> None:
    def content(table: str, **settings: Any) -> str:
        return content_of(spark, VectorsSettings(table=table, model="mine", **settings))

    path, delta = str(tmp_path / "a.parquet"), str(tmp_path / "delta")
    seen = []
    for vectors in (UNIT[:2], UNIT[1:3], UNIT[:3]):
        rows = {"uri": [str(i) for i in range(len(vectors))], "vector": vectors.tolist()}
        write(tmp_path / "a.parquet", **rows)
        write_deltalake(delta, pa.table(rows), mode="overwrite")
        spark.read.parquet(path).selectExpr("uri", "vector").createOrReplaceTempView("my_changing_vectors")
        asked = (content(path), content(delta), content("my_changing_vectors", format="catalog"))
        assert asked == (content(path), content(delta), content("my_changing_vectors", format="catalog"))
        seen += asked
    assert len(set(seen)) == 9
