"""What the service counts, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator

from dedup_spark.lookup.answers import Answer, IndexState

_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_NAME = "dedup_spark_lookup"
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters since the start. Used by any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Labels], float] = defaultdict(float)
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(_BOUNDS) + 1))
        self.in_flight = 0

    def count(self, what: str, n: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[what, tuple(sorted(labels.items()))] += n

    def answered(self, answer: Answer) -> None:
        """Count an answer: its outcome, its reason where it was rejected, and the seconds of each stage."""
        self.count("images_total", outcome=str(answer.outcome))
        if answer.reason is not None and answer.outcome == "rejected":
            self.count("rejects_total", reason=answer.reason)
        for stage, seconds in answer.seconds.items():
            with self._lock:
                self._buckets[stage][bisect.bisect_left(_BOUNDS, seconds)] += 1
                self._counts["stage_seconds_sum", (("stage", stage),)] += seconds

    def text(self, index: IndexState | None) -> str:
        """All of them."""
        with self._lock:
            counts, buckets = dict(self._counts), {stage: [*found] for stage, found in self._buckets.items()}
        lines = [*_counters(counts), *_histogram(buckets, counts), *_gauge("in_flight", self.in_flight)]
        if index is not None:
            labels = (("run", index.run_id), ("version", index.version))
            lines += _gauge("index_info", 1, labels)
            lines += _gauge("index_age_seconds", index.age_seconds)
            lines += _gauge("images", index.n_images)
            lines += _gauge("added_images", index.n_added)
        return "\n".join(lines) + "\n"


def _counters(counts: dict[tuple[str, Labels], float]) -> Iterator[str]:
    names = sorted({name for name, _ in counts if name.endswith("_total")})
    for name in names:
        yield f"# TYPE {_NAME}_{name} counter"
        yield from (_line(name, labels, n) for (other, labels), n in sorted(counts.items()) if other == name)


def _histogram(buckets: dict[str, list[int]], counts: dict[tuple[str, Labels], float]) -> Iterator[str]:
    if buckets:
        yield f"# TYPE {_NAME}_stage_seconds histogram"
    for stage, found in sorted(buckets.items()):
        total, label = 0, (("stage", stage),)
        for bound, n in zip((*map(str, _BOUNDS), "+Inf"), found, strict=True):
            total += n
            yield _line("stage_seconds_bucket", (*label, ("le", bound)), total)
        yield _line("stage_seconds_sum", label, counts["stage_seconds_sum", label])
        yield _line("stage_seconds_count", label, total)


def _gauge(name: str, value: float, labels: Labels = ()) -> Iterable[str]:
    return f"# TYPE {_NAME}_{name} gauge", _line(name, labels, value)


def _line(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{_NAME}_{name}{{{shown}}} {value:g}" if shown else f"{_NAME}_{name} {value:g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
