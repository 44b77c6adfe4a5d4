"""Waves: the work items of a long match in portions. What each found is kept in one commit, for a run that goes on.

A match that is killed loses the wave under way. The next start of the same match, that is with the same shard files,
settings and images to compare, leaves out the items of the waves that are kept, and joins the others in the same way:
the engine, its floor and its filter are chosen by measured times, so they are kept before the first wave. The survey is
made again: it is a hundredth of all comparisons at most, and its neighbours are the same, as its sample is.

A match of one wave keeps nothing: it stages what it found, as other steps do.
"""

from __future__ import annotations

import hashlib
from typing import Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

import dedup_spark
from dedup_spark.columns import Columns
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match import engine_choice, totals, work_items
from dedup_spark.stages.match.comparisons import Comparisons
from dedup_spark.stages.match.engine_choice import Choice
from dedup_spark.stages.match.inputs import Inputs
from dedup_spark.stages.match.task import JOINED
from dedup_spark.stages.match.totals import Totals
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import StepName

_KEPT = JOINED + Columns("wave bigint, choice string")
"""JOINED, and of each row the number below which all items are done with its wave. The first commit is one row with
nothing but the choice of the engine."""


def name_of(given: Inputs, wanted: Comparisons) -> str:
    """Of a match, by what decides which pairs its items hold, and which items have which numbers."""
    versions = dedup_spark.__version__, engine_choice.FORM
    facts = (*versions, given.fingerprint, given.files_hash, wanted.name, work_items.STRIPE)
    return hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:16]


class Waves:
    """What finished waves of one match left below the root of the tables.

    Attributes:
        choice: Of the engine that joined them; None where nothing is kept.
        done_below: Items with smaller numbers are done.
        totals: Of these items.
    """

    def __init__(self, tables: Tables, name: str, min_similarity: float) -> None:
        self._tables, self._name, self._min_similarity = tables, name, min_similarity
        self.choice: Choice | None = None
        self.done_below = 0
        self.totals: Totals = totals.NOTHING

    @classmethod
    def open(cls, tables: Tables, name: str, min_similarity: float) -> Self:
        """Those of the match `name`; those of other matches, which nobody will continue, are deleted."""
        tables.drop_progress(StepName.MATCH, keep=name)
        waves = cls(tables, name, min_similarity)
        if waves._read() is not None:
            waves._add(local_relation(tables.spark, [], _KEPT))  # a fence: see Tables.add_progress
            waves._load()
        return waves

    def begin(self, chosen: Choice) -> None:
        """Keep the choice, unless it is the one that is kept already."""
        if self.choice is not None:
            return
        row = {"wave": 0, "choice": engine_choice.to_json(chosen)}
        first = local_relation(self._tables.spark, [tuple(row.get(name) for name in _KEPT)], _KEPT)
        self._add(first)
        self._load()
        if self.choice is None:  # a run that this one took the tables over from began at the same moment
            self._add(first)
            self._load()

    def begin_anew(self) -> None:
        """Delete what is kept."""
        self._tables.drop_progress(StepName.MATCH)
        self.choice, self.done_below, self.totals = None, 0, totals.NOTHING

    def keep(self, joined: DataFrame, done_below: int) -> None:
        """Add the rows of JOINED of the items from the last `done_below` to this one, in one atomic commit."""
        wave = F.lit(done_below).cast("bigint").alias("wave")
        self._add(joined.select("*", wave, F.lit(None).cast("string").alias("choice")))
        rows = self._rows().where(F.col("wave") == done_below)
        self.totals = totals.together(self.totals, totals.of(rows, self._min_similarity))
        self.done_below = done_below

    def found(self) -> DataFrame:
        """The rows of JOINED of all waves."""
        return self._rows().select(*JOINED)

    def _load(self) -> None:
        """Take over what is kept, but a wave that was cut off: its items are to be joined in full, or not at all."""
        cut_off = self._rows().where("overflow").select("wave").distinct().collect()
        if cut_off:
            keys = local_relation(self._tables.spark, [tuple(row) for row in cut_off], "wave bigint")
            self._tables.delete_progress(StepName.MATCH, self._name, keys)
        kept = self._rows()
        facts = kept.agg(F.count("choice"), F.max("choice"), F.max("wave")).first()
        assert facts is not None
        n_choices, choice, done_below = facts
        if n_choices != 1:
            self.begin_anew()
            return
        self.choice, self.done_below = engine_choice.from_json(choice), done_below
        self.totals = totals.of(kept, self._min_similarity)

    def _add(self, rows: DataFrame) -> None:
        self._tables.add_progress(StepName.MATCH, self._name, rows, in_few_files=True)

    def _read(self) -> DataFrame | None:
        return self._tables.read_progress(StepName.MATCH, self._name)

    def _rows(self) -> DataFrame:
        rows = self._read()
        assert rows is not None
        return rows
