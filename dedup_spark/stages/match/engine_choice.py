"""What each engine of match is predicted to cost, and which one is chosen."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from dedup_spark.config import MatchSettings
from dedup_spark.kernels.faiss_index import DEFAULT, has_cells_of
from dedup_spark.kernels.joins.faiss_device import MAX_K
from dedup_spark.kernels.joins.faiss_ivf import FLOAT16_ERROR
from dedup_spark.kernels.joins.sketches import SketchFilter, choose_filter, filter_cost
from dedup_spark.stages.match.floors import lowest_floor, raised_floor, sketch_floor
from dedup_spark.stages.match.survey import Survey

EXACT = ("exact", "exact_gpu")
"""Engines that miss nothing."""

CHEAP_CORE_SECONDS = 10.0
"""Of an exact join that is taken whatever others cost: 35,000 images, as much as Spark's own jobs cost in a match."""

_ROUTING_NS = 0.1
"""The cost per pair of finding the cells to visit: a product of 512 numbers per row and cell of some 1,000 rows."""


@dataclass(frozen=True)
class Slots:
    """Tasks that run at the same time: on cores, and, where tasks hold GPUs, of those with their cores each."""

    cores: int = 1
    gpus: int = 1
    cores_per_gpu: int = 1


@dataclass(frozen=True)
class Choice:
    """An engine with its predicted cost, the floor that it reaches down to, and what it needs.

    Attributes:
        core_seconds: Of all tasks together; of an engine on GPUs the seconds of tasks that hold one.
        slots: Tasks that run at the same time.
    """

    engine: str
    core_seconds: float
    floor: float
    sketch_filter: SketchFilter | None = None
    margin: float = 0.0
    n_probes: int = 0
    faiss_margin: float = FLOAT16_ERROR
    on_gpu: bool = False
    reaches_recall: bool = True
    slots: int = 1

    @property
    def seconds(self) -> float:
        """How long all of them take: what engines on cores and on GPUs are compared by."""
        return self.core_seconds / self.slots

    @property
    def needs_gpu(self) -> bool:
        return self.engine == "exact_gpu" or self.on_gpu


FORM = ", ".join(field.name for kind in (Choice, SketchFilter) for field in fields(kind))
"""Of what `to_json` writes: `from_json` takes no other."""


def to_json(choice: Choice) -> str:
    """For a later run that joins in the same way; see `from_json`."""
    return json.dumps(asdict(choice), sort_keys=True)


def from_json(text: str) -> Choice:
    """What `to_json` of the same `FORM` wrote."""
    facts = json.loads(text)
    sketch_filter = facts.pop("sketch_filter")
    return Choice(**facts, sketch_filter=SketchFilter(**sketch_filter) if sketch_filter else None)


def predict(
    survey: Survey,
    n_comparisons: float,
    settings: MatchSettings,
    gpu_ns: float | None = None,
    faiss_gpu_ns: float | None = None,
    index_type: str = DEFAULT,
    slots: Slots = Slots(),
) -> dict[str, Choice]:
    """Each engine with its cost, by the survey's measurements. Exact joins have recall 1, the others match.min_recall.

    Args:
        gpu_ns: Nanoseconds per comparison of a task of exact_gpu; None: there is no GPU.
        faiss_gpu_ns: The same per row that FAISS scans on it.
        index_type: Of what FAISS searches.
        slots: What the cluster has for tasks on cores and on GPUs.
    """
    exact_floor, floor = (raised_floor(settings, survey, of(settings)) for of in (lowest_floor, sketch_floor))
    demands = [(settings.min_similarity, settings.min_recall)]
    if settings.neighbours and floor < settings.min_similarity:
        demands.append((floor, settings.floor_recall))
    sketch_filter = choose_filter(demands, survey.negatives)
    sketch_ns = filter_cost(sketch_filter, survey.negatives, survey.costs)
    visited = min(1.0, 2 * survey.visited_share(survey.margin))
    seconds = n_comparisons / 1e9
    choices = [
        Choice("exact", seconds * survey.gemm_ns, exact_floor),
        Choice("sketch", seconds * sketch_ns, floor, sketch_filter),
        Choice("routed", seconds * (visited * sketch_ns + _ROUTING_NS), floor, sketch_filter, margin=survey.margin),
        _faiss(survey, seconds, floor, settings, (gpu_ns, faiss_gpu_ns), index_type),
    ]
    if gpu_ns is not None:
        n_near = survey.neighbours_per_image(exact_floor) * survey.n_queries
        scored_ns = n_near / max(1, survey.n_compared) * survey.costs.score / slots.cores_per_gpu
        choices = [Choice("exact_gpu", seconds * (gpu_ns + scored_ns), exact_floor), *choices]
    at_once = (slots.gpus if choice.needs_gpu else slots.cores for choice in choices)
    return {choice.engine: replace(choice, slots=n) for choice, n in zip(choices, at_once, strict=True)}


