"""Vectors of a user's table in extract and embed: who gets one, who gets none and why, and what stops a run."""

from __future__ import annotations

import logging
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fabricated import fill, readable, rejected
from PIL import Image
from sample_images import sample_images
from table_contents import counts_of, rows

from dedup_spark import pipeline
from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands import opening
from dedup_spark.commands.opening import Opening
from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError, GuardError, TableError
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.reading import given_vectors
from dedup_spark.store.runs import Run
from dedup_spark.store.tables import Tables

N, D = 6, 24
VECTORS = np.random.default_rng(1).standard_normal((N + 1, D)).astype(np.float32)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    for i, pixels in enumerate(sample_images(64)[:N]):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:1000])
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "vectors.parquet"


def write(table: Path, keys: list[Any], vectors: Any, key: str = "uri") -> None:
    listed = [None if v is None else list(map(float, v)) for v in vectors]
    pq.write_table(pa.table({key: keys, "embedding": pa.array(listed, pa.list_(pa.float32()))}), table)


def a_run(tables: Tables, lake: Path, table: Path, *more: str, model: str = "mine/v1") -> Run:
    given = ["extract.embedding=table", f"vectors.table={table}", f"vectors.model={model}", *more]
    config = load_config(None, given)
    return Run(tables, config, open_source(str(lake), config.inventory).root, "a-run")


def do(run: Run, *steps: str) -> dict[str, int]:
    for step in steps:
        run_step(run.tables.spark, run.config, run, pipeline.EMBED if step == "embed" else find_step(step))
    return counts_of(run.tables.root, steps[-1])


def embeddings(run: Run) -> dict[str, tuple[str, np.ndarray] | None]:
    """model_id and embedding by the name of the file; None where there is none."""
    names = {r["image_id"]: Path(r["uri"]).name for r in rows(run.tables.root, "images")}
    return {
        names[r["image_id"]]: (r["model_id"], np.frombuffer(r["embedding"], "<f2")) if r["embedding"] else None
        for r in rows(run.tables.root, "features")
    }


def assert_given(found: dict[str, Any], expected: dict[str, np.ndarray], model_id: str) -> None:
    assert {name for name, given in found.items() if given} == set(expected)
    for name, vector in expected.items():
        assert found[name][0] == model_id
        assert found[name][1] == pytest.approx(vector / np.linalg.norm(vector), abs=1e-3)


