"""Tables of an older version: refused with the remedy, upgraded without reading the lake, and used from then on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from old_tables import HOME, unpack_old_lakes, unpack_old_tables
from processes import in_a_shell
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from table_contents import rows

from dedup_spark.cli import main
from dedup_spark.commands.upgrade import make_current, upgrade
from dedup_spark.errors import ConfigError
from dedup_spark.store.schema import ALL, FEATURES, IMAGES
from dedup_spark.store.table_format import FORMAT
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import DUPLICATES
from dedup_spark.store.views import read_view


@pytest.fixture(scope="module")
def with_new_columns(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of version 0.1.0 with the columns of today. Read only."""
    root = unpack_old_tables(tmp_path_factory.mktemp("old"))
    Tables(spark, str(root)).create_missing()
    return root


@dataclass(frozen=True)
class Upgraded:
    """Tables before an upgrade and after it, and what it said."""

    before: Tables
    after: Tables
    said: dict[str, int]


@pytest.fixture(scope="module")
def upgraded(spark: SparkSession, with_new_columns: Path, tmp_path_factory: pytest.TempPathFactory) -> Upgraded:
    """77 was given up because the store failed, 78 because there was no object."""
    root = tmp_path_factory.mktemp("upgraded")
    before = Tables(spark, str(shutil.copytree(with_new_columns, root / "before")))
    first = before.read(FEATURES).where("status = 'ok'").limit(1)
    reject = {"status": F.lit("rejected"), "reject_reason": F.lit("missing")}
    for image_id, message in (
        (77, "5 attempts failed, last: OSError: SlowDown"),
        (78, "no such object: FileNotFoundError"),
    ):
        facts = {"image_id": F.lit(image_id).cast("bigint"), "reject_message": F.lit(message)}
        before.append(FEATURES, first.withColumns(reject | facts))
    after = Tables(spark, str(shutil.copytree(before.root, root / "after")))
    return Upgraded(before, after, upgrade(after))


def test_every_table_gets_its_new_columns_and_the_comments_of_this_version(upgraded: Upgraded) -> None:
    for table in ALL:
        found = {field.name: field.metadata.get("comment") for field in upgraded.before.read(table).schema}
        assert found == {name: comment for name, _, comment in table.columns}, table.name


def test_tables_whose_rows_must_be_changed_are_refused_with_the_remedy(
    spark: SparkSession, with_new_columns: Path, tmp_path: Path
) -> None:
    old = Tables(spark, str(shutil.copytree(with_new_columns, tmp_path / "tables")))
    with pytest.raises(ConfigError, match=f"run `dedup-spark upgrade --tables {old.root}` once"):
        make_current(old)


def test_one_object_has_one_row_afterwards_and_keeps_an_id_that_it_had(upgraded: Upgraded) -> None:
    before = {row["image_id"]: row for row in rows(upgraded.before.root, "images")}
    assert {row["image_id"] for row in rows(upgraded.before.root, "features")} == {*before, 77, 78}
    after = rows(upgraded.after.root, "images")
    n_links = (HOME / "lake/b_link.jpg").is_symlink()  # where the lake is there, it is seen through
    n_merged = len(before) - len(after)
    assert upgraded.said["rows of one object merged"] == n_merged == 2 + 3 + n_links  # of the manifest, of S3
    assert {row["image_id"] for row in after} < set(before)
    by_uri = {row["uri"]: row for row in after}
    assert len(by_uri) == len(after)
    assert {uri for uri in by_uri if "://lake/" in uri} == {
        "s3://lake/photos/a.jpg", "s3://lake/photos/c d.jpg", "s3://lake/photos/x//y.jpg",
    }  # fmt: skip
    assert f"file://{HOME}/list/img/a.jpg" in by_uri
    assert {row["lake"] for row in after if row["uri"].startswith("s3")} == {"s3://lake/photos"}
    assert {row["image_id"] for row in rows(upgraded.after.root, "features")} == {r["image_id"] for r in after} | {78}


def test_images_that_were_given_up_because_the_store_failed_are_read_again(upgraded: Upgraded) -> None:
    assert upgraded.said["images to be read again"] == 1
    ids = {row["image_id"] for row in rows(upgraded.after.root, "features")}
    assert 78 in ids
    assert 77 not in ids


def test_nothing_that_an_older_version_found_is_proposed_for_removal_before_a_new_run(upgraded: Upgraded) -> None:
    assert any(row["is_removable"] for row in rows(upgraded.before.root, "clusters"))
    assert read_view(upgraded.after, DUPLICATES).where("removable").isEmpty()
    # which the views of older versions ask for
    assert not any(row["is_removable"] for row in rows(upgraded.after.root, "clusters"))


def test_an_upgrade_can_be_done_twice(upgraded: Upgraded) -> None:
    images, features = upgraded.after.version(IMAGES), upgraded.after.version(FEATURES)
    assert not any(upgrade(upgraded.after).values())
    assert (upgraded.after.version(IMAGES), upgraded.after.version(FEATURES)) == (images, features)
    make_current(upgraded.after)


def test_tables_without_rows_to_change_are_simply_taken(tables: Tables) -> None:
    Path(tables.root, "_format.json").unlink()
    tables.create_missing()
    assert tables.format() is not None
    assert tables.format().number == 1  # type: ignore[union-attr]
    make_current(tables)
    assert tables.format().number == FORMAT  # type: ignore[union-attr]


def test_a_query_over_old_tables_says_what_to_do(
    tmp_path: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    root = unpack_old_tables(tmp_path)
    assert main(["sql", "--tables", str(root), "SELECT 1"]) == 2
    assert "`dedup-spark upgrade` with the same --tables" in capsys.readouterr().err


@pytest.mark.slow
def test_old_tables_go_on_after_an_upgrade_and_propose_what_is_read_again(tmp_path: Path) -> None:
    unpack_old_lakes()
    root = unpack_old_tables(tmp_path)
    command = [".venv/bin/dedup-spark", "run", "--lake", str(HOME / "lake"), "--tables", str(root)]
    refused = in_a_shell(command)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "dedup-spark upgrade --tables" in refused.stderr
    assert in_a_shell([".venv/bin/dedup-spark", "upgrade", "--tables", str(root)]).returncode == 0
    rejected = {row["image_id"] for row in rows(root, "features") if row["status"] == "rejected"}
    done = in_a_shell(command)
    assert done.returncode == 0, done.stderr
    images, features = rows(root, "images"), rows(root, "features")
    assert {row["image_id"] for row in images} == {row["image_id"] for row in features}
    assert n_read_last(root) == len(rejected)  # a newer decoder may read these
    assert not any(row["is_removable"] for row in rows(root, "clusters"))  # older facts decide no removal
    again = in_a_shell(
        [*command, "--set", "extract.on_version_change=recompute", "--set", "extract.max_outdated_share=1"]
    )
    assert again.returncode == 0, again.stderr
    of_lake = {row["image_id"] for row in images if row["lake"] == f"file://{HOME}/lake"}
    assert n_read_last(root) == sum(row["status"] == "ok" and row["image_id"] in of_lake for row in features)
    removable = [row for row in rows(root, "clusters") if row["is_removable"]]
    assert removable
    assert not any(row["uri"].endswith(("c_hard.jpg", "b_link.jpg")) for row in removable)


def n_read_last(root: Path) -> int:
    """How many images the last run of extract read."""
    last = max((row for row in rows(root, "runs") if row["step"] == "extract"), key=lambda row: row["at"])
    return dict(last["counts"])["read"]