def _faiss(
    survey: Survey,
    seconds: float,
    floor: float,
    settings: MatchSettings,
    gpu: tuple[float | None, float | None],
    index_type: str,
) -> Choice:
    """FAISS scans the cells that each row probes, in both directions; before, it compares the row with all cells."""
    n_probes = settings.faiss_probes or survey.n_probes
    product_ns, scan_ns = gpu
    on_gpu = scan_ns is not None and n_probes <= MAX_K
    has_cells = has_cells_of(index_type)
    share = survey.probed_share(n_probes) if has_cells else 1.0
    cells_ns = survey.cells_per_row * ((product_ns or 0.0) if on_gpu else survey.gemm_ns) if has_cells else 0.0
    scored_ns = survey.negatives.share_above(floor - survey.faiss_margin) * survey.costs.score
    per_row = share * ((scan_ns if on_gpu and scan_ns is not None else survey.faiss_ns) + scored_ns) + cells_ns
    return Choice(
        "faiss_ivf", seconds * 2 * per_row, floor, n_probes=n_probes, faiss_margin=survey.faiss_margin, on_gpu=on_gpu,
        reaches_recall=not has_cells or n_probes >= survey.n_probes,
    )  # fmt: skip


def choose(choices: dict[str, Choice], engine: str) -> Choice:
    """The engine asked for; for `auto` the first to end of those that reach the recall.

    Where the exact join is cheap, it is chosen: it has recall 1, and small timing differences then change nothing.
    """
    if engine != "auto":
        return choices[engine]
    if choices["exact"].core_seconds <= CHEAP_CORE_SECONDS:
        return choices["exact"]
    return min((c for c in choices.values() if c.reaches_recall), key=lambda c: c.seconds)


def notes(choices: dict[str, Choice], chosen: Choice, survey: Survey) -> dict[str, Any]:
    """Why this engine, for runs.notes."""
    return {
        "engine": chosen.engine,
        "predicted_core_seconds": {
            name: round(c.core_seconds, 3) for name, c in choices.items() if math.isfinite(c.core_seconds)
        },
        "predicted_seconds": {name: round(c.seconds, 3) for name, c in choices.items() if math.isfinite(c.seconds)},
        "floor": chosen.floor,
        "sketch": asdict(chosen.sketch_filter) if chosen.sketch_filter else None,
        "margin": chosen.margin,
        "n_probes": chosen.n_probes,
        "surveyed": survey.n_queries,
        "neighbours_per_image_above_floor": round(survey.neighbours_per_image(chosen.floor), 3),
        "gemm_ns": round(survey.gemm_ns, 2),
        **({"faiss_ns": round(survey.faiss_ns, 2)} if math.isfinite(survey.faiss_ns) else {}),
        **({"faiss_on_gpu": chosen.on_gpu} if chosen.engine == "faiss_ivf" else {}),
    }
