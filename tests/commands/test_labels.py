"""Files of labelled pairs: what they may hold, which pairs a fit can use, and what is said of the others. No Spark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_spark.commands.calibrate import calibration
from dedup_spark.commands.calibrate.labelled_pairs import LEAST_OF_A_KIND, fitted_prior, require_enough
from dedup_spark.commands.calibrate.step import PULL_OF_UNKNOWN, UNKNOWN
from dedup_spark.commands.labelled_images import spellings
from dedup_spark.commands.labels import Known, Labels, UsablePairs, read_labels, usable_pairs
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.comparing.probability import prior

BIG = 2**63 - 1


def written(folder: Path, text: str, encoding: str = "utf-8") -> str:
    file = folder / "labels.csv"
    file.write_text(text, encoding=encoding)
    return str(file)


def labels(*rows: tuple[str, str, bool], n_unlabelled: int = 0) -> Labels:
    a, b, is_copy = zip(*rows, strict=True)
    return Labels("f.csv", a, b, np.array(is_copy), False, n_unlabelled)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_of_addresses_as_spreadsheets_write_it(tmp_path: Path, encoding: str) -> None:
    text = (
        'note,uri_a,uri_b,duplicate\n,a.jpg,"b, c.jpg",1\nx,a.jpg,t.tar#d.jpg,0\n,e.jpg,f.jpg,\n,ü.jpg, g.jpg ,TRUE\n'
    )
    found = read_labels(written(tmp_path, text, encoding))
    assert (list(found.a), list(found.b)) == (["a.jpg", "a.jpg", "ü.jpg"], ["b, c.jpg", "t.tar#d.jpg", "g.jpg"])
    assert found.is_copy.tolist() == [True, False, True]
    assert (found.n_unlabelled, found.by_id) == (1, False)


def test_ids_of_19_digits_stay_whole_also_where_a_row_has_none(tmp_path: Path) -> None:
    rows = f"image_id_a,image_id_b,duplicate\n{BIG},{-BIG},1\n,,\n1,2,0.0\n"
    found = read_labels(written(tmp_path, rows))
    assert (found.a[0], found.b[0], found.by_id) == (str(BIG), str(-BIG), True)
    table = pa.table({"image_id_a": [BIG, 1, None], "image_id_b": [-BIG, 2, None], "duplicate": [1, 0, None]})
    pq.write_table(table, tmp_path / "labels")  # known by its first bytes, not by its name
    of_parquet = read_labels(str(tmp_path / "labels"))
    assert (list(of_parquet.a), list(of_parquet.b)) == (list(found.a), list(found.b))
    assert of_parquet.is_copy.tolist() == found.is_copy.tolist() == [True, False]


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int8(), pa.float64(), pa.string()])
def test_labels_may_have_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([True, False]).cast(kind)
    pq.write_table(pa.table({"uri_a": ["a", "a"], "uri_b": ["b", "c"], "duplicate": values}), tmp_path / "l.parquet")
    assert read_labels(str(tmp_path / "l.parquet")).is_copy.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("uri_a,uri_b,label\na,b,1\n", "expected the columns .* and duplicate .*; found uri_a, uri_b, label"),
        ("uri_a,image_id_b,duplicate\na,1,1\n", "expected the columns image_id_a and image_id_b, or uri_a and uri_b"),
        ("uri_a,uri_b,duplicate\na,b,maybe\n", "must be 1 or 0, or empty .*; found 'maybe'"),
        ("image_id_a,image_id_b,duplicate\n1,x.jpg,1\n", "must be whole numbers; found 'x.jpg'"),
        ("image_id_a,image_id_b,duplicate\n1,1.5,1\n", "must be whole numbers; found '1.5'"),
        ("uri_a,uri_b,duplicate\na,b,1,2,3\n", "expected CSV with a header, or Parquet"),
        ("", "expected CSV with a header, or Parquet"),
    ],
)
def test_another_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_labels(written(tmp_path, text))


def test_a_file_that_is_not_there_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_labels(str(tmp_path / "nowhere.csv"))
    (tmp_path / "l.csv").write_bytes(b"uri_a,uri_b,duplicate\n\xff,b,1\n")
    with pytest.raises(ConfigError, match="expected CSV with a header"):
        read_labels(str(tmp_path / "l.csv"))
    (tmp_path / "l.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigError, match="or Parquet"):
        read_labels(str(tmp_path / "l.parquet"))


def test_every_row_is_used_or_counted_by_why_not() -> None:
    known = {"a": Known(1), "b": Known(2), "c": Known(3), "twin of a": Known(1), "broken": Known(None),
             "bare": Known(9, False), "d": Known(4)}  # fmt: skip
    given = labels(
        ("b", "a", True), ("a", "c", False), ("a", "gone", True), ("lost", "gone", False), ("a", "broken", True),
        ("bare", "a", False), ("a", "twin of a", True), ("a", "a", True), ("twin of a", "b", True),
        ("c", "d", True), ("d", "c", False), n_unlabelled=4,
    )  # fmt: skip
    pairs, counts = usable_pairs(given, known)
    assert list(zip(pairs.a, pairs.b, pairs.is_copy, strict=True)) == [(1, 2, True), (1, 3, False)]
    assert (counts.duplicates, counts.others, counts.unknown, counts.rejected) == (1, 1, 2, 1)
    assert (counts.without_embedding, counts.identical, counts.repeated, counts.contradictory) == (1, 2, 1, 2)
    n_rows = counts.duplicates + counts.others + counts.unknown + counts.rejected + counts.without_embedding
    assert n_rows + counts.identical + counts.repeated + counts.contradictory == len(given.a)
    text = counts.in_words("f.csv")
    assert "2 labelled pairs of f.csv can be used: 1 duplicates and 1 others." in text
    assert "2 name an image that is not in the tables (gone, lost)" in text
    assert "4 have no label" in text
    assert "Match proposed" not in text


def test_no_pair_is_usable_where_no_image_is_known() -> None:
    pairs, counts = usable_pairs(labels(("a", "b", True)), {})
    assert (len(pairs.a), len(pairs.group), counts.unknown) == (0, 0, 1)


def test_pairs_of_one_picture_are_of_one_group() -> None:
    known = {name: Known(i) for i, name in enumerate("abcdefg", 1)}
    given = labels(("a", "b", True), ("b", "c", True), ("c", "g", False), ("d", "e", False), ("b", "f", False))
    pairs, _ = usable_pairs(given, known)
    assert dict(zip(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True), pairs.group.tolist(), strict=True)) == {
        (1, 2): 1, (2, 3): 1, (3, 7): 1, (4, 5): 4, (2, 6): 1,
    }  # fmt: skip


def made_up(n_copies: int, n_others: int, n_pictures: int | None = None) -> UsablePairs:
    n = n_copies + n_others
    ids = np.arange(n, dtype=np.int64)
    return UsablePairs(ids, ids + n, ids < n_copies, ids % (n_pictures or n))


def counted(pairs: UsablePairs) -> None:
    n = int(pairs.is_copy.sum())
    _, counts = usable_pairs(
        labels(*[(str(i), "x", i < n) for i in range(len(pairs.a))]),
        {str(i): Known(i) for i in range(len(pairs.a))} | {"x": Known(-1)},
    )
    require_enough(pairs, counts, "f.csv")


@pytest.mark.parametrize(("n_copies", "n_others"), [(LEAST_OF_A_KIND - 1, 500), (500, LEAST_OF_A_KIND - 1), (0, 9)])
def test_too_few_labels_or_labels_of_one_kind_are_refused(n_copies: int, n_others: int) -> None:
    with pytest.raises(ConfigError, match=rf"at least 20 duplicates and 20 others; .* {n_copies} duplicates and"):
        counted(made_up(n_copies, n_others))


def test_labels_of_a_single_picture_cannot_be_split() -> None:
    counted(made_up(40, 40))
    with pytest.raises(ConfigError, match=r"of too few pictures .*; label pairs of more pictures"):
        counted(made_up(40, 40, n_pictures=1))


def test_a_hash_sign_may_be_a_part_of_a_name() -> None:
    assert spellings("s3://b/a#1.jpg#x", "file:///lake") == [
        ("s3://b/a#1.jpg#x", None, 0), ("s3://b/a", "1.jpg#x", 1), ("s3://b/a#1.jpg", "x", 2),
    ]  # fmt: skip
    assert spellings("sub/a.jpg", "file:///lake") == [("file:///lake/sub/a.jpg", None, 0)]
    assert spellings("#x", "file:///lake") == [("file:///lake/#x", None, 0)]


def test_the_prior_of_an_unknown_model_is_that_of_its_labels() -> None:
    """Cosines of a model in which strangers lie at 0.7 and copies at 0.9: the start would take both for copies."""
    rng = np.random.default_rng(1)
    pairs = made_up(200, 200)
    cosine = np.where(pairs.is_copy, 0.9, 0.7) + rng.normal(0, 0.03, 400)
    scores = np.column_stack([cosine, cosine - 0.6])
    fitted = fitted_prior(pairs, scores, UNKNOWN, PULL_OF_UNKNOWN)
    at = np.array([0.7, 0.9])
    assert prior(UNKNOWN, at, at - 0.6).min() > 0.5
    assert prior(fitted, at, at - 0.6)[0] < 0.05 < 0.95 < prior(fitted, at, at - 0.6)[1]


def test_the_operating_point_of_labels_has_no_edits_and_counts_pictures() -> None:
    pairs = made_up(300, 300, n_pictures=150)
    scores = np.where(pairs.is_copy, 0.99, 0.2)
    labelled = calibration.LabelledPairs(pairs.group, np.full(600, -1), pairs.is_copy, scores)
    point = calibration.operating_point(labelled, 0.99, 0.5)
    assert (point.precision.value, point.recall.value, point.edit_recall) == (1.0, 1.0, {})
    assert point.recall.n_images < 100
    assert point.recall.low < 0.97
