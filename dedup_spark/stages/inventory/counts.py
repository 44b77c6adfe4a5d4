"""What a listing found and what it passed over, counted and said. Part of the step inventory."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError
from dedup_spark.sources.passed_over import FORGOTTEN, REMEDIES, UNLISTED

log = logging.getLogger(__name__)

_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class PassedOverKind:
    """Entries that were passed over for one reason, and the first of them: empty where none may be named."""

    reason: str
    n: int
    example: str


@dataclass(frozen=True)
class Counts:
    """Of one listing.

    Attributes:
        n_listed: Images: addresses that are not passed over.
        n_repeated: Rows that name an object which another row names too.
        passed_over: By reason, in alphabetical order.
    """

    n_listed: int
    n_repeated: int
    passed_over: Sequence[PassedOverKind]

    @property
    def n_unlisted(self) -> int:
        """Folders and containers of which it is not known what is in them."""
        return sum(kind.n for kind in self.passed_over if kind.reason in UNLISTED)

    def of_step(self) -> dict[str, int]:
        """As `runs.counts` has them."""
        repeated = {"repeated": self.n_repeated} if self.n_repeated else {}
        named = {f"passed_over_{re.sub(r'\W+', '_', kind.reason)}": kind.n for kind in self.passed_over}
        return {"listed": self.n_listed, **repeated, **named}

    def notes(self) -> dict[str, Mapping[str, object]]:
        """As `runs.notes` has them; the report reads them there."""
        return {kind.reason: {"n": kind.n, "example": kind.example} for kind in self.passed_over}

    def say(self) -> None:
        """Log what was passed over and why; what could not be listed as a warning, with what to do."""
        if self.n_repeated:
            log.info(
                "inventory: %s rows name an object that another row names too: each is one image",
                f"{self.n_repeated:,}",
            )
        for kind in self.passed_over:
            level = logging.WARNING if kind.reason in UNLISTED else logging.INFO
            entries = f"{kind.n:,} {'entry' if kind.n == 1 else 'entries'}"
            example = f", for example {_short(kind.example)}" if kind.example else ""
            log.log(level, "inventory: %s passed over: %s%s", entries, kind.reason, example)
            if remedy := REMEDIES.get(kind.reason):
                log.info("inventory: %s: %s", kind.reason, remedy)
        if self.n_unlisted:
            log.warning(
                "inventory: what is in a folder or tar file that could not be listed is unknown: images known there "
                "stay, and nothing that they stand for is removable; make it readable, or replace what is damaged, "
                "and run again"
            )


def count_entries(lake: str, entries: DataFrame) -> Counts:
    """Counts of the rows of `identified`. Raises ConfigError when there is no image, not even a forgotten one."""
    first = F.min(F.struct("uri", "member")).alias("first")
    sums = (F.count("*").alias("n_addresses"), F.sum("n_entries").alias("n"), first)
    found = {kind["passed_over"]: kind for kind in entries.groupBy("passed_over").agg(*sums).collect()}
    images = found.pop(None, None)
    kinds = [PassedOverKind(reason, found[reason]["n"], _address(found[reason]["first"])) for reason in sorted(found)]
    if images is None and FORGOTTEN in found:
        return Counts(0, 0, kinds)
    if images is None:
        Counts(0, 0, kinds).say()
        reasons = ", ".join(f"{kind.reason} {kind.n:,}" for kind in kinds)
        remedies = [f"{kind.reason}: {REMEDIES[kind.reason]}" for kind in kinds if kind.reason in REMEDIES]
        raise ConfigError(
            "; ".join(
                [
                    f"lake {lake}: {'no file that may be an image' if kinds else 'empty, there is no file to look at'}",
                    *([f"passed over: {reasons}"] if kinds else []),
                    *remedies,
                ]
            )
        )
    return Counts(images["n_addresses"], images["n"] - images["n_addresses"], kinds)


def _address(first: Sequence[str | None]) -> str:
    return " ".join(filter(None, first))


def _short(address: str) -> str:
    """Beginning and end of an address that would fill the screen: a path may have 4,096 characters."""
    return address if len(address) <= _LONGEST_SHOWN else f"{address[:140]} ... {address[-50:]}"
