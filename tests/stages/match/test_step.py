"""Match against brute force: every pair that must be found, no pair that must not, each once and with its scores."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import (
    MODEL,
    arc,
    directions,
    exact_cosines,
    families,
    far_hash,
    fill,
    frame,
    hamming,
    random_ids,
    readable,
    rejected,
    write_shards,
)
from pyspark.sql import functions as F
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.errors import ArtifactError, GuardError
from dedup_spark.kernels.joins import sketches
from dedup_spark.stages.match import engine_choice
from dedup_spark.stages.match import step as match
from dedup_spark.store.runs import Mark, Run
from dedup_spark.store.schema import CENTROIDS, FEATURES, PAIRS, SHARDS
from dedup_spark.store.shards import usual_cells
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import Method

Pairs = dict[tuple[int, int], float]


def run_match(tables: Tables, *overrides: str, run_id: str = "r1", full: bool = False) -> Mark:
    """Returns what the end mark of the step says."""
    config = load_config(None, overrides)
    run = Run(tables, config, "file:///lake", run_id, full=full)
    with run.step("match") as mark:
        match.run(tables.spark, config, run)
    assert not Path(tables.root, "_staging").exists()
    return mark


def pair_rows(tables: Tables) -> list[dict[str, Any]]:
    return sorted(rows(tables.root, "pairs"), key=lambda r: (r["image_id_a"], r["image_id_b"]))


def found_pairs(tables: Tables) -> Pairs:
    """The pairs, after a check that each is there once, with the smaller id first."""
    found = pair_rows(tables)
    pairs = {(r["image_id_a"], r["image_id_b"]): r["similarity"] for r in found}
    assert len(pairs) == len(found)
    assert all(a < b for a, b in pairs)
    return pairs


def nearest(ids: list[int], cosines: np.ndarray, floor: float, k: int) -> dict[int, list[tuple[float, int]]]:
    """The k nearest of each image above the floor, nearest first, by brute force."""
    return {
        a: [
            (cosine, b)
            for cosine, b in sorted(
                ((cosines[i, j], b) for j, b in enumerate(ids) if j != i), key=lambda n: (-n[0], n[1])
            )
            if cosine >= floor
        ][:k]
        for i, a in enumerate(ids)
    }


def wanted_pairs(ids: list[int], cosines: np.ndarray, near: float, floor: float, k: int) -> Pairs:
    every = itertools.combinations(range(len(ids)), 2)
    above = {ordered(ids[i], ids[j]): cosines[i, j] for i, j in every if cosines[i, j] >= near}
    top = nearest(ids, cosines, floor, k)
    return above | {ordered(a, b): cosine for a, list_ in top.items() for cosine, b in list_}


def ordered(a: int, b: int) -> tuple[int, int]:
    return min(a, b), max(a, b)


def embed(tables: Tables, ids: list[int], vectors: np.ndarray, layout: list[int]) -> None:
    """Replace features and shards by these images."""
    for table in (FEATURES, SHARDS):
        tables.overwrite(table, tables.read(table).where("false"))
    made = [readable(i, v, phash=far_hash(i)) for i, v in zip(ids, vectors, strict=True)]
    fill(tables, feature_rows=made, shard_rows=write_shards(tables.root, ids, vectors, layout))


def lake(seed: int) -> tuple[list[int], np.ndarray]:
    """Families nearer than 0.45, chains around the floor, negatives; 120 images."""
    rng = np.random.default_rng(seed)
    vectors = np.concatenate(
        [families([6] * 5 + [2] * 10, 0.8, rng), families([10] * 3, 0.37, rng), arc(10, 0.4, rng), directions(30, rng)]
    )
    return random_ids(len(vectors), rng), vectors[rng.permutation(len(vectors))]


@pytest.mark.parametrize("n_images", [0, 2])
def test_a_lake_without_embeddings_is_matched_by_its_hashes(tables: Tables, n_images: int) -> None:
    fill(tables, feature_rows=[readable(1, phash=0b0111), readable(2, phash=0b1101)][:n_images])
    run_match(tables)
    near = {"image_id_a": 1, "image_id_b": 2, "method": "phash", "engine": None, "similarity": None, "hamming_bits": 2}
    assert pair_rows(tables) == [near][: max(0, n_images - 1)]
    assert rows(tables.root, "densities") == []


@pytest.mark.parametrize(
    ("engine", "layout"),
    [
        pytest.param("exact", [1, 60, 2, 30, 27], marks=pytest.mark.slow),
        pytest.param("sketch", [50, 70], marks=pytest.mark.slow),
        ("routed", [40, 40, 40]),
    ],
    ids=str,
)
def test_pairs_and_densities_are_those_of_brute_force_whatever_engine_and_shards(
    tables: Tables, engine: str, layout: list[int]
) -> None:
    ids, vectors = lake(11)
    embed(tables, ids, vectors, layout)
    mark = run_match(tables, f"match.engine={engine}", "match.neighbours=3", "match.floor_recall=0.999999",
                    "match.min_recall=0.999999")  # fmt: skip
    cosines = exact_cosines(vectors)
    wanted = wanted_pairs(ids, cosines, 0.45, 0.3, 3)
    assert sum(c < 0.45 for c in wanted.values()) >= 20
    found = found_pairs(tables)
    assert set(found) == set(wanted)
    assert found == pytest.approx(wanted, abs=1e-6)
    assert {(r["method"], r["engine"]) for r in pair_rows(tables)} == {("embedding", engine)}
    top = nearest(ids, cosines, 0.3, 3)
    density = {r["image_id"]: r["similarities"] for r in rows(tables.root, "densities")}
    assert set(density) == set(ids)
    for image_id, similarities in density.items():
        assert similarities == pytest.approx([cosine for cosine, _ in top[image_id]], abs=1e-6)
    overall = next(r for r in rows(tables.root, "quality") if r["metric"] == "recall")
    n_near = sum(c >= 0.45 for c in wanted.values())
    assert (overall["n_queries"], overall["n_true"], overall["value"]) == (120, 2 * n_near, 1.0)
    assert mark.notes["engine"] == engine


@pytest.mark.slow
def test_faiss_finds_the_pairs_above_min_similarity_its_probes_do_not_reach_for_the_floor(tables: Tables) -> None:
    ids, vectors = lake(11)
    embed(tables, ids, vectors, [60, 60])
    run_match(tables, "match.engine=faiss_ivf", "match.min_recall=0.999999")
    wanted = {k: c for k, c in wanted_pairs(ids, exact_cosines(vectors), 0.45, 0.3, 3).items() if c >= 0.45}
    found = {k: c for k, c in found_pairs(tables).items() if c >= 0.45}
    assert found == pytest.approx(wanted, abs=1e-6)
    assert {r["engine"] for r in pair_rows(tables)} == {"faiss_ivf"}


@pytest.mark.slow
def test_what_a_bad_engine_missed_is_listed(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """A radius made far too small, on executors and driver alike."""
    ids, vectors = lake(12)
    embed(tables, ids, vectors, [60, 60])
    small = sketches.SketchFilter(256, 0, 60, 60)
    monkeypatch.setattr(engine_choice, "choose_filter", lambda *_: small)
    mark = run_match(tables, "match.engine=sketch", "match.neighbours=3")
    wanted = {p for p, c in wanted_pairs(ids, exact_cosines(vectors), 0.45, 1, 0).items() if c >= 0.45}
    missed = wanted - set(found_pairs(tables))
    assert missed
    quality = rows(tables.root, "quality")
    overall = next(r for r in quality if r["metric"] == "recall")
    assert (overall["n_found"], overall["n_true"]) == (2 * len(wanted - missed), 2 * len(wanted))
    assert overall["low"] == overall["value"] == overall["high"]  # the sample was everything
    assert {(r["image_id_a"], r["image_id_b"]) for r in quality if r["metric"] == "lost_pair"} == missed
    assert "below match.min_recall (0.999)" in overall["note"]
    assert "match.engine=exact" in overall["note"]
    assert mark.counts["lost_in_sample"] == len(missed)


@pytest.mark.slow
def test_increments_give_the_pairs_of_one_match(tables: Tables) -> None:
    """Images come, go and change; each time only what is new or lost a neighbour is compared."""
    ids, vectors = lake(13)
    options, floor = ("match.engine=exact", "match.neighbours=3"), load_config().match.floor_similarity
    asked = []
    states = [range(80), range(95), [*range(5, 95), *range(100, 120)]]
    for n, state in enumerate(states):
        kept = list(state)
        now = vectors[kept]
        if n >= 2:
            now[7] = vectors[2]  # another picture at the same place
        embed(tables, [ids[i] for i in kept], now, [len(kept) // 2, len(kept) - len(kept) // 2])
        asked.append(run_match(tables, *options, run_id=f"r{n}").counts["asked"])
        wanted = wanted_pairs([ids[i] for i in kept], exact_cosines(now), 0.45, floor, 3)
        found = found_pairs(tables)
        assert set(found) == set(wanted)
        assert found == pytest.approx(wanted, abs=1e-6)
        top = nearest([ids[i] for i in kept], exact_cosines(now), floor, 3)
        for r in rows(tables.root, "densities"):
            assert r["similarities"] == pytest.approx([cosine for cosine, _ in top[r["image_id"]]], abs=1e-6)
    assert asked[:2] == [80, 15]
    assert (
        21 <= asked[2] < 55
    )  # 20 new, one changed, and those that had one of the six that are gone among their nearest


@pytest.mark.slow
def test_an_image_is_asked_again_when_fewer_than_sixteen_of_its_neighbours_are_left(tables: Tables) -> None:
    """Families below min_similarity, where only the nearest are kept. What density reads stays that of everything."""
    rng = np.random.default_rng(16)
    vectors = np.concatenate([families([45, 20], 0.38, rng), families([45], 0.6, rng), directions(10, rng)])
    ids = random_ids(len(vectors), rng)
    asked_with = {i: set() for i in range(len(ids))}
    states = [set(range(120)) - {3}, set(range(3, 110)), {*range(3, 110)} - set(range(5, 35)), {*range(24, 118)}]
    asked = []
    for n, state in enumerate(states):
        kept = sorted(state)
        now, cosines = [ids[i] for i in kept], exact_cosines(vectors[kept])
        embed(tables, now, vectors[kept], [len(kept)])
        asked.append(run_match(tables, "match.engine=exact", run_id=f"r{n}").counts["asked"])
        top = nearest(now, cosines, load_config().match.floor_similarity, 32)
        lists = {r["image_id"]: r["similarities"] for r in rows(tables.root, "densities")}
        for image_id, similarities in lists.items():
            true = [cosine for cosine, _ in top[image_id]]
            assert similarities[:16] == pytest.approx(true[:16], abs=1e-6)
            near = [cosine for cosine in true if cosine >= 0.45]
            assert similarities[: len(near)] == pytest.approx(near, abs=1e-6)
        wanted = {i for i in kept if i not in (states[n - 1] if n else ()) or too_few(asked_with[i], state)}
        assert asked[n] == len(wanted)
        by_id = dict(zip(ids, range(len(ids)), strict=True))
        for i in wanted:
            asked_with[i] = {by_id[other] for _, other in top[ids[i]]} if len(top[ids[i]]) == 32 else set()
    assert asked[0] == 119
    assert asked[1] == 1  # the one that is new: three that are gone are no reason
    assert asked[2] > 1


def too_few(nearest_once: set[int], here: set[int]) -> bool:
    """Of a full list, as found when the image was last compared with everything."""
    return bool(nearest_once) and len(nearest_once & here) < 16


@pytest.mark.slow
def test_copies_with_smaller_ids_are_no_reason_to_ask_for_their_originals_again(tables: Tables) -> None:
    """A folder of the lake was copied. The next full match, and one of tables without a past, find the same groups."""
    rng = np.random.default_rng(17)
    vectors = families([6] * 8, 0.8, rng)
    ids = list(range(1000, 1048))
    embed(tables, ids, vectors, [48])
    first = tables.read(FEATURES).withColumn("run_id", F.lit("20261101-020000-aaaa")).toArrow()
    tables.overwrite(FEATURES, tables.spark.createDataFrame(first, FEATURES.schema))
    assert run_match(tables, "match.engine=exact").counts["asked"] == 48
    before = found_pairs(tables)
    copied = [readable(i - 1000, vectors[i - 1000], phash=far_hash(i), pixel_hash=f"pixels of {i}",
                       run_id="20261102-020000-aaaa") for i in ids]  # fmt: skip
    fill(tables, feature_rows=copied)
    again = run_match(tables, "match.engine=exact", run_id="r2").counts
    identical = {(i - 1000, i): 1.0 for i in ids}
    assert again["asked"] == 0
    assert found_pairs(tables) == before | identical
    assert {r["image_id"] for r in rows(tables.root, "densities")} == set(ids)
    assert run_match(tables, "match.engine=exact", run_id="r3", full=True).counts["asked"] == 48
    assert found_pairs(tables) == before | identical


def centroids(tables: Tables, n_cells: int) -> None:
    """As many rows in the table of cells."""
    row = {"n_images": 0, "model_id": MODEL, "centroid": b""}
    tables.overwrite(CENTROIDS, frame(tables.spark, CENTROIDS.schema, [row | {"cell": i} for i in range(n_cells)]))


@pytest.mark.slow
def test_pairs_that_as_many_probes_of_other_cells_found_are_looked_for_again(tables: Tables) -> None:
    """The number of cells that grows with the lake is none that somebody chose: then only new images are compared."""
    ids, vectors = lake(13)
    probing = ("match.engine=faiss_ivf", "match.faiss_probes=2")
    asked = []
    states = [(48, usual_cells(48)), (52, usual_cells(52)), (52, 12), (54, 12), (54, 8)]
    for n, (n_images, n_cells) in enumerate(states):
        embed(tables, ids[:n_images], vectors[:n_images], [n_images // 2, n_images - n_images // 2])
        centroids(tables, n_cells)
        asked.append(run_match(tables, *probing, run_id=f"r{n}").counts["asked"])
    assert usual_cells(48) < usual_cells(52) < 8
    assert asked == [48, 4, 52, 2, 54]


def test_all_sources_meet_in_one_table_and_an_explosion_is_stopped_before_it_is_written(tables: Tables) -> None:
    rng = np.random.default_rng(14)
    vectors = families([5, 1, 1], 0.9, rng)
    hashed = [0, 3, *rng.integers(-(2**63), 2**63 - 1, 5).tolist()]  # the first two are near by hash as well
    copies = [readable(20, vectors[0], pixel_hash="pixels of 10", phash=0, content_hash="bytes of 10"),
              readable(21, vectors[6], pixel_hash="pixels of 16", phash=hashed[6])]  # fmt: skip
    fill(
        tables,
        feature_rows=[*(readable(10 + i, vectors[i], phash=hashed[i]) for i in range(7)), *copies, rejected(30)],
        shard_rows=write_shards(tables.root, list(range(10, 17)), vectors, [3, 4]),
    )
    tables.append(PAIRS, frame(tables.spark, PAIRS.schema, [{"image_id_a": 1, "image_id_b": 2, "method": "old"}]))
    with pytest.raises(GuardError, match=r"10 pairs expected among 7 distinct images.*match\.max_pairs_per_image=N"):
        run_match(tables, "match.max_pairs_per_image=1")
    assert [p["method"] for p in rows(tables.root, "pairs")] == ["old"]

    cosines = exact_cosines(vectors)
    expected = [
        (10 + i, 10 + j, *(("phash", None) if (i, j) == (0, 1) else ("embedding", "exact")), cosines[i, j],
         hamming(hashed[i], hashed[j]))
        for i, j in itertools.combinations(range(5), 2)
    ] + [(10, 20, "same_bytes", None, 1.0, 0), (16, 21, "same_pixels", None, 1.0, 0)]  # fmt: skip
    counts = run_match(tables, "match.engine=exact").counts
    assert {m: counts.get(m) for m in Method} == {"same_bytes": 1, "same_pixels": 1, "phash": 1, "embedding": 9}
    assert [tuple(p.values()) for p in pair_rows(tables)] == [
        (*names, pytest.approx(similarity, abs=1e-6), bits) for *names, similarity, bits in sorted(expected)
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vectors_sha256": "0" * 64}, r"shard-00000.vectors.npy has SHA-256 .*dedup-spark index --force"),
        pytest.param(
            {"path": "shard_files/gone.faiss"},
            r"shard_files/gone.rows.npy is missing; .*dedup-spark index --force",
            marks=pytest.mark.slow,
        ),
        ({"model_id": "made-up/2"}, rf"hold embeddings of made-up/2, features of {MODEL}; .*dedup-spark index --force"),
        ({"rows_sha256": None}, r"shard-00000.faiss is of an older version.*dedup-spark index --force"),
        ({"n_images": 2}, r"hold 2 vectors, features 3 .*dedup-spark index --force"),
        ({"built_from": "3:0123456789abcdef"}, r"made of other images than the 3 .*dedup-spark index --force"),
        ({"built_from": None}, r"or by a version that did not store of which.*dedup-spark index --force"),
    ],
)
def test_shards_that_are_not_those_of_the_features_stop_the_step(
    tables: Tables, change: dict[str, Any], said: str
) -> None:
    vectors = families([3], 0.9, np.random.default_rng(0))
    made = write_shards(tables.root, [1, 2, 3], vectors, [3])
    fill(tables, feature_rows=[readable(i + 1, v) for i, v in enumerate(vectors)], shard_rows=[made[0] | change])
    with pytest.raises(Exception, match=said) as e:
        run_match(tables)
    assert isinstance(e.value, ArtifactError)


def test_an_index_of_as_many_other_images_stops_the_step(tables: Tables) -> None:
    """Two gone and two new, and the index was not built again: their pair would be lost for good."""
    vectors = families([4, 4], 0.9, np.random.default_rng(1))
    embed(tables, [1, 2, 3, 4, 5, 6], vectors[:6], [6])
    built = tables.read(SHARDS).toArrow()
    embed(tables, [1, 2, 3, 4, 7, 8], vectors[[0, 1, 2, 3, 6, 7]], [6])
    tables.overwrite(SHARDS, tables.spark.createDataFrame(built, SHARDS.schema))
    with pytest.raises(
        ArtifactError, match=r"made of other images than the 6 representatives.*dedup-spark index --force"
    ):
        run_match(tables)


@pytest.mark.slow
def test_the_files_of_the_index_are_read_once_and_their_bytes_are_noted(tables: Tables) -> None:
    """By all workers of an executor together: by the survey, and by items that meet each shard three times."""
    ids, vectors = lake(16)
    embed(tables, ids, vectors, [40, 40, 40])
    notes = run_match(tables, "match.engine=sketch").notes
    flat = sum(path.stat().st_size for path in Path(tables.root).glob("shard_files/*/*.npy"))
    assert notes["shard_bytes_read"] == flat
    embeddings = vectors.size * 2
    assert flat < 1.3 * embeddings


@pytest.mark.slow
def test_a_full_match_finds_what_an_incremental_one_takes_for_known(tables: Tables) -> None:
    ids, vectors = lake(15)
    embed(tables, ids, vectors, [60, 60])
    options = ("match.engine=exact", "match.neighbours=3")
    assert run_match(tables, *options).counts["asked"] == 120
    pairs = found_pairs(tables)
    lost = min(pairs)
    tables.overwrite(PAIRS, tables.read(PAIRS).where(~F.col("image_id_a").eqNullSafe(lost[0])))
    again = run_match(tables, *options, run_id="r2")
    assert (again.counts["asked"], lost in found_pairs(tables)) == (0, False)
    assert "`dedup-spark match --full`" in again.notes["recall"]
    assert run_match(tables, *options, run_id="r3", full=True).counts["asked"] == 120
    assert found_pairs(tables) == pytest.approx(pairs, abs=1e-6)
