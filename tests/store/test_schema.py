"""What tables say of themselves, asked of finished runs of all ways of judging: closed lists, comments, the bound."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from column_claims import CLAIMS
from conftest import FinishedRun, run_everything
from model_files import an_onnx_file
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from table_contents import rows
from tiny_lake import build_tiny_lake

from dedup_spark.commands.calibrate.settings_file import EDITS
from dedup_spark.config import Config, load_config
from dedup_spark.kernels.comparing.probability import cut_for
from dedup_spark.stages.cluster import step as cluster
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import ALL, Table
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import DOUBTFUL_FIRST, DUPLICATES
from dedup_spark.store.views import open_views, read_view
from dedup_spark.vocabulary import IDENTICAL, DistanceUnit, Metric, StepName

CHECKS_THE_BOUND = "SELECT count(*) AS members, count_if(NOT near_distance <= bound) AS broken FROM clusters"


@dataclass(frozen=True)
class Way:
    """A finished run, and how pairs were judged in it."""

    tables: Tables
    config: Config
    is_calibrated: bool
    has_embeddings: bool


def by_default(request: pytest.FixtureRequest, root: Path) -> Way:
    finished: FinishedRun = request.getfixturevalue("finished")
    return Way(finished.tables, load_config(), is_calibrated=True, has_embeddings=True)


def without_looking(request: pytest.FixtureRequest, root: Path) -> Way:
    """The same features and pairs, but no pair in doubt is compared by its thumbnails."""
    finished: FinishedRun = request.getfixturevalue("finished")
    config = load_config(None, ["cluster.max_verified_pairs=0"])
    tables = Tables(finished.tables.spark, str(shutil.copytree(finished.tables.root, root / "tables")))
    run = Run(tables, config, f"file://{finished.lake.folder.resolve()}", "without looking")
    with run.step(StepName.CLUSTER):
        cluster.run(tables.spark, config, run)
    return Way(tables, config, is_calibrated=True, has_embeddings=True)


def by_cosine(request: pytest.FixtureRequest, root: Path) -> Way:
    """A model that nobody calibrated, of six dimensions."""
    weights = an_onnx_file(root / "colours.onnx")
    near = ["match.min_similarity=0.9", "match.floor_similarity=0.8", "cluster.min_similarity=0.95"]
    near.append("cluster.uncalibrated=cosine")
    config = load_config(None, ["extract.embedding=onnx", f"extract.weights={weights}", *near])
    return Way(whole_run(request, root, config), config, is_calibrated=False, has_embeddings=True)


def by_hashes(request: pytest.FixtureRequest, root: Path) -> Way:
    config = load_config(None, ["extract.embedding=off"])
    return Way(whole_run(request, root, config), config, is_calibrated=False, has_embeddings=False)


def whole_run(request: pytest.FixtureRequest, root: Path, config: Config) -> Tables:
    tables = Tables(request.getfixturevalue("spark"), str(root / "tables"))
    tables.create_missing()
    run_everything(tables, build_tiny_lake(root / "lake").folder, config)
    return tables


WAYS = [
    pytest.param(by_default, id="default"),
    pytest.param(without_looking, id="clustered_without_looking", marks=pytest.mark.slow),
    pytest.param(by_cosine, id="clustered_by_cosine", marks=pytest.mark.slow),
    pytest.param(by_hashes, id="clustered_by_hashes", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """A finished run of each way to judge. Read only."""
    make: Callable[[pytest.FixtureRequest, Path], Way] = request.param
    return make(request, tmp_path_factory.mktemp(make.__name__))


# --- closed lists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_the_comment_of_a_closed_column_names_every_word(table: Table) -> None:
    comments = {name: comment for name, _, comment in table.columns}
    assert set(table.closed) <= set(comments)
    assert not [(name, word) for name, words in table.closed.items() for word in words if word not in comments[name]]


def test_every_column_whose_name_says_so_is_closed() -> None:
    names = {"method", "engine", "relation", "decided_by", "distance_unit", "guard", "status", "reject_reason", "event"}
    names |= {"metric", "step"}
    assert not [(t.name, c) for t in ALL for c in t.column_names if c in names and c not in t.closed]


def test_every_kind_of_edit_has_its_recall() -> None:
    of_edits = [m for m in Metric if m.startswith(Metric.recall_of("format").removesuffix("format"))]
    assert [Metric.recall_of(edit) for edit in EDITS] == of_edits


def test_closed_columns_of_a_finished_run_hold_words_of_their_list_only(way: Way) -> None:
    for table in ALL:
        found = rows(way.tables.root, table.name)
        for column, words in table.closed.items():
            assert {row[column] for row in found} - {None} <= {str(word) for word in words}, (table.name, column)


# --- what comments say ------------------------------------------------------------------------------------


def test_every_column_has_a_claim() -> None:
    assert {t.name: sorted(t.column_names) for t in ALL} == {name: sorted(claims) for name, claims in CLAIMS.items()}


def test_what_comments_say_is_true_of_every_row(way: Way) -> None:
    facts = {
        "is_calibrated": str(way.is_calibrated).lower(),
        "without_embedding": str(not way.has_embeddings).lower(),
        "min_similarity": way.config.cluster.min_similarity,
        "max_hamming_bits": way.config.match.max_hamming_bits,
    }
    wrong = {}
    for table in ALL:
        claims = {name: F.expr(claim.format(name, **facts)) for name, claim in CLAIMS[table.name].items()}
        broken = [F.count_if(~F.coalesce(holds, F.lit(False))).alias(name) for name, holds in claims.items()]
        counts = way.tables.read(table).agg(*broken).first()
        assert counts is not None
        wrong |= {
            f"{table.name}.{name}": n for name, n in (counts or way.tables.read(table).first()).asDict().items() if n
        }
    assert wrong == {}


def test_one_statement_checks_the_bound_of_any_run(way: Way) -> None:
    open_views(way.tables)
    [checked] = way.tables.spark.sql(CHECKS_THE_BOUND).collect()
    assert checked["broken"] == 0
    assert checked["members"] == len(rows(way.tables.root, "clusters")) > 2
    units = {row["distance_unit"] for row in rows(way.tables.root, "clusters")}
    assert units == {
        DistanceUnit.COPY_PROBABILITY
        if way.is_calibrated
        else DistanceUnit.SIMILARITY
        if way.has_embeddings
        else DistanceUnit.HAMMING_BITS
    }


def test_evidence_has_rows_where_a_calibration_weighs_and_clusters_say_what_is_in_them(way: Way) -> None:
    evidence = {(r["image_id_a"], r["image_id_b"]): r for r in rows(way.tables.root, "evidence")}
    assert bool(evidence) == way.is_calibrated
    standing_for = representatives_of(way.tables)
    edited = [m for m in rows(way.tables.root, "clusters") if is_judged(m) and m["keeper_distance"] is not None]
    assert edited
    for member in edited if way.is_calibrated else ():
        a, b = sorted(standing_for[member[name]] for name in ("image_id", "keeper_image_id"))
        names = ("similarity", "hamming_bits", "copy_probability", "agreement", "contested", "n_inliers", "decided_by")
        assert {name: member[name] for name in names} == {name: evidence[a, b][name] for name in names}


def is_judged(member: dict[str, Any]) -> bool:
    """Whether evidence or likeness joined a row of clusters to its keeper."""
    return member["relation"] not in (None, *IDENTICAL)


def representatives_of(tables: Tables) -> dict[int, int]:
    """The smallest image_id of equal pixels, for every image that could be read."""
    features = [f for f in rows(tables.root, "features") if f["status"] == "ok"]
    smallest: dict[str, int] = {}
    for f in features:
        smallest[f["pixel_hash"]] = min(f["image_id"], smallest.get(f["pixel_hash"], f["image_id"]))
    return {f["image_id"]: smallest[f["pixel_hash"]] for f in features}


def test_a_pair_that_is_said_to_have_joined_two_images_reaches_the_cut(way: Way) -> None:
    settings = way.config.cluster
    for member in rows(way.tables.root, "clusters"):
        if member["is_direct"] and is_judged(member):
            if way.is_calibrated:
                assert member["copy_probability"] >= cut_for(settings.target_precision) - 1e-6
            elif way.has_embeddings:
                assert member["similarity"] >= settings.min_similarity - 1e-6


# --- reasons ----------------------------------------------------------------------------------------------


def test_a_reason_says_what_decided_with_the_numbers_that_did(way: Way) -> None:
    for member in rows(way.tables.root, "clusters"):
        assert what_decided(member) in member["reason"]
        assert ("joined through other members" in member["reason"]) == (not member["is_direct"])
        assert ("stays: " in member["reason"]) == (not member["is_removable"] and not member["is_keeper"])
        assert "null" not in member["reason"].lower()


def what_decided(member: dict[str, Any]) -> str:
    """What the reason of a row must say, from the row alone."""
    by, cosine = member["decided_by"], f"cosine {member['similarity'] or 0:.3f}, "
    if by == "geometry" and member["agreement"] is not None:
        share = math.floor(100 * member["agreement"] + 0.5)
        if member["n_inliers"] == 0:
            return f"laid over each other as they are, they agree in {share} % of what they show"
        return f"{share} % of the content in common agrees, and {member['n_inliers']} keypoints fit one map"
    if by == "cosine" and member["copy_probability"] is None:
        return f"by a model without calibration: {cosine}and {1 - member['bound']:.3f} is near enough"
    if by is None and not member["is_keeper"]:
        return " rather than the keeper"
    return {
        None: "kept: ",
        "content_hash": "byte for byte the keeper",
        "pixel_hash": "decodes to the keeper's pixels",
        "geometry": f"the thumbnails do not fit each other, which leaves the embeddings: {cosine}",
        "phash": f"the pHash decided, without embeddings: it differs in {member['hamming_bits']} of 64 bits",
        "cosine": cosine,
        "undecided": f"so that the thumbnails were not compared: {cosine}",
    }[by]


# --- what to look at first --------------------------------------------------------------------------------


def test_the_doubtful_view_has_every_removable_copy_of_other_pixels_the_most_doubtful_first(way: Way) -> None:
    found = read_view(way.tables, DOUBTFUL_FIRST).collect()
    removable = read_view(way.tables, DUPLICATES).where("removable AND removal_tier NOT LIKE 'same_%'").collect()
    assert {row["image_id"] for row in found} == {row["image_id"] for row in removable}
    doubts = [row["doubt"] for row in found]
    assert doubts == sorted(doubts, reverse=True)
    assert all(0 <= doubt <= 1 for doubt in doubts)
    if way.is_calibrated:
        likely = [row["copy_probability"] for row in found]
        assert likely == sorted(likely)
    assert {row["image_id"] for row in found if row["decided_by"] == "undecided"} == {
        row["image_id"] for row in found if "the thumbnails were not aligned" in row["doubts"]
    }
