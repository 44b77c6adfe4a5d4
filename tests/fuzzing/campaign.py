"""A reader is given damaged files until the time is up; those that it does not survive are kept in `build/fuzz/`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuzzing.mutations import mutated

FOLDER = Path(__file__).parent.parent.parent / "build" / "fuzz"
SHORT_SECONDS, LONG_SECONDS = 4, 300

Read = Callable[[bytes], str]
"""Gives how the file ended: "ok" or a reason. Raises AssertionError with what is wrong, or whatever it should not."""


def campaign(what: str, files: Sequence[tuple[str, bytes]], read: Read, seconds: float) -> Counter[str]:
    """How many damaged files ended in which way.

    Raises:
        AssertionError: some did not end as they must; it names them, and the files in which they are kept.
    """
    outcomes: Counter[str] = Counter()
    failed = []
    for seed in seeds_for(seconds):
        done, data = mutated(files, seed)
        try:
            outcomes[read(data)] += 1
        except Exception as e:  # whatever a reader raises is what is looked for
            failed.append(
                f"seed {seed}, {done}: {type(e).__name__}: {str(e)[-600:]}; kept as {_keep(what, seed, data)}"
            )
    assert not failed, f"{len(failed)} of {outcomes.total() + len(failed)} files:\n" + "\n".join(failed[:20])
    return outcomes


def seeds_for(seconds: float) -> Iterator[int]:
    """0, 1, 2, ... until the time is up."""
    end, seed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield seed
        seed += 1


def _keep(what: str, seed: int, data: bytes) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{what}-{seed}"
    path.write_bytes(data)
    return path
