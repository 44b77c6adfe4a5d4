"""How far representatives are from one another: by likeness, or by the evidence that they are copies.

Part of the step cluster. pairs_to_groups.py decides which of the two it is.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.kernels.comparing.probability import Prior
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.evidence import EvidenceSettings, evidence_of, evidence_settings
from dedup_spark.stages.cluster.keepers import MEASURED, Bounds, likely_alike, likeness_without_pair, measure_likeness
from dedup_spark.stages.cluster.pictures import COLUMNS, SIGNATURE
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, EVIDENCE, FEATURES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import ComparedFor, DistanceUnit

_BOUND = 0.8
"""By evidence, the largest distance (1 - copy_probability) to a keeper: no evidence then says that the two differ.
Of 1,480 pairs of an original and an edited copy 99.9 % are nearer, of unrelated images in one frame 1 %."""


class Distances(ABC):
    """How far representatives are from one another, for the pairs that were measured.

    An object never changes. `measure` gives another one, whose `near`, `between` and `evidence` hold the old pairs and
    the new, so that none of the three can be read too early.
    """

    unit: Column
    """The unit of distances, one of DistanceUnit, for a member with its keeper's pixels, which has no measured pair."""
    bound: Column
    """The largest distance to a keeper, for such a member."""

    @property
    @abstractmethod
    def near(self) -> DataFrame:
        """(a, b, distance, alike): the measured pairs that are within the bound of each other, and whether one of the
        two may be a mere re-encoding of the other."""

    @property
    @abstractmethod
    def evidence(self) -> DataFrame:
        """The rows of the table `evidence`: all measured pairs for ByEvidence, none for ByLikeness."""

    @property
    def inside(self) -> DataFrame:
        """Rows of `evidence`: those that decide between members of one component, and perhaps others."""
        return self.evidence

    @abstractmethod
    def measure(self, pairs: DataFrame, compared_for: ComparedFor) -> Distances:
        """The distances with these pairs measured, too.

        `pairs`: image_id_a < image_id_b of representatives, and `query_id`, the query image of the two, which is
        compared with many. Some may have been measured before.
        """

    @abstractmethod
    def between(self, pairs: DataFrame) -> DataFrame:
        """Measured pairs (image_id_a, image_id_b) with the columns of keepers.MEASURED."""


class ByLikeness(Distances):
    """By cosine or pHash, computed for any pairs when they are needed."""

    def __init__(self, signatures: DataFrame, bounds: Bounds, near: DataFrame) -> None:
        """`near`: (a, b, distance) of pairs that are known to be within the bound."""
        self._signatures, self._bounds, self._measured = signatures, bounds, near
        self.unit, self.bound = likeness_without_pair(bounds)

    @property
    def near(self) -> DataFrame:
        return self._measured.withColumn("alike", likely_alike(F.col("distance")))

    @property
    def evidence(self) -> DataFrame:
        return local_relation(self._signatures.sparkSession, [], EVIDENCE.schema)

    def measure(self, pairs: DataFrame, compared_for: ComparedFor) -> ByLikeness:
        found = self.between(pairs).where("distance <= bound")
        near = found.selectExpr("image_id_a AS a", "image_id_b AS b", "distance")
        return ByLikeness(self._signatures, self._bounds, self._measured.unionByName(near))

    def between(self, pairs: DataFrame) -> DataFrame:
        return measure_likeness(pairs, self._signatures, self._bounds)


@dataclass(frozen=True)
class EvidenceInputs:
    """What the evidence on pairs is made from. `pictures`: pictures.COLUMNS of the images of all pairs to come."""

    tables: Tables
    densities: DataFrame
    pictures: DataFrame
    settings: EvidenceSettings
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def of(cls, run: Run, config: Config, prior: Prior) -> Self:
        pictures = run.tables.read(FEATURES).select(*COLUMNS)
        return cls(run.tables, run.tables.read(DENSITIES), pictures, evidence_settings(config, prior))

    def stage(self, name: str, rows: DataFrame) -> DataFrame:
        """Under a name of its own, so that nothing staged before is overwritten."""
        return self.tables.stage(f"{name}-{next(self.numbers)}", rows)


