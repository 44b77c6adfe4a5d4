"""Tables of bytes: which column, what a listing reads, and that row numbers lead to the right bytes."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from listings import address_of, fetched, listed, plan_of
from PIL import Image
from pyspark.sql import SparkSession

from dedup_spark.config import InventorySettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import parquet_rows
from dedup_spark.sources.base import Address
from dedup_spark.sources.registry import open_source
from dedup_spark.sources.table import TableSource
from dedup_spark.spark.local_relation import local_relation


def image(n: int) -> bytes:
    return f"image {n} ".encode() * 200


def rows(first: int, n: int) -> pa.Table:
    """Hugging Face's layout: a struct of bytes and path, and what else is known."""
    numbers = range(first, first + n)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "image": [{"bytes": image(i), "path": f"{i:04}.jpg"} for i in numbers],
            "label": [f"class {i % 3}" if i % 2 else None for i in numbers],
            "tags": [["a", "b"] for _ in numbers],
        }
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """As downloaded from Hugging Face: data files in a subfolder beside other files; small row groups."""
    folder = tmp_path / "my+data set 100%25"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# not Parquet")
    for k in range(2):
        pq.write_table(rows(100 * k, 100), folder / "data" / f"train-{k}.parquet", row_group_size=30)
    return folder


def test_every_row_of_every_file_is_an_image(dataset: Path, spark: SparkSession) -> None:
    source = TableSource(str(dataset))
    found = listed(source, spark)
    assert sorted(fetched(source, found)) == sorted(image(i) for i in range(200))
    by_member = {row["member"]: row for row in found}
    row = by_member["data/train-1.parquet#42"]
    assert row["uri"] == source.root == f"file://{dataset.resolve()}"
    assert (row["location"], row["position"]) == (f"{source.root}/data/train-1.parquet", 42)
    assert source.fetch(address_of(row)) == image(142)
    assert row["attributes"] == {"id": "142", "image.path": "0142.jpg"}
    assert by_member["data/train-0.parquet#1"]["attributes"]["label"] == "class 1"
    assert row["modified_at"].timestamp() == pytest.approx((dataset / "data/train-1.parquet").stat().st_mtime, abs=0.01)
    assert (row["size_bytes"], row["etag"]) == (None, None)


@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_the_listing_does_not_read_the_bytes(kind: str, dataset: Path, spark: SparkSession, tmp_path: Path) -> None:
    if kind == "delta":
        write_deltalake(tmp_path / "delta", rows(0, 10))
    plan = plan_of(TableSource(str(dataset if kind == "parquet" else tmp_path / "delta")).list_images(spark))
    schema = plan.partition("ReadSchema")[2]
    assert "image:struct<path:string>" in schema
    assert "binary" not in schema


def test_one_file_with_a_plain_column(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"content": pa.array([b"a", b"", b"c"], pa.large_binary()), "uri": ["x", "y", "z"]}), path)
    source = TableSource(str(path))
    found = listed(source, spark)
    assert [row["member"] for row in found] == ["t.parquet#0", "t.parquet#1", "t.parquet#2"]
    assert fetched(source, found) == [b"a", b"", b"c"]


def test_a_key_column_names_the_images(dataset: Path, spark: SparkSession) -> None:
    for key, member in (("id", "142"), ("image.path", "0142.jpg")):
        source = TableSource(str(dataset), key_column=key)
        found = {row["member"]: row for row in listed(source, spark)}
        assert len(found) == 200
        assert source.fetch(address_of(found[member])) == image(142)
    with pytest.raises(ConfigError, match=r"'label' does not tell the images apart: 'class 0' in \d+ rows"):
        TableSource(str(dataset), key_column="label").list_images(spark)
    with pytest.raises(ConfigError, match="no key column 'name'; the columns are: id, image, label, tags"):
        TableSource(str(dataset), key_column="name").list_images(spark)


def test_deleted_rows_of_a_delta_table_are_not_listed(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "delta")
    options = {"delta.enableDeletionVectors": "true"}
    pq.write_table(rows(0, 90), tmp_path / "in.parquet")
    written = spark.read.parquet(str(tmp_path / "in.parquet")).coalesce(1)
    written.write.format("delta").options(**options).save(path)
    # In a session of its own: Delta sends the session with this task, and one that has observed a query cannot be sent.
    spark.newSession().sql(f"DELETE FROM delta.`{path}` WHERE id % 3 = 1")
    assert len(list(Path(path).glob("deletion_vector*"))) == 1  # the data files still hold the rows
    source = TableSource(path)
    found = listed(source, spark)
    assert sorted(fetched(source, found)) == sorted(image(i) for i in range(90) if i % 3 != 1)


def test_delta_column_mapping_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "delta")
    options = {"delta.columnMapping.mode": "name"}
    local_relation(spark, [(b"1",)], "content binary").write.format("delta").options(**options).save(path)
    with pytest.raises(ConfigError, match=r"column mapping \(name\)"):
        TableSource(path).list_images(spark)


