"""Cluster ids over runs, against a plain greedy matching, and the events that tell two states apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime

import numpy as np
import pytest
from fabricated import random_ids
from pyspark.sql import SparkSession

from dedup_spark.errors import TableError
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster import history
from dedup_spark.store.schema import CLUSTER_HISTORY
from dedup_spark.store.tables import Tables

State = dict[int, int]  # image_id to group or cluster_id
ID, GROUP = "image_id bigint, cluster_id bigint", "image_id bigint, keeper_image_id bigint"


def expected_names(groups: State, previous: State) -> State:
    """Group to cluster_id."""
    members = defaultdict(list)
    for image_id, group in groups.items():
        members[group].append(image_id)
    shared = Counter((group, previous[i]) for i, group in groups.items() if i in previous)
    names: State = {}
    for (group, cluster_id), _ in sorted(shared.items(), key=lambda s: (-s[1], s[0][1], min(members[s[0][0]]))):
        if group not in names and cluster_id not in names.values():
            names[group] = cluster_id
    taken = set(previous.values())
    for group, ids in members.items():
        if group not in names:
            names[group] = min(i for i in ids if i not in taken)
    return names


def random_states(seed: int) -> tuple[State, State]:
    """Groups, and clusters of an earlier state of nearly the same images; ids are those of members."""
    rng = np.random.default_rng(seed)
    ids = random_ids(300, rng)
    before = rng.integers(0, 60, 300)
    after = np.where(rng.random(300) < 0.3, rng.integers(0, 60, 300), before)
    first = {g: min(i for i, h in zip(ids, before, strict=True) if h == g) for g in set(before.tolist())}
    previous = {i: first[g] for i, g in zip(ids[:270], before.tolist(), strict=False)}
    return dict(zip(ids[20:], (after[20:] + 1000).tolist(), strict=True)), previous


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_keeps_the_id_of_the_previous_cluster_with_which_it_shares_most(tables: Tables, seed: int) -> None:
    groups, previous = random_states(seed)
    spark = tables.spark
    found = history.name_clusters(
        local_relation(spark, list(groups.items()), GROUP), local_relation(spark, list(previous.items()), ID), tables
    ).collect()
    assert len(found) == len(set(groups.values()))
    assert {r["keeper_image_id"]: r["cluster_id"] for r in found} == expected_names(groups, previous)


def test_a_group_whose_members_all_lend_their_ids_to_other_clusters_gets_one_of_its_own(tables: Tables) -> None:
    groups = {1: 91, 5: 91, 2: 92, 3: 92, 6: 93, 7: 93, 8: 92, 9: 93}
    previous = {1: 3, 2: 1, 3: 1, 8: 1, 6: 5, 7: 5, 9: 5, 5: 5}  # the ids 1 and 5 belong to clusters without them
    spark = tables.spark
    rows = history.name_clusters(
        local_relation(spark, list(groups.items()), GROUP),
        local_relation(spark, [(i, c) for i, c in previous.items() if i != 1], ID),
        tables,
    ).collect()
    named = {r["keeper_image_id"]: r["cluster_id"] for r in rows}
    assert (named[92], named[93]) == (1, 5)
    assert named[91] not in (*range(1, 10), None)


def test_events_tell_what_happened_to_each_cluster(spark: SparkSession) -> None:
    before = {1: 1, 2: 1, 3: 1, 4: 4, 5: 4, 6: 6, 7: 6, 8: 6, 9: 6, 10: 10, 11: 10, 12: 12, 13: 12, 14: 14, 15: 14,
              20: 20, 21: 20, 30: 30, 31: 30, 32: 30}  # fmt: skip
    now = {1: 1, 2: 1, 3: 1,  # as it was
           4: 4, 5: 4, 16: 4,  # one more
           6: 6, 7: 6, 8: 8, 9: 8,  # two clusters from one
           10: 10, 11: 10, 12: 10, 13: 10,  # one from two
           17: 17, 18: 17,  # new
           20: 20, 22: 20,  # one came, one went
           30: 30, 31: 30}  # one went  # fmt: skip
    made = history.changes(
        local_relation(spark, list(now.items()), ID), local_relation(spark, list(before.items()), ID),
        7, "run-1", datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert dict(made.dtypes) == CLUSTER_HISTORY.schema.types
    rows = made.collect()
    assert {(r["clusters_version"], r["run_id"]) for r in rows} == {(7, "run-1")}
    assert sorted(
        (r["cluster_id"], r["event"], r["previous_cluster_ids"], r["cluster_size"], r["previous_size"]) for r in rows
    ) == [
        (4, "grown", [4], 3, 2),
        (6, "split", [6], 2, 4),
        (8, "split", [6], 2, None),
        (10, "merged", [10, 12], 4, 2),
        (12, "removed", [12], 0, 2),
        (14, "removed", [14], 0, 2),
        (17, "created", [], 2, None),
        (20, "changed", [20], 2, 2),
        (30, "shrunk", [30], 2, 3),
    ]


@pytest.mark.parametrize("ids", [(1, 1, 1, 1), (1, 2, 3, 3)], ids=["one id for two", "two ids for one"])
def test_ids_that_are_not_one_to_one_with_clusters_stop_the_step(spark: SparkSession, ids: tuple[int, ...]) -> None:
    rows = [(10, True, ids[0]), (10, False, ids[1]), (20, True, ids[2]), (20, False, ids[3])]
    with pytest.raises(TableError, match="run again"):
        history.require_unique_ids(
            local_relation(spark, rows, "keeper_image_id bigint, is_keeper boolean, cluster_id bigint")
        )
