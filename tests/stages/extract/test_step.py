"""The step extract: what a task makes of addresses, and which rows the driver has made again."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from table_contents import counts_of, rows
from tiny_lake import TinyLake, build_tiny_lake

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.errors import GuardError, TableError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import SignatureSettings, rejected_version
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.sources.base import Address
from dedup_spark.stages.extract import checks
from dedup_spark.stages.extract import task as extract_task
from dedup_spark.stages.extract.task import extract_batches
from dedup_spark.stages.reading import read_ahead
from dedup_spark.stages.reading.decoder_pool import DecoderLimits
from dedup_spark.stages.reading.read_ahead import TaskSettings
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables

HASHES_ONLY = ["extract.embedding=off", "extract.max_reject_share=1"]
BATCH = pa.schema(
    [
        ("image_id", pa.int64()),
        ("object_version", pa.int64()),
        ("uri", pa.string()),
        ("member", pa.string()),
        ("location", pa.string()),
        ("position", pa.int64()),
        ("size_bytes", pa.int64()),
    ]
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> TinyLake:
    return build_tiny_lake(tmp_path_factory.mktemp("lake"))


@dataclasses.dataclass
class RememberingSource:
    """Reads files below a folder and remembers what was asked of it."""

    folder: Path
    asked: list[str] = dataclasses.field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def root(self) -> str:
        return str(self.folder)

    def list_images(self, spark: SparkSession) -> Any:
        raise NotImplementedError

    def fetch(self, address: Address, max_bytes: int = 2**31 - 1) -> bytes:
        with self.lock:
            self.asked.append(address.uri)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return (self.folder / address.uri).read_bytes()
        except FileNotFoundError as e:
            raise ImageRejected("missing", str(e)) from e
        finally:
            with self.lock:
                self.at_once -= 1


def settings_for(source: Any, **changes: Any) -> TaskSettings:
    signature = SignatureSettings(400_000_000, 16, 256, 80, 0)
    return TaskSettings(source, signature, dataclasses.replace(ExtractSettings(), **changes), None, "run-1", 1)


def addresses(*paths: str, size_bytes: int | None = None) -> pa.RecordBatch:
    columns = [{"image_id": i, "object_version": 7, "uri": p, "size_bytes": size_bytes} for i, p in enumerate(paths)]
    return pa.RecordBatch.from_pylist(columns, schema=BATCH)


def made(batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def test_rows_come_in_the_order_of_the_addresses_whatever_the_batches(lake: TinyLake) -> None:
    paths = [*lake.truth, *lake.rejects]
    source = RememberingSource(lake.folder)
    whole = made(extract_batches([addresses(*paths)], settings_for(source)))
    single = made(
        extract_batches([addresses(p) for p in paths], settings_for(source, fetch_threads=1, embed_batch_images=3))
    )
    assert [r["image_id"] for r in whole] == list(range(len(paths)))
    assert [{**r, "image_id": 0} for r in whole] == [{**r, "image_id": 0} for r in single]
    assert {
        p: r["reject_reason"] for p, r in zip(paths, whole, strict=True) if r["status"] == "rejected"
    } == lake.rejects


def test_no_addresses_make_no_rows(lake: TinyLake) -> None:
    assert made(extract_batches([], settings_for(RememberingSource(lake.folder)))) == []


def test_identical_bytes_in_a_task_are_decoded_once(lake: TinyLake, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = []
    decoders = read_ahead._decoders(1, SignatureSettings(400_000_000, 16, 256, 80, 0), DecoderLimits(6 * 2**30, 120.0))
    sign = decoders.sign
    monkeypatch.setattr(decoders, "sign", lambda data: (signed.append(data), sign(data))[1])
    path = next(iter(lake.truth))
    done = made(extract_batches([addresses(*[path] * 20)], settings_for(RememberingSource(lake.folder))))
    assert len(signed) == 1
    assert len({r["pixel_hash"] for r in done}) == 1
    assert [r["image_id"] for r in done] == list(range(20))


def test_identical_bytes_that_are_rejected_are_decoded_once_by_all_threads() -> None:
    """A decoder may need its whole time limit to reject an image, of which a lake may hold thousands of copies."""
    signed = []

    def sign(data: bytes) -> extract_task._Signed:
        signed.append(data)
        time.sleep(0.05)
        raise ImageRejected("decoder_timeout", "took too long")

    recent = extract_task._Recent(sign, size=2)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(recent, "a", b"a") for _ in range(20)]
        assert {type(one.exception()) for one in asked} == {ImageRejected}
    assert signed == [b"a"]
    for digest in "bca":  # a is forgotten for c
        with pytest.raises(ImageRejected):
            recent(digest, digest.encode())
    assert signed == [b"a", b"b", b"c", b"a"]


def test_bytes_under_way_are_bounded(lake: TinyLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_task, "_ROWS_PER_BATCH", 1)
    source = RememberingSource(lake.folder)
    paths = list(lake.truth)[:12]
    large = addresses(*paths, size_bytes=2**20)  # each counts for the whole budget
    batches = extract_batches(
        [large], settings_for(source, inflight_bytes=2**20, embed_batch_images=1, fetch_threads=8)
    )
    next(batches)
    assert len(source.asked) <= 2
    made(batches)
    assert source.most_at_once == 1


def test_what_the_store_says_becomes_a_row(lake: TinyLake) -> None:
    path = next(iter(lake.truth))
    size = (lake.folder / path).stat().st_size
    source = RememberingSource(lake.folder)
    batch = pa.Table.from_batches(
        [addresses("gone.jpg"), addresses(path, size_bytes=size + 1), addresses(path, size_bytes=10**12)]
    ).combine_chunks()
    gone, changed, large = made(extract_batches(batch.to_batches(), settings_for(source)))
    assert (gone["reject_reason"], gone["retriable"]) == ("missing", True)
    assert (changed["reject_reason"], changed["retriable"]) == ("changed_since_listing", True)
    assert (large["reject_reason"], large["retriable"]) == ("too_large", False)
    assert source.asked == ["gone.jpg", path]  # what is too large is not even asked for


def test_a_file_that_neither_its_name_nor_its_bytes_call_an_image_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    held = {
        "page.jpg": b"<html>not found</html>",
        "page": b"<html></html>",
        "a.pdf": b"%PDF-1.7",
        "x.dat": bytes(range(9)),
    }
    for name, data in held.items():
        (tmp_path / name).write_bytes(data)
    rows = made(extract_batches([addresses(*held)], settings_for(RememberingSource(tmp_path))))
    assert {row["reject_reason"] for row in rows} == {"not_an_image"}
    assert [row["magic_format"] for row in rows] == [None, "text", "PDF", None]


def extract_again(run: Run, overrides: list[str]) -> dict[str, int]:
    again = Run(run.tables, load_config(None, overrides), run.lake, "again")
    with again.step("outer"):
        run_step(run.tables.spark, again.config, again, find_step("extract"))
    return counts_of(run.tables.root, "extract")


@pytest.fixture
def listed(tables: Tables, lake: TinyLake) -> Run:
    """A lake that was listed and extracted without a model."""
    run = Run(tables, load_config(None, HASHES_ONLY), str(lake.folder), "first")
    for step in ("inventory", "extract"):
        run_step(tables.spark, run.config, run, find_step(step))
    return run


@pytest.mark.slow
def test_rows_of_another_version_are_made_again_and_no_others(listed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = rejected_version(SignatureSettings(400_000_000, 16, 256, 80, 0))
    features = listed.tables.read(FEATURES)
    old = features.where("format = 'PNG'").withColumn("signature_version", pyspark_literal("0/old"))
    n_png = old.count()
    assert n_png > 0
    stale = listed.tables.stage("old", old)
    listed.tables.delete(FEATURES, stale.select("image_id"))
    listed.tables.append(FEATURES, stale)
    listed.tables.drop_staged()
    assert extract_again(listed, HASHES_ONLY)["read"] == 0
    assert extract_again(listed, [*HASHES_ONLY, "extract.on_version_change=recompute"])["read"] == n_png
    assert "0/old" not in {r["signature_version"] for r in rows(listed.tables.root, "features")}
    assert version


def pyspark_literal(text: str) -> Any:
    from pyspark.sql import functions as F

    return F.lit(text)


def test_rejects_are_read_again_when_asked_and_only_those(listed: Run, lake: TinyLake) -> None:
    n_truncated = sum(reason == "truncated" for reason in lake.rejects.values())
    counts = extract_again(listed, [*HASHES_ONLY, 'extract.retry_rejects=["truncated", "missing"]'])
    assert (counts["read"], counts["forgotten"]) == (n_truncated, n_truncated)
    assert extract_again(listed, HASHES_ONLY)["read"] == 0


@pytest.mark.slow
def test_rows_without_a_model_are_made_again_when_a_model_is_asked_for_but_models_never_mix(
    listed: Run, lake: TinyLake
) -> None:
    with_model = ["extract.embedding=sscd_distilled", "extract.max_reject_share=1"]
    assert extract_again(listed, with_model)["read"] == len(lake.truth)
    with pytest.raises(TableError, match="sscd_distilled"):
        extract_again(listed, HASHES_ONLY)


def test_too_many_rejects_stop_the_run_with_the_reasons(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_MIN_IMAGES_FOR_GUARD", 3)
    for i in range(4):
        (tmp_path / "lake").mkdir(exist_ok=True)
        (tmp_path / "lake" / f"{i}.jpg").write_text("not an image")
    run = Run(tables, load_config(None, ["extract.embedding=off"]), str(tmp_path / "lake"), "guard")
    run_step(tables.spark, run.config, run, find_step("inventory"))
    with pytest.raises(GuardError, match=r"4 of 4 images read were rejected \(not_an_image 4\)"):
        run_step(tables.spark, run.config, run, find_step("extract"))