def test_the_bytes_column_must_be_clear(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"photo": [b"1"], "thumb": [{"bytes": b"2"}], "id": [1]}), path)
    with pytest.raises(ConfigError, match=r"inventory.bytes_column; columns that hold bytes: photo, thumb.bytes; all"):
        TableSource(str(path)).list_images(spark)
    for column, data in (("photo", b"1"), ("thumb", b"2"), ("thumb.bytes", b"2")):
        source = TableSource(str(path), column)
        assert fetched(source, listed(source, spark)) == [data]
    with pytest.raises(ConfigError, match=r"no bytes column 'id'; columns that hold bytes: photo, thumb\.bytes"):
        TableSource(str(path), "id").list_images(spark)


def test_a_null_is_a_row_that_is_rejected(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    images = [None, {"bytes": None, "path": "http://x/1.jpg"}, {"bytes": b"3", "path": None}]
    pq.write_table(
        pa.table({"image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}), path
    )
    source = TableSource(str(path))
    first, second, third = listed(source, spark)
    for row in (first, second):
        with pytest.raises(ImageRejected, match=r"missing: the bytes column is null in row \d of file:"):
            source.fetch(address_of(row))
    assert source.fetch(address_of(third)) == b"3"


def jpeg(n: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (n, 0, 0)).save(file, "JPEG")
    return file.getvalue()


JPEGS = [jpeg(10 * n) for n in range(6)]
FIXED = pa.array([data.ljust(2000, b"\0") for data in JPEGS], pa.binary(2000))
HELD = {
    "fixed length": FIXED,
    "dictionary": pa.array(JPEGS, pa.binary()).dictionary_encode(),
    "dictionary of large values": pa.array(JPEGS, pa.large_binary()).dictionary_encode(),
    "view": pa.array(JPEGS, pa.binary_view()),
    "large in a struct": pa.StructArray.from_arrays([pa.array(JPEGS, pa.large_binary())], names=["bytes"]),
    "fixed in a struct": pa.StructArray.from_arrays([FIXED], names=["bytes"]),
    "Base64": pa.array([base64.b64encode(data).decode() for data in JPEGS]),
    "Base64 in a large text": pa.array([base64.b64encode(data).decode() for data in JPEGS], pa.large_string()),
    "Base64 for URLs": pa.array([base64.urlsafe_b64encode(data).decode().rstrip("=") for data in JPEGS]),
    "Base64 in lines": pa.array([base64.encodebytes(data).decode() for data in JPEGS]),
    "data URI": pa.array([f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in JPEGS]),
}
DIGESTS = pa.array([bytes([n]) * 16 for n in range(6)], pa.binary(16))


def opened(path: Path) -> TableSource:
    source = open_source(str(path), InventorySettings())
    assert isinstance(source, TableSource)
    return source


@pytest.mark.parametrize("held", HELD)
def test_bytes_are_read_however_they_are_held(held: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {"caption": [f"a dog, {n}" for n in range(6)], "md5": DIGESTS, "image": HELD[held]}
    pq.write_table(pa.table(columns), path, row_group_size=4)
    source = pickle.loads(pickle.dumps(opened(path)))
    assert source._bytes_path()[0] == "image"
    found = [source.fetch(Address(source.root, f"t.parquet#{n}", source.root, n)) for n in range(6)]
    assert [data.rstrip(b"\0") for data in found] == JPEGS


@pytest.mark.parametrize(
    "images",
    [
        pa.array([JPEGS[:2], JPEGS[2:]], pa.list_(pa.binary())),
        pa.array([[{"bytes": JPEGS[0], "path": "a"}]] * 2),
        pa.array([list(JPEGS[0])] * 2, pa.list_(pa.uint8())),
        pa.array([[[0, 1], [2, 3]]] * 2, pa.list_(pa.list_(pa.uint8()))),
    ],
    ids=["of images", "of Hugging Face's images", "of bytes", "of pixels"],
)
def test_lists_are_refused_by_name(images: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "images": images}), tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"lists are not read \(images\): write one image per row"):
        opened(tmp_path / "t.parquet")._bytes_path()


def test_text_that_is_not_base64_or_is_so_twice_is_not_guessed(tmp_path: Path) -> None:
    texts = pa.array([base64.b64encode(data).decode() for data in JPEGS])
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": texts, "mask": texts}), path)
    with pytest.raises(ConfigError, match="if image or mask holds images in Base64, name it"):
        opened(path)._bytes_path()
    assert TableSource(str(path), "mask").fetch(Address("x", "y", f"file://{path}", 1)) == JPEGS[1]
    pq.write_table(pa.table({"image": pa.array([None, "", "?"])}), path)
    assert parquet_rows.base64_columns(f"file://{path}") == []
    with pytest.raises(ImageRejected, match="corrupt: the text is no Base64"):
        TableSource(str(path), "image").fetch(Address("x", "y", f"file://{path}", 2))


def test_null_bytes_beside_a_path_are_read_by_the_path(tmp_path: Path) -> None:
    data, images = tmp_path / "data", tmp_path / "images"
    for folder in (data, images):
        folder.mkdir()
    (data / "near.jpg").write_bytes(b"near")
    (images / "far.jpg").write_bytes(b"far")
    paths = ["near.jpg", "images/far.jpg", str(images / "far.jpg"), f"file://{images}/far.jpg", "gone.jpg", None,
             "https://x/1.jpg"]  # fmt: skip
    rows = [{"bytes": None, "path": path} for path in paths] + [{"bytes": b"own", "path": "gone.jpg"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), data / "t.parquet", row_group_size=3)
    source, at = TableSource(str(tmp_path)), f"file://{data}/t.parquet"
    fetch = [lambda n=n: source.fetch(Address(source.root, f"#{n}", at, n)) for n in range(len(rows))]
    assert [fetch[n]() for n in (0, 1, 2, 3, 7)] == [b"near", b"far", b"far", b"far", b"own"]
    for n, said in ((4, "no such object"), (5, "is null in row 5 of"), (6, "nothing is fetched from the web: https")):
        with pytest.raises(ImageRejected, match=f"missing: .*{said}"):
            fetch[n]()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "file:///etc/passwd", "../secret.jpg", "link.jpg", "s3://bucket/a.jpg"]
)
def test_a_path_beside_null_bytes_does_not_lead_out_of_the_table(path: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"canary")
    (data / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": None, "path": path}], kind)}), data / "t.parquet")
    for root in (data, data / "t.parquet"):
        source = TableSource(str(root))
        with pytest.raises(ImageRejected, match="forbidden: the path beside null bytes leads out of") as rejected:
            source.fetch(Address(source.root, "#0", f"file://{data}/t.parquet", 0))
        assert "canary" not in rejected.value.message


def test_a_key_that_is_the_place_of_a_row_without_a_key_is_said(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"a", b"b"], "id": ["t.parquet#1", None]}), tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"does not tell the images apart: 't.parquet#1' in 2 rows"):
        TableSource(str(tmp_path / "t.parquet"), key_column="id").list_images(spark)


