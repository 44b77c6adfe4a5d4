"""Files of labelled pairs: the forms that are read, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fabricated import fill, listed

from dedup_spark.commands.labelled_pairs import read_labelled_pairs, with_ids
from dedup_spark.errors import ConfigError
from dedup_spark.store.tables import Tables


def test_csv_and_parquet_give_the_same_pairs_however_labels_are_written(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(
        "image_id_a,image_id_b,label,by\n5,3,copy,me\n-1,2,Different,me\n7,8,true,you\n"
    )
    table = pa.table({"image_id_a": [5, -1, 7], "image_id_b": [3, 2, 8], "label": [1.0, 0.0, 1.0]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    expected = {"image_id_a": [5, -1, 7], "image_id_b": [3, 2, 8], "is_copy": [True, False, True]}
    for name in ("pairs.csv", "pairs.parquet"):
        assert read_labelled_pairs(str(tmp_path / name)).to_pydict() == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("uri_a,label\nx,1\n", "expected the columns uri_a, uri_b and label"),
        ("uri_a,uri_b\nx,y\n", "found uri_a, uri_b"),
        ("uri_a,uri_b,label\nx,y,maybe\n", "the label 'maybe' is none of 1, true, copy"),
        ("uri_a,uri_b,label\n", "it holds no pair"),
        ("uri_a,uri_b,label\nx\n", "not readable as CSV or Parquet"),
        ("", "not readable as CSV or Parquet"),
    ],
)
def test_a_file_that_is_none_is_refused_in_words(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_labelled_pairs(str(tmp_path / "pairs.csv"))


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--pairs /no/such.csv: not readable"):
        read_labelled_pairs("/no/such.csv")


def test_addresses_become_ids_and_each_pair_stands_once(tables: Tables) -> None:
    fill(tables, [listed(i) for i in (1, 2, 3)])
    uris = [f"file:///lake/{i}.jpg" for i in (1, 2, 3)]
    labelled = pa.table({"uri_a": [uris[1], uris[0], uris[0]], "uri_b": [uris[0], uris[1], "/lake/3.jpg"],
                         "is_copy": [True, True, False]})  # fmt: skip
    assert {tuple(r) for r in with_ids(tables, labelled).collect()} == {(1, 2, True), (1, 3, False)}
    with pytest.raises(ConfigError, match="the pair of images 1 and 2 has two labels"):
        with_ids(tables, labelled.set_column(2, "is_copy", pa.array([True, False, False])))
    with pytest.raises(ConfigError, match=r"the tables have no image file:///lake/9.jpg"):
        with_ids(tables, pa.table({"uri_a": uris[:1], "uri_b": ["file:///lake/9.jpg"], "is_copy": [True]}))