@pytest.mark.slow
def test_images_get_their_vectors_by_address_and_those_without_are_named_and_served_later(
    tables: Tables, lake: Path, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.open(lake / "0.png").save(lake / "0 again.png", compress_level=1)  # equal pixels, and no row in the table
    spelled = ["0.png", "./1.png", f"{lake}/2.png", f"file:{lake}/../lake/3.png", "4.png", "4.png", "broken.png",
               "nowhere.png", f"file://{lake}/1.png"]  # fmt: skip
    vectors = [VECTORS[0], VECTORS[1], 5 * VECTORS[2], VECTORS[3], [np.nan] * D, [1.0] * 9, VECTORS[6], VECTORS[5],
               VECTORS[1]]  # fmt: skip
    write(table, spelled, vectors)
    run = a_run(tables, lake, table, "extract.slice_images=3")
    with caplog.at_level(logging.WARNING):
        counts = do(run, "inventory", "extract")
    again = {"0 again.png": VECTORS[0]}
    assert_given(embeddings(run), {f"{i}.png": VECTORS[i] for i in range(4)} | again, f"table/mine/v1/{D}")
    assert (counts["read"], counts["vectors"], counts["unusable_vectors"]) == (8, 5, 1)
    assert (counts["vectors_of_equal_pixels"], counts["without_vector"]) == (1, 2)
    assert re.search(r"1 images have no vector to use \(a number that is NaN.*/4\.png", caplog.text)
    assert re.search(r"2 images have no vector in vectors\.table: (?=.*/4\.png)(?=.*/5\.png)", caplog.text)

    write(table, [*spelled[:4], "4.png", "5.png"], [*vectors[:4], VECTORS[4], VECTORS[5]])
    lake.rename(lake.parent / "away")  # nothing is read again
    lake.mkdir()
    for i in range(N):
        (lake / f"{i}.png").touch()
    counts = do(run, "extract")
    assert (counts["read"], counts["vectors_of_read_images"], counts["without_vector"]) == (0, 2, 0)
    assert_given(embeddings(run), {f"{i}.png": VECTORS[i] for i in range(N)} | again, f"table/mine/v1/{D}")
    table.unlink()
    write(table, ["0.png"], [VECTORS[6]])
    assert "vectors" not in do(run, "extract")  # none is missing, so the table is not read for vectors


@pytest.mark.slow
def test_ids_serve_as_keys_and_another_model_is_embedded_by_the_command_that_the_error_names(
    tables: Tables, lake: Path, table: Path, tmp_path: Path
) -> None:
    hashes = load_config(None, ["extract.embedding=off"])
    first = Run(tables, hashes, open_source(str(lake), hashes.inventory).root, "a-run")
    do(first, "inventory", "extract")
    ids = {Path(r["uri"]).name: r["image_id"] for r in rows(tables.root, "images")}
    write(table, [ids[f"{i}.png"] for i in range(N)], VECTORS[:N], key="image_id")
    run = a_run(tables, lake, table)
    counts = do(run, "extract")  # made without a model, and not read again
    assert (counts["read"], counts["vectors_of_read_images"]) == (0, N)
    assert_given(embeddings(run), {f"{i}.png": VECTORS[i] for i in range(N)}, f"table/mine/v1/{D}")

    other = np.random.default_rng(2).standard_normal((N, 9))
    second = tmp_path / "second.parquet"
    pq.write_table(pa.table({"id": [ids[f"{i}.png"] for i in range(1, N)],
                             "v": [v.astype("<f2").tobytes() for v in other[1:]]}), second)  # fmt: skip
    columns = ["vectors.key_column=id", "vectors.vector_column=v", "vectors.numbers=float16"]
    new = a_run(tables, lake, second, *columns, model="second model")
    with pytest.raises(TableError, match="vectors of two models cannot be compared") as refused:
        do(new, "extract")
    command = re.search(r"dedup-spark (embed .*)$", str(refused.value))
    assert command is not None
    asked = make_parser().parse_args(shlex.split(command[1]))
    assert load_config(None, asked.set) == new.config
    counts = do(new, "embed")
    assert (counts["embedded"], counts["unreadable"], counts["without_vector"]) == (N - 1, 0, 1)
    assert_given(embeddings(new), {f"{i}.png": other[i] for i in range(1, N)}, "table/second model/9")


@pytest.mark.slow
def test_vectors_that_differ_and_keys_that_fit_nothing_stop_a_run_before_an_image_is_read(
    tables: Tables, lake: Path, table: Path
) -> None:
    write(table, ["0.png", f"{lake}/0.png", *[f"{i}.png" for i in range(1, N)]], [VECTORS[6], *VECTORS[:N]])
    run = a_run(tables, lake, table)
    with pytest.raises(TableError, match=r"1 images have several vectors there that differ: \S+/lake/0\.png; keep one"):
        do(run, "inventory", "extract")
    write(table, [f"s3://bucket/{i}.png" for i in range(N)], VECTORS[:N])
    with pytest.raises(GuardError, match=r"for 7 of the 7 images.*Not named in it: \S+png.*keys in it: s3://bucket/0"):
        do(run, "extract")
    assert rows(tables.root, "features") == []
    allowed = a_run(tables, lake, table, "vectors.max_missing_share=1")
    assert do(allowed, "extract")["without_vector"] == N
    assert not any(embeddings(allowed).values())


def test_members_of_containers_are_told_apart_and_a_fault_yields_to_a_vector(tables: Tables) -> None:
    local, spark = local_relation, tables.spark
    images = local(spark, [(1, "s3://b/a.tar", "x", 7), (2, "s3://b/a.tar", "y", 7), (3, "s3://b/c.jpg", None, 8)],
                   "image_id bigint, uri string, member string, reading_key bigint")  # fmt: skip
    given = local(spark, [("s3://b/a.tar", "y", b"22", None), ("s3://b/c.jpg", None, b"33", None),
                          ("s3://b/a.tar", None, b"00", None), ("s3://b/c.jpg", None, None, "bad"),
                          ("s3://b/a.tar", "x", None, "bad"), ("s3://b/a.tar", "y", b"22", None)],
                  "uri string, member string, embedding binary, fault string")  # fmt: skip
    made = given_vectors._one_per_image(given_vectors._joined(images, given)).collect()
    found = {r["image_id"]: (r["embedding"] and bytes(r["embedding"]), r["fault"], r["differ"]) for r in made}
    assert found == {1: (None, "bad", False), 2: (b"22", None, False), 3: (b"33", None, False)}


def test_vectors_reach_all_who_wait_slice_by_slice_with_a_reading_key_or_without(tables: Tables) -> None:
    model_id, keys = f"table/mine/{D}", {1: None, 2: 7, -3: None, 4: -(2**63), 5: 2**63 - 1, 6: 0}
    same = [readable(i, pixel_hash="same", reading_key=key) for i, key in keys.items()]
    donor = readable(9, VECTORS[0], pixel_hash="same") | {"model_id": model_id}
    fill(tables, (), [*same, donor, readable(10), rejected(11)])
    config = load_config(None, ["extract.slice_images=2"])
    run = Run(tables, config, "file:///lake", "a-run")
    with run.step("extract"):
        given_vectors._share_with_equals(run, model_id)
    assert counts_of(tables.root, "extract") == {"vectors_of_equal_pixels": len(keys)}
    found = {row["image_id"]: row for row in rows(tables.root, "features")}
    assert {i for i, row in found.items() if row["model_id"]} == {*keys, 9}
    assert all(found[i]["embedding"] == found[9]["embedding"] for i in keys)
    assert {i: found[i]["reading_key"] for i in keys} == keys


def test_a_table_that_is_not_there_is_named_before_spark_starts(lake: Path, tmp_path: Path) -> None:
    given = ["extract.embedding=table", "vectors.table=/no/such/table", "vectors.model=mine"]
    asked = Opening("run", None, tmp_path / "tables", lake=lake)
    with pytest.raises(ConfigError, match=r"vectors\.table /no/such/table: no such file or table"):
        opening._require_all(asked, load_config(None, given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["extract.embedding=table", "vectors.model=m"], "needs vectors.table"),
        (["extract.embedding=table", "vectors.table=t"], "needs vectors.model"),
        (["vectors.table=t"], "set extract.embedding=table"),
        (
            ["extract.embedding=table", "vectors.table=t", "vectors.model=m", "vectors.dimensions=7"],
            "must be 8 or more",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(None, given)
