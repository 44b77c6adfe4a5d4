"""The figures of a step in words: its time, its rate, and the work of Spark. No Spark, no clocks."""

from __future__ import annotations

from collections.abc import Mapping

from dedup_spark.vocabulary import StepName

MAIN_COUNT: Mapping[str, str] = {
    StepName.INVENTORY: "listed",
    StepName.EXTRACT: "read",
    StepName.INDEX: "vectors",
    StepName.MATCH: "asked",
    StepName.CLUSTER: "members",
    StepName.EMBED: "embedded",
}
"""The count of each step, of `runs.counts`, that its time goes into: rates are by it."""


def in_words(step: str, seconds: float, counts: Mapping[str, int], work: Mapping[str, float]) -> str:
    """`40.2s, 61.0 images/s; 312.4 s of 96 tasks, read 1.20 GB, ...`; what is not known is left out."""
    n = counts.get(MAIN_COUNT.get(step, ""))
    rate = f", {n / seconds:,.1f} images/s" if n and seconds else ""
    told = _work_in_words(work)
    return f"{clock(seconds)}{rate}{f'; {told}' if told else ''}"


def _work_in_words(work: Mapping[str, float]) -> str:
    if not work.get("tasks"):
        return ""
    words = [f"{work['task_seconds']:,.1f} s of {work['tasks']:,.0f} tasks"]
    for name, verb in (("read", "read"), ("written", "wrote"), ("shuffled", "shuffled"), ("spilled", "spilled")):
        if n_bytes := work.get(f"{name}_bytes"):
            words.append(f"{verb} {readable_bytes(round(n_bytes))}")
    if (skew := work.get("skew")) is not None:
        words.append(f"slowest task of the longest stage {skew:.1f} times the median")
    return ", ".join(words)


def clock(seconds: float) -> str:
    """`3.2s`, `1m02s`, `2h05m`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes}m{s:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def readable_bytes(n: int) -> str:
    """`1 byte`, `999 bytes`, `1.50 MB`, `12.3 GB`: powers of 1,000, three digits."""
    if n < 1000:
        return f"{n} byte{'' if n == 1 else 's'}"
    units = ("kB", "MB", "GB", "TB", "PB")
    power = next((i for i in range(1, len(units)) if n < 999.5 * 1000**i), len(units))
    size = n / 1000**power
    digits = 2 if size < 9.995 else 1 if size < 99.95 else 0
    return f"{size:,.{digits}f} {units[power - 1]}"