@pytest.mark.parametrize("held", ["fixed length", "dictionary", "Base64"])
def test_spark_lists_what_is_held_in_an_unusual_way(held: str, spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": HELD[held], "label": range(6)}), tmp_path / "t.parquet")
    source = opened(tmp_path / "t.parquet")
    found = listed(source, spark)
    assert [data.rstrip(b"\0") for data in fetched(source, found)] == JPEGS
    assert found[2]["attributes"] == {"label": "2"}


Change = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "missing: no such object"),
        (lambda path: pq.write_table(rows(0, 3), path), "changed_since_listing: .* has 3 rows, not 7"),
        (lambda path: pq.write_table(pa.table({"id": [1] * 9}), path), "changed_since_listing: .*no|name"),
        (lambda path: path.write_text("not Parquet any more"), "corrupt: .*t.parquet"),
    ],
    ids=["gone", "shorter", "other columns", "damaged"],
)
def test_a_data_file_that_changed_rejects_its_rows(change: Change, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(rows(0, 9), path)
    change(path)
    source = TableSource(str(tmp_path))
    with pytest.raises(ImageRejected, match=reason):
        source.fetch(Address(f"file://{tmp_path}", "t.parquet#7", f"file://{path}", 7))


def test_threads_may_ask_in_any_order_and_memory_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_BATCH_BYTES", 20_000)
    monkeypatch.setattr(parquet_rows, "_KEPT_BYTES", 60_000)
    path = tmp_path / "t.parquet"
    pq.write_table(rows(0, 500), path, row_group_size=200)
    source = pickle.loads(pickle.dumps(TableSource(str(path))))  # as it comes to an executor
    addresses = [Address(source.root, None, source.root, n) for n in range(500)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.fetch, addresses)) == [image(n) for n in range(500)]
        assert list(pool.map(source.fetch, addresses[::-7])) == [image(n) for n in range(499, -1, -7)]
    *_, reader = parquet_rows._open_readers.values()
    assert sum(values.nbytes for _, values in reader._kept) < 2 * (60_000 + 32 * 2_000)


def test_rows_in_order_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_BATCH_BYTES", 20_000)
    path = tmp_path / "t.parquet"
    pq.write_table(rows(0, 300), path, row_group_size=100)
    begun: list[int] = []
    begin = parquet_rows._ColumnReader._begin
    monkeypatch.setattr(
        parquet_rows._ColumnReader, "_begin", lambda self, file, group: (begun.append(group), begin(self, file, group))
    )
    in_pairs = [n for k in range(0, 300, 2) for n in (k + 1, k)]
    for n in in_pairs:
        assert parquet_rows.read_value(f"file://{path}", n, "") == image(n)
    assert begun == [0, 1, 2]
