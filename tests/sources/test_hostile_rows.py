"""Rows that strangers wrote: each is a row with a reason of one line, at once, and sound rows beside it are read."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clocks import set_clock
from fsspec.registry import known_implementations

from dedup_spark.kernels.decoding.images import REJECT_REASONS, ImageRejected
from dedup_spark.sources import fetching, parquet_rows, random_access
from dedup_spark.sources.base import LISTING, Address, Source
from dedup_spark.sources.binary_file import BinaryFileSource
from dedup_spark.sources.fetching import fetch_patiently
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.manifest import ManifestSource
from dedup_spark.sources.other_files import _sort_out
from dedup_spark.sources.s3_inventory import S3InventorySource
from dedup_spark.sources.spelling import _spell
from dedup_spark.sources.table import TableSource
from dedup_spark.sources.vector_table import _spelled

SOUND = b"a sound image"
_LONG = 200_000
_SCHEMES = [
    *known_implementations, "foo", "s3a", "s3n", "gcs", "wasbs", "viewfs", "javascript", "about", "mailto", "x" * 300,
    "FILE", "Local", "file+http", "a.b-c+d", "",
]  # fmt: skip
_OFFLINE = ("foo", "reference", "dir", "cached", "blockcache", "viewfs", "javascript", "a.b-c+d", "x" * 300, "gdrive")
"""Schemes that lead to no network: fsspec does not know them, or needs more than an address."""
ADDRESSES = [
    *(f"{scheme}://{rest}" for scheme in _SCHEMES if scheme not in ("memory", "http", "https")
      for rest in ("x/y.jpg", "", "/", "/dev/zero", "a@b:c/d", "\0", "..", "x/y.jpg::file:///etc/passwd")),
    "simplecache::file:///dev/zero", "zip://a.jpg::file:///etc/x.zip", "::", "a::b::c", "file:", "dbfs:", "file:///",
    "file:///dev/zero", "local:///dev/zero", "/dev/zero", "/dev/tty", "file://localhost",
    "http://", "https://[bad", "http://a b/c", "http://user:pass@h/x", "http://\u2603/%zz", "http://h:99999/x",
    "http://127.0.0.1:1/" + "a" * _LONG, "http://" + ":" * _LONG, "s3://" + "@:" * _LONG,
    "https://x?sig=" + "&sig=" * 9999, "http://x/" + "?" * _LONG, "http://x/?" + "secret" * 20_000,
    "s3://a b/c", "s3://b", "s3://", "s3:///k", "s3://b/" + "k" * _LONG, "s3://b/\ud7ff\ufffe", "gs://b/%zz%", "gs://",
    "a\0b.jpg", "\0", " ", "\n", "a\nb.jpg", "\x1b[31m.jpg", "\u202egpj.exe", "\uf7e9.jpg", "\uf780" * 5000,
    "%zz", "%00",
    "../" * 5000 + "etc/passwd", "a/" * 20_000, "x" * 5000, "x" * _LONG, ".", "..", "~",
    "~root/x", "C:\\x", "\\\\host\\x",
    "//host/x", "data:image/png;base64,AAAA", "gone.jpg", "pipe", "folder", "{a,b}.jpg", "[", "*", "?", "#", "a#b?c=d",
]  # fmt: skip
PARTS = [
    (None, None), (0, None), (-1, None), (-(2**63), 5), (2**63 - 1, None), (2**63 - 1, 2**63 - 1), (0, -1), (0, 0),
    (10**15, 10), (5, 2**40), (3, -(2**63)),
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sound images, in which nothing waits."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("sound.jpg", "Sound %zz::é.jpg", "m.csv", "manifest.json"):
        (tmp_path / name).write_bytes(SOUND)
    set_clock(monkeypatch, fetching, sleep=lambda _: pytest.fail("it was tried again"))
    return tmp_path


def anywhere() -> tuple[str, ...]:
    """Prefixes that an operator might allow: so that addresses get as far as the library of their store."""
    return ("/", *(f"{scheme}://{place}" for scheme in _OFFLINE for place in ("x", "a@b:c", "")))


def outcome(source: Source, address: Address) -> bytes | str:
    try:
        return fetch_patiently(source, address, patience_seconds=300, max_bytes=10**6)[0]
    except ImageRejected as e:
        assert e.reason in REJECT_REASONS
        assert e.message
        assert e.message.isprintable() or "\n" not in e.message
        assert len(e.message) <= 1003
        return str(e.reason)


def rows_of(uris: list[str], folder: str) -> list[dict[str, Any]]:
    """As a task of inventory spells what stands in a manifest."""
    batch = pa.RecordBatch.from_pylist([{"uri": uri} for uri in uris], schema=LISTING.arrow)
    (spelled,) = _spell([batch], folder)
    assert spelled.num_rows == len(uris)
    again = list(_spell([spelled], folder))
    assert again[0].column("uri").to_pylist() == spelled.column("uri").to_pylist(), "an address has one spelling"
    return spelled.to_pylist()


def encodable(texts: list[str]) -> Iterator[str]:
    """What a column of text can hold."""
    return (text.encode("utf-8", "replace").decode() for text in texts)


@pytest.mark.parametrize("is_allowed", [False, True], ids=["below the manifest", "wherever it is allowed"])
def test_every_address_of_a_manifest_is_a_row_with_a_reason(is_allowed: bool, home: Path) -> None:
    source = ManifestSource(f"{home}/m.csv", anywhere() if is_allowed else ())
    sound = ["sound.jpg", f"file://{home}/sound.jpg", f"local://{home}/sound.jpg", "Sound %zz::é.jpg", "./sound.jpg"]
    found = [outcome(source, Address.of(row)) for row in rows_of(sound, f"file://{home}")]
    assert found == [SOUND] * len(sound)
    for row in rows_of(list(encodable(ADDRESSES)), f"file://{home}"):
        what = outcome(source, Address.of(row))
        assert isinstance(what, str) or row["uri"].startswith("file:///"), row["uri"]


def test_every_part_of_an_object_is_read_or_has_a_reason(home: Path) -> None:
    source = ManifestSource(f"{home}/m.csv")
    uri = f"file://{home}/sound.jpg"
    found = {part: outcome(source, Address(uri, "@", position=part[0], size_bytes=part[1])) for part in PARTS}
    assert found[None, None] == found[0, None] == SOUND
    assert found[-1, None] == found[-(2**63), 5] == "missing"
    assert found[2**63 - 1, None] == b""
    assert found[10**15, 10] == "changed_since_listing"
    assert found[2**63 - 1, 2**63 - 1] == found[5, 2**40] == "too_large"
    assert all(isinstance(found[part], str) for part in PARTS if part[1] is not None and part[1] != 0)


@pytest.mark.parametrize("seed", range(20))
def test_addresses_drawn_from_their_parts_are_rows_too(seed: int, home: Path) -> None:
    rng = random.Random(seed)
    parts = [
        *_SCHEMES,
        "://",
        ":",
        "::",
        "/",
        "..",
        "%",
        "%00",
        "\0",
        "@",
        "?",
        "sig=",
        "é",
        "\uf7ff",
        " ",
        str(home),
        "a",
    ]
    source = ManifestSource(f"{home}/m.csv")
    drawn = ["".join(rng.choices(parts, k=rng.randrange(1, 12))) for _ in range(50)]
    for row in rows_of(drawn, f"file://{home}"):
        assert isinstance(outcome(source, Address.of(row)), str)


@pytest.mark.parametrize("kind", [FolderSource, BinaryFileSource, S3InventorySource, TableSource])
def test_other_sources_reject_the_same_addresses(kind: Any, home: Path) -> None:
    source = kind(f"{home}/manifest.json" if kind is S3InventorySource else str(home))
    if kind is S3InventorySource:
        object.__setattr__(source, "_bucket", "s3://lake")
    for row in rows_of(list(encodable(ADDRESSES)), f"file://{home}"):
        scheme = row["uri"].partition("://")[0]
        if scheme in ("file", *_OFFLINE):
            what = outcome(source, Address.of(row))
            assert isinstance(what, str) or kind in (FolderSource, BinaryFileSource)


def test_a_row_of_an_inventory_without_a_key_is_a_row(home: Path) -> None:
    source = S3InventorySource(f"{home}/manifest.json")
    row = {"uri": source.root, "member": "row without a bucket or a key 17"}
    batches = list(_sort_out([pa.RecordBatch.from_pylist([row], schema=LISTING.arrow)]))
    assert batches[0].num_rows == 1, "it is not passed over for the name of the report"
    assert outcome(source, Address.of(row)) == "missing"


def test_addresses_of_a_table_of_vectors_are_spelled(home: Path) -> None:
    uris = list(encodable(ADDRESSES))
    assert len(_spelled(pa.array(uris), f"file://{home}")) == len(uris)


def table(path: Path, values: list[Any], **options: Any) -> str:
    pq.write_table(pa.table({"content": pa.array(values, pa.binary())}), path, **options)
    return f"file://{path}"


def test_a_value_above_the_limit_is_a_row_and_its_neighbours_are_read(home: Path) -> None:
    uri = table(home / "t.parquet", [SOUND, bytes(10**6 + 1), SOUND, None])
    source = TableSource(str(home / "t.parquet"))
    found = [outcome(source, Address(uri, f"#{n}", uri, n)) for n in (0, 1, 2, 3, 4, -1, 2**63 - 1)]
    assert found == [SOUND, "too_large", SOUND, "missing", *["changed_since_listing"] * 3]


def test_a_value_that_stands_in_every_row_makes_small_batches(home: Path) -> None:
    """A dictionary holds it once, so the file is small; as rows of a batch it would be gigabytes."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array([bytes(2**20)]))
    pq.write_table(pa.table({"content": values}), home / "t.parquet", store_schema=False)
    uri = f"file://{home}/t.parquet"
    reader = parquet_rows._ColumnReader(uri, "content", "bytes")
    assert reader.value(17, 2**20) == bytes(2**20)
    assert sum(values.nbytes for _, values in reader._kept) < 2**27


