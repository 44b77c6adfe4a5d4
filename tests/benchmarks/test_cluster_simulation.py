"""The simulation of a stage on many nodes, where arithmetic knows the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster_simulation import Machines, Simulation, Work, pairs_of_shards

CALM = Machines(4, 2, slow_share=0.0, losses=0.0, task_seconds=0.0, link_bytes=1e18, store_requests=1e18)
EVEN = Work(shards=16, shard_bytes=1e6, item_seconds=10.0, spread=0.0)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_every_two_shards_meet_once(n: int) -> None:
    met = [frozenset(pair) for pair in pairs_of_shards(n)]
    assert len(met) == len(set(met)) == n * (n + 1) // 2


def test_one_core_takes_as_long_as_the_work() -> None:
    done = Simulation(EVEN, replace(CALM, nodes=1, cores=1), 1).run()
    halves = EVEN.shards  # a shard with itself is half of the pairs
    assert done.seconds == pytest.approx((EVEN.items - halves / 2) * 10)
    assert done.items_done == EVEN.items


def test_a_node_reads_each_shard_once_and_without_a_cache_again_and_again() -> None:
    with_cache = Simulation(EVEN, CALM, 1).run()
    assert with_cache.reads <= CALM.nodes * EVEN.shards
    assert Simulation(EVEN, replace(CALM, cache_bytes=0.0), 1).run().reads > 2 * with_cache.reads


def test_a_link_carries_one_shard_after_the_other() -> None:
    slow = replace(CALM, nodes=1, cores=2, link_bytes=1e6 / 100)  # 100 s a shard
    done = Simulation(EVEN, slow, 1).run()
    assert done.seconds >= 100 * EVEN.shards
    assert done.waited_seconds > 0


def test_what_a_lost_node_had_begun_is_done_again() -> None:
    done = Simulation(EVEN, replace(CALM, losses=200.0), 3).run()
    assert 0 < done.nodes_lost < CALM.nodes
    assert done.items_done - done.items_again >= EVEN.items
    assert done.seconds > Simulation(EVEN, CALM, 3).run().seconds


def test_slow_nodes_lengthen_a_stage_by_less_than_they_are_slow() -> None:
    calm = Simulation(EVEN, CALM, 1).run().seconds
    assert calm <= Simulation(EVEN, replace(CALM, slow_share=0.3), 1).run().seconds <= 1.5 * calm
