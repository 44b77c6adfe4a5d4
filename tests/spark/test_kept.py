"""What a start leaves in the user's cache is used where it fits, and is never needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedup_spark.spark import kept

COORDINATE, SPARK = "io.delta:delta-spark_4.1_2.13:4.4.0", "/opt/spark"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dedup_spark"


@pytest.fixture
def jars(tmp_path: Path) -> list[str]:
    folder = tmp_path / "jars"
    folder.mkdir()
    paths = [folder / "delta spark.jar", folder / "storage-ü.jar"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


def test_jars_are_known_after_a_start_in_their_order_and_for_their_coordinate_alone(jars: list[str]) -> None:
    assert kept.jars_of(COORDINATE, SPARK) == []
    kept.keep_jars(COORDINATE, SPARK, jars[::-1])
    assert kept.jars_of(COORDINATE, SPARK) == jars[::-1]
    assert kept.jars_of("io.delta:delta-spark_4.0_2.13:4.4.0", SPARK) == []
    assert kept.jars_of(COORDINATE, "/opt/other") == []  # which may lack other jars


@pytest.mark.parametrize("whose", ["folder", "list", "jar", "folder of the jar", "link", "owner"])
def test_what_somebody_else_could_have_put_there_does_not_count(
    cache: Path, jars: list[str], whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep_jars(COORDINATE, SPARK, jars)
    [listed] = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    assert kept.jars_of(COORDINATE, SPARK) == jars
    places = {"folder": cache, "list": listed, "jar": Path(jars[1]), "folder of the jar": Path(jars[0]).parent}
    if whose in places:
        places[whose].chmod(0o777)
    elif whose == "link":
        cache.rename(cache.with_name("theirs"))
        cache.symlink_to("theirs")
    else:
        monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert kept.jars_of(COORDINATE, SPARK) == []


@pytest.mark.parametrize("what", ["gone", "another size"])
def test_jars_are_resolved_again_when_one_is_not_the_same(jars: list[str], what: str) -> None:
    kept.keep_jars(COORDINATE, SPARK, jars)
    if what == "gone":
        Path(jars[1]).unlink()
    else:
        Path(jars[1]).write_bytes(b"half")
    assert kept.jars_of(COORDINATE, SPARK) == []


def test_of_what_ivy_found_only_what_spark_lacks_is_taken() -> None:
    found = ["/i/io.delta_delta-spark_4.1_2.13-4.4.0.jar", "/i/org.slf4j_slf4j-api-2.0.13.jar", "/i/a_shims-0.9.25.jar",
             "/i/com.fasterxml.jackson.core_jackson-core-2.13.5.jar", "/i/x_zstd-jni-1.5.7-3.jar"]  # fmt: skip
    own = ["slf4j-api-2.0.17.jar", "jackson-core-2.20.0.jar", "zstd-jni-1.5.7-6.jar", "shims-core-1.0.jar"]
    assert kept.lacking(found, own) == [found[0], found[2]]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"/x.jar": "y"}'])
def test_a_list_of_jars_that_cannot_be_read_counts_as_none(cache: Path, jars: list[str], text: str) -> None:
    kept.keep_jars(COORDINATE, SPARK, jars)
    [listed] = cache.iterdir()
    listed.write_text(text)
    assert kept.jars_of(COORDINATE, SPARK) == []


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, jars: list[str]) -> None:
    cache.parent.write_text("a file where the folder would be")
    kept.keep_jars(COORDINATE, SPARK, jars)
    assert kept.jars_of(COORDINATE, SPARK) == []


def test_jars_that_a_class_path_cannot_name_are_not_kept(tmp_path: Path) -> None:
    odd = tmp_path / "a:b.jar"
    odd.write_bytes(b"")
    kept.keep_jars(COORDINATE, SPARK, [str(odd)])
    assert kept.jars_of(COORDINATE, SPARK) == []


@pytest.mark.parametrize("before", [None, "/their/own.jar"])
def test_jars_stand_behind_those_of_the_user_and_only_while_spark_starts(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv(kept.CLASS_PATH, raising=False)
    if before:
        monkeypatch.setenv(kept.CLASS_PATH, before)
    with kept.class_path(["/a.jar", "/b.jar"]):
        assert os.environ[kept.CLASS_PATH] == os.pathsep.join([*([before] if before else []), "/a.jar", "/b.jar"])
    assert os.environ.get(kept.CLASS_PATH) == before
    with kept.class_path([]):
        assert os.environ.get(kept.CLASS_PATH) == before


def test_an_archive_of_classes_is_named_where_it_is_there(tmp_path: Path) -> None:
    archive = tmp_path / "classes.jsa"
    assert kept.archive_options(archive) == ""
    archive.write_bytes(b"classes")
    assert f"-XX:SharedArchiveFile={archive}" in kept.archive_options(archive)
    spaced = tmp_path / "with space.jsa"
    spaced.write_bytes(b"classes")
    assert kept.archive_options(spaced) == ""  # the options of Java are split at spaces


def test_an_archive_that_others_may_write_is_not_named(tmp_path: Path) -> None:
    archive = tmp_path / "classes.jsa"
    archive.write_bytes(b"classes")
    archive.chmod(0o666)
    assert kept.archive_options(archive) == ""
    archive.chmod(0o600)
    assert "-XX:+VerifySharedSpaces" in kept.archive_options(archive)
    assert kept.option_to_write(tmp_path / "it's.jsa") == ""


def test_another_java_and_other_jars_of_spark_and_delta_have_another_archive(cache: Path, tmp_path: Path) -> None:
    names = ("java", "java-21", "spark/jars/core.jar", "other/jars/core.jar", "a.jar", "b.jar")
    for path in (tmp_path / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    java, other_java, *_ = (str(tmp_path / name) for name in names)
    spark, other, a, b = (str(tmp_path / name) for name in ("spark", "other", "a.jar", "b.jar"))
    known = kept.archive_of(java, spark, [a])
    assert known == kept.archive_of(java, spark, [a])
    others = [(other_java, spark, [a]), (java, other, [a]), (java, spark, [b])]
    assert len({known, *(kept.archive_of(*parts) for parts in others)}) == 4
    assert known.parent == cache
    (tmp_path / "spark/jars/core.jar").write_bytes(b"another version under the same name")
    assert kept.archive_of(java, spark, [a]) != known
