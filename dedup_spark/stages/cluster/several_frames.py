"""Files with several frames: films and documents are joined by all their frames, never by the likeness of one.

Part of the step cluster. pHash, thumbnail and embedding of such a file are those of one frame, so two films with one
opening, or two letters behind one cover sheet, look the same by every score. So of the pairs that are compared

- two files with several frames stay only where their `frame_phashes` agree. Of films 62 of 64 moments differ in at most
  6 bits. Of 40 made-up films (8 each of pans, slides, fades, memes and drawings) all copies as GIF, WebP, APNG and AVIF
  do, and all of half the size but one fade; at WebP quality 30 one pan and half of the fades do not, and at half the
  frame rate most do not. Trimmed and reversed films do not either, but where nothing moves. Of documents every page
  differs in at most 2 bits, and there are as many;
- a film and a single picture (its still) stay, but a picture is joined to one film and its copies only, the first by
  id: through a common still two films would meet in one cluster.

All other pairs are as if nobody had found them: they have no row in `evidence`, and no cluster holds both unless by
another path. What relies on it: of two files with `n_frames > 1` whose pair has evidence, the frames agree, so the
evidence speaks of all frames; of a pair with one such file the relation is that of a film and a still of it. Agreement
of 64 bits does not see a caption in a film or the words on a form: only `pixel_hash` and `frames_hash` say that nothing
is lost.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.kernels.comparing import relations
from dedup_spark.stages.cluster.distances import Distances
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import ComparedFor

FACTS = ("n_frames", "frame_phashes", "duration_ms")
"""Columns of features by which files with several frames are compared."""


class ByFrames(Distances):
    """Distances of which pairs with other frames are left out."""

    def __init__(self, distances: Distances, several: DataFrame | None) -> None:
        self._distances, self._several = distances, several
        self.unit, self.bound = distances.unit, distances.bound

    @property
    def near(self) -> DataFrame:
        return self._distances.near

    @property
    def evidence(self) -> DataFrame:
        return self._distances.evidence

    @property
    def inside(self) -> DataFrame:
        return self._distances.inside

    def measure(self, pairs: DataFrame, compared_for: ComparedFor) -> ByFrames:
        measured = self._distances.measure(with_agreeing_frames(pairs, self._several), compared_for)
        return ByFrames(measured, self._several)

    def between(self, pairs: DataFrame) -> DataFrame:
        return self._distances.between(pairs)


def several_frames(features: DataFrame, tables: Tables) -> DataFrame | None:
    """(image_id, and FACTS as one struct `frames`) of the files with several frames; None where there is none.

    Staged, so that it is read once and joined without a shuffle of pairs where it is small.
    """
    rows = features.where("n_frames > 1").select("image_id", F.struct(*FACTS).alias("frames"))
    staged = tables.stage("several_frames", rows)
    return None if staged.isEmpty() else staged


def with_agreeing_frames(pairs: DataFrame, several: DataFrame | None) -> DataFrame:
    """The pairs (image_id_a, image_id_b and more) that may be joined by likeness.

    Two joins with the files of several frames, and one window over their pairs with single pictures.
    """
    if several is None:
        return pairs
    marked = pairs
    for side in "ab":
        of_side = several.select(F.col("image_id").alias(f"image_id_{side}"), F.col("frames").alias(f"frames_{side}"))
        marked = marked.join(of_side, f"image_id_{side}", "left")
    a_is_one, b_is_one = F.col("frames_a").isNull(), F.col("frames_b").isNull()
    single = marked.where(a_is_one & b_is_one)
    both = marked.where(~a_is_one & ~b_is_one & _agree(F.col("frames_a"), F.col("frames_b")))
    stills = _of_first_film(marked.where(a_is_one != b_is_one))
    return single.unionByName(both).unionByName(stills).select(pairs.columns)


def _of_first_film(marked: DataFrame) -> DataFrame:
    """Of the pairs of a picture and a film those of each picture's first film and of the films that agree with it."""
    a_is_film = F.col("frames_a").isNotNull()
    still, film = (
        F.when(a_is_film == of_a, F.col("image_id_a")).otherwise(F.col("image_id_b")) for of_a in (False, True)
    )
    named = marked.withColumns({"still": still, "film": film, "shown": F.coalesce("frames_a", "frames_b")})
    first = F.min_by(F.struct("film", "shown"), "film").over(Window.partitionBy("still"))
    chosen = named.withColumn("chosen", first)
    is_first = F.col("film") == F.col("chosen.film")
    return chosen.where(is_first | _agree(F.col("shown"), F.col("chosen.shown"))).select(marked.columns)


def _agree(a: Column, b: Column) -> Column:
    """Whether the frames of two structs of FACTS agree: as `relations.frames_agree`, but a Column; never null."""
    bits = F.zip_with(a["frame_phashes"], b["frame_phashes"], lambda x, y: F.bit_count(x.bitwiseXOR(y)))
    is_film, is_other_film = a["duration_ms"].isNotNull(), b["duration_ms"].isNotNull()
    films = F.size(F.filter(bits, lambda n: n > relations.MOMENT_BITS)) <= relations.ODD_MOMENTS
    pages = (a["n_frames"] == b["n_frames"]) & F.forall(bits, lambda n: n <= relations.PAGE_BITS)
    known = a["frame_phashes"].isNotNull() & b["frame_phashes"].isNotNull() & (is_film == is_other_film)
    alike = known & (F.size(a["frame_phashes"]) == F.size(b["frame_phashes"])) & F.when(is_film, films).otherwise(pages)
    return F.coalesce(alike, F.lit(False))