def test_no_changed_bit_of_a_footer_ends_the_process(home: Path) -> None:
    table(home / "t.parquet", [SOUND, None] * 5)
    data = (home / "t.parquet").read_bytes()
    n_bytes, said = int.from_bytes(data[-8:-4], "little"), ""
    for bit in range(8 * (len(data) - 8 - n_bytes), 8 * (len(data) - 8)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        (home / f"{bit}.parquet").write_bytes(changed)
        try:
            parquet_rows.read_value(f"file://{home}/{bit}.parquet", 0, "")
        except ImageRejected as e:
            said += str(e)
    assert "Definition level histogram size mismatch" in said  # pyarrow's own objects throw it where no one catches it


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "none"])
def test_damaged_pages_are_corrupt_and_other_row_groups_are_read(compression: str, home: Path) -> None:
    rng = random.Random(5)
    values = [rng.randbytes(900) for _ in range(200)]
    uri = table(home / "t.parquet", values, compression=compression, use_dictionary=False, row_group_size=20)
    data = bytearray((home / "t.parquet").read_bytes())
    data[60_000:62_000] = bytes(2000)
    (home / "t.parquet").write_bytes(data)
    source = TableSource(str(home / "t.parquet"))
    found = [outcome(source, Address(uri, f"#{n}", uri, n)) for n in range(200)]
    assert found[:40] == values[:40]
    assert set(map(type, found[:40])) == {bytes}
    assert {what for what in found if isinstance(what, str)} <= {"corrupt"}


def test_a_fault_of_the_disk_in_a_table_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = table(home / "t.parquet", [SOUND])

    def fail(self: random_access.WatchedFile, n_bytes: int = -1) -> bytes:
        self.fault = OSError(5, "Input/output error")
        raise self.fault

    monkeypatch.setattr(random_access.WatchedFile, "read", fail)
    with pytest.raises(OSError, match="Input/output error"):
        parquet_rows.read_value(uri, 0, "content")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 3, b"\xff\xff\xff\xffPAR1", b"x" * 1000])
def test_what_is_no_table_is_corrupt(data: bytes, home: Path) -> None:
    (home / "t.parquet").write_bytes(data)
    uri = f"file://{home}/t.parquet"
    assert outcome(TableSource(str(home / "t.parquet")), Address(uri, "#0", uri, 0)) == "corrupt"
