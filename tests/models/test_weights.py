"""Weights by URI: found, checked, kept once a node."""

from __future__ import annotations

import threading
from pathlib import Path

import fsspec
import pytest

from dedup_spark.errors import ArtifactError
from dedup_spark.models import weights
from dedup_spark.models.weights import read_weights, sha256_of
from dedup_spark.store import files

DATA = b"weights" * 1000
DIGEST = sha256_of(DATA)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(weights, "cache_folder", lambda: folder)
    return folder


@pytest.fixture
def far() -> str:
    """Weights in a store: fsspec's memory stands in for it."""
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/bucket/model.pt", DATA)
    yield "memory://bucket/model.pt"
    filesystem.rm("/bucket", recursive=True)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_file_is_read_in_place_and_checked(tmp_path: Path, cache: Path, scheme: str) -> None:
    (tmp_path / "model.pt").write_bytes(DATA)
    assert read_weights("onnx", f"{scheme}{tmp_path}/model.pt", DIGEST.upper()) == DATA
    assert not cache.exists()


def test_a_remote_file_is_fetched_once_a_node(far: str, cache: Path) -> None:
    assert read_weights("onnx", far, DIGEST) == DATA
    fsspec.filesystem("memory").rm("/bucket/model.pt")
    assert read_weights("onnx", far, DIGEST) == DATA
    assert [p.name for p in cache.iterdir()] == [DIGEST]
    fsspec.filesystem("memory").pipe_file("/bucket/model.pt", DATA)


def test_a_damaged_copy_on_the_node_is_fetched_again(far: str, cache: Path) -> None:
    read_weights("onnx", far, DIGEST)
    (cache / DIGEST).write_bytes(DATA[:100])
    assert read_weights("onnx", far, DIGEST) == DATA
    assert (cache / DIGEST).read_bytes() == DATA


def test_many_workers_at_once_leave_one_whole_file(far: str, cache: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(read_weights("onnx", far, DIGEST))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 8
    assert [p.name for p in cache.iterdir()] == [DIGEST]


def test_weights_with_another_checksum_are_refused_and_not_kept(far: str, cache: Path) -> None:
    with pytest.raises(ArtifactError, match=f"{far}: expected SHA-256 {'a' * 64}, found {DIGEST}"):
        read_weights("onnx", far, "a" * 64)
    assert not cache.exists()


@pytest.mark.parametrize("uri", ["/nowhere/model.pt", "memory://nowhere/model.pt", "dbfs:/nowhere/model.pt"])
def test_missing_weights_are_an_artifact_error_that_names_them(uri: str) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere/model\.pt: no such file"):
        read_weights("onnx", uri)


def test_a_scheme_without_a_driver_is_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_weights("onnx", "nothing://bucket/model.pt")


@pytest.mark.parametrize(
    ("uri", "place"),
    [("dbfs:/models/m.pt", "/dbfs/models/m.pt"), ("/Volumes/main/models/m.pt", "/Volumes/main/models/m.pt")],
)
def test_databricks_paths_are_read_through_their_mounts_and_kept_on_the_node(
    monkeypatch: pytest.MonkeyPatch, cache: Path, uri: str, place: str
) -> None:
    asked = []
    monkeypatch.setattr(files, "read_bytes", lambda path: (asked.append(path), DATA)[1])
    for _ in range(2):
        assert read_weights("onnx", uri, DIGEST) == DATA
    assert asked == [place]
    assert (cache / DIGEST).exists()


def test_installed_weights_are_checked_and_never_copied(cache: Path) -> None:
    data = read_weights("sscd_distilled", "")
    assert read_weights("sscd_distilled", "", sha256_of(data)) == data
    with pytest.raises(ArtifactError, match="installed weights of 'sscd_distilled'"):
        read_weights("sscd_distilled", "", DIGEST)
    assert not cache.exists()
