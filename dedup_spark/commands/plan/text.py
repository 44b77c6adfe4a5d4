"""Writes a plan as text for a terminal, as JSON, and as the Markdown of docs/plan.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from dedup_spark.commands.plan.estimates import Estimate, Range, growth_exponent, sample_to_see
from dedup_spark.commands.plan.forecast import (
    Prices,
    Rates,
    SparkCluster,
    StepCost,
    Workload,
    forecast,
    shards_of,
    total,
)
from dedup_spark.commands.text_table import aligned, markdown
from dedup_spark.stages.report.values import readable_bytes

if TYPE_CHECKING:
    from dedup_spark.commands.plan.plan import Plan

_COLUMNS = ("step", "hours", "core-hours", "GPU-hours", "read", "shuffled", "written", "memory per node", "dollars")
_ENOUGH_PAIRS = 10
"""With fewer pairs in the sample an estimate is weak, and the text names a sample size that is large enough."""


def describe_plan(plan: Plan) -> str:
    """The whole plan, section by section."""
    mean = plan.n_bytes / max(1, plan.n_images)
    source = "rows of features" if plan.from_features else "images, each read once"
    rejected = ", ".join(f"{reason} {n:,}" for reason, n in plan.rejected.items()) or "none rejected"
    lines = [
        f"lake        {plan.n_images:,} images, {readable_bytes(plan.n_bytes)} ({readable_bytes(round(mean))} each)",
        f"sample      {plan.n_sample:,} readable {source}; {rejected}",
        *(f"undecoded   {sentence}" for sentence in plan.undecodable),
        f"speed       {_speed(plan)}",
        f"            measured here: {', '.join(plan.measured)}; the others are the defaults of "
        "commands/plan/forecast.py",
        "",
        "expected in the whole lake, with 95 % intervals:",
        *_grid(
            ("pairs with", "in the sample", "pairs", "images in groups", "images beyond one per group"),
            [_duplicates(kind, e) for kind, e in plan.duplicates.items()],
        ),
        *_remarks(plan),
        f"to be kept by match: about {_short(plan.work.n_pairs)} pairs; to be compared by thumbnails: "
        f"{_short(plan.work.n_weighed)} of them, of {_short(plan.work.n_described)} images",
    ]
    for i, (cluster, steps) in enumerate(plan.clusters):
        place = "this cluster" if i == 0 else "cluster"
        lines += ["", f"{place}: {cluster}, {_price(cluster, plan.prices)}", *_grid(_COLUMNS, _costs(steps))]
    lines.append(
        "* another engine of match, not counted in the total; the share of pairs that routed compares is given in "
        "commands/plan/forecast.py"
    )
    return "\n".join(lines)


def plan_json(plan: Plan) -> str:
    """Everything, on one line."""
    found = asdict(plan) | {"clusters": [_as_record(c, steps) for c, steps in plan.clusters]}
    return json.dumps(found)


def paper_markdown(lake: Workload, clusters: Sequence[SparkCluster], rates: Rates, prices: Prices) -> str:
    """One table per cluster: the plan of a lake that need not exist."""
    parts = []
    for cluster in clusters:
        shards = shards_of(lake, cluster)
        head = (
            f"**{lake.n_images:,} images on {cluster}**, {_price(cluster, prices)}; "
            f"{_count(shards.n_shards, 'shard')} of {readable_bytes(shards.file_bytes)}, "
            f"{_count(shards.n_items, 'work item')}:"
        )
        parts.append("\n".join([head, "", markdown(_COLUMNS, _costs(forecast(lake, cluster, rates, prices)))]))
    return "\n\n".join(parts)


def _as_record(cluster: SparkCluster, steps: list[StepCost]) -> dict[str, object]:
    return asdict(cluster) | {"steps": [asdict(s) for s in steps], "total": asdict(total(steps))}


def _speed(plan: Plan) -> str:
    rates, mean = plan.rates, plan.n_bytes / max(1, plan.n_images)
    decode = rates.decode_seconds + mean * rates.decode_byte_seconds
    return (
        f"{1 / (decode + rates.embed_seconds):,.1f} images/s per core (fetch and decode {1000 * decode:.0f} ms, model "
        f"{1000 * rates.embed_seconds:.0f} ms); {rates.sketch_pair_ns:.2g} ns per pair by sketch, "
        f"{rates.exact_pair_ns:.2g} ns per pair exactly"
    )


def _price(cluster: SparkCluster, prices: Prices) -> str:
    if cluster.n_gpus:
        return f"at ${prices.dollars_per_gpu_hour:g} per GPU-hour with its node"
    return f"at ${prices.dollars_per_core_hour:g} per core-hour"


def _duplicates(kind: str, e: Estimate) -> tuple[str, ...]:
    return (kind, f"{e.seen.n_pairs:,}", _range(e.pairs), _range(e.images), _range(e.extra))


def _range(found: Range) -> str:
    if found.low == found.high:
        return _short(found.value)
    return f"{_short(found.value)} ({_short(found.low)} to {_short(found.high)})"


def _remarks(plan: Plan) -> list[str]:
    """How the count grows with the sample, and which sample would be large enough where this one is too small."""
    lines = []
    kind, widest = list(plan.duplicates.items())[-1]
    counts = ", ".join(f"{pairs:,} in {n:,}" for n, pairs in widest.seen.by_size)
    exponent = growth_exponent(widest.seen.by_size)
    grows = f"; the count grows with the power {exponent:.1f} (2 in a random sample)" if exponent else ""
    lines.append(f"pairs with {kind} by sample size: {counts}{grows}")
    if plan.n_sample < plan.n_readable and widest.seen.n_pairs < _ENOUGH_PAIRS:
        needed = sample_to_see(_ENOUGH_PAIRS, plan.n_readable, 0.1)
        lines.append(
            f"this sample holds one pair in {(plan.n_readable / plan.n_sample) ** 2:,.0f}. If a tenth of the lake has "
            f"a copy, {needed:,} images hold {_ENOUGH_PAIRS} pairs: --set plan.sample_images={needed}"
        )
    return lines


def _costs(steps: list[StepCost]) -> list[tuple[str, ...]]:
    return [_cost(step) for step in [*steps, total(steps)]]


def _cost(c: StepCost) -> tuple[str, ...]:
    name = f"{c.step}{f' ({c.engine})' if c.engine else ''}{'' if c.is_chosen else ' *'}"
    hours = (_short(c.hours), _short(c.core_hours), _short(c.gpu_hours) if c.gpu_hours else "-")
    moved = tuple(readable_bytes(round(b)) for b in (c.read_bytes, c.shuffle_bytes, c.table_bytes))
    return (name, *hours, *moved, readable_bytes(round(c.node_memory_bytes)), _short(c.dollars))


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def _short(value: float) -> str:
    """At most three digits: a forecast is not more precise than that."""
    if value >= 1e9:
        return f"{value:.1e}"
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _grid(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    right = [False, *(True for _ in header[1:])]
    return ["  " + line for line in aligned(header, rows, right, rule=False).splitlines()]