class ByEvidence(Distances):
    """By how unlikely it is that a pair is a copy. Its rows are staged, one part per call of `add`.

    Match finds pairs of strangers, too, some for each image: 300 million at 100 million images. Nothing behind the
    components asks for those, and each join that looks for a few million pairs among them would shuffle them all. So
    `within` leaves them out, for all but the table `evidence`.
    """

    def __init__(
        self, inputs: EvidenceInputs, parts: Sequence[DataFrame] = (), inside: Sequence[DataFrame] = ()
    ) -> None:
        self._inputs, self._parts, self._inside = inputs, parts, inside
        self.unit, self.bound = F.lit(DistanceUnit.COPY_PROBABILITY), _as_float(_BOUND)

    @property
    def near(self) -> DataFrame:
        near = self.inside.where(_distance() <= _as_float(_BOUND))
        alike = likely_alike(_distance(), F.col("hamming_bits")).alias("alike")
        ends = F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b")
        return near.select(*ends, _distance().alias("distance"), alike)

    @property
    def evidence(self) -> DataFrame:
        return functools.reduce(DataFrame.unionByName, self._parts)

    @property
    def inside(self) -> DataFrame:
        return functools.reduce(DataFrame.unionByName, self._inside)

    def within(self, components: DataFrame, pictures: DataFrame) -> ByEvidence:
        """The same for those who ask for pairs inside `components` (image_id, component_id) alone. Two joins.

        `pictures`: As `EvidenceInputs.pictures`, of the images in components.
        """
        known = self._inputs.stage("inside", pairs_within(self.inside, components))
        return ByEvidence(replace(self._inputs, pictures=pictures), self._parts, [known])

    def add(self, pairs: DataFrame, compared_for: ComparedFor) -> ByEvidence:
        """The distances with these pairs, too, which have scores and none of which has evidence yet."""
        by = self._inputs
        added = evidence_of(pairs, by.densities, by.pictures, by.tables, by.settings, compared_for)
        rows = by.stage("evidence", added)
        return ByEvidence(by, [*self._parts, rows], [*self._inside, rows])

    def measure(self, pairs: DataFrame, compared_for: ComparedFor) -> ByEvidence:
        ids = ["image_id_a", "image_id_b"]
        without_evidence = pairs.join(self.inside, ids, "left_anti").select(*ids, "query_id")
        new = self._inputs.stage("without_evidence", without_evidence)
        if new.isEmpty():
            return self
        return self.add(score_pairs(new, self._inputs.pictures.select(*SIGNATURE)).join(new, ids), compared_for)

    def between(self, pairs: DataFrame) -> DataFrame:
        known = pairs.select("image_id_a", "image_id_b").join(self.inside, ["image_id_a", "image_id_b"])
        made = {"distance": _distance(), "distance_unit": self.unit, "bound": self.bound}
        return known.select("image_id_a", "image_id_b", *[made.get(c, F.col(c)).alias(c) for c in MEASURED])


def pairs_within(evidence: DataFrame, groups: DataFrame) -> DataFrame:
    """The rows of evidence on two images of one group; `groups` has image_id and component_id."""
    of_a, of_b = (
        groups.select(F.col("image_id").alias(f"image_id_{s}"), F.col("component_id").alias(f"of_{s}")) for s in "ab"
    )
    return evidence.join(of_a, "image_id_a").join(of_b, "image_id_b").where("of_a = of_b").select(evidence.columns)


def _distance() -> Column:
    return (1 - F.col("copy_probability")).cast("float")


def _as_float(value: float) -> Column:
    return F.lit(value).cast("float")
