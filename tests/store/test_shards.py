"""Shard files that are not the ones listed: a wrong file is never searched, it is an error that says what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cachetools import LRUCache, cached
from fsspec.implementations.memory import MemoryFileSystem

from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.vectors import build_shard, nearest_cells, train_centroids
from dedup_spark.store import shards

PATH = "shard_files/r1/shard-00000.faiss"


@pytest.fixture(autouse=True)
def nothing_in_memory() -> Iterator[None]:
    """Shards read before stay in memory; these tests change files under the same name."""
    shards._kept.clear()
    yield
    shards._kept.clear()
    MemoryFileSystem.store.clear()


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids over the whole range and float16 unit vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 512))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return rng.integers(-(2**63), 2**63 - 1, n), vectors.astype(np.float16)


def write(root: str, n: int, seed: int, path: str = PATH) -> tuple[int, str]:
    ids, vectors = rows(n, seed)
    centroids = train_centroids(vectors.astype(np.float32), 4, seed)
    cells = nearest_cells(vectors.astype(np.float32), centroids)
    return shards.write_shard(root, path, build_shard(ids, vectors, cells, centroids))


def by_id(ids: np.ndarray, vectors: np.ndarray) -> dict[int, bytes]:
    return dict(zip(ids.tolist(), (v.tobytes() for v in vectors), strict=True))


def read(root: str, sha256: str) -> dict[int, bytes]:
    block = shards.read_shard(root, PATH, sha256).block
    return by_id(block.ids, block.vectors)


@pytest.mark.parametrize("seed", range(3))
def test_a_shard_gives_back_every_vector_bit_for_bit(tmp_path: Path, seed: int) -> None:
    _, sha256 = write(str(tmp_path), 200, seed)
    assert read(str(tmp_path), sha256) == by_id(*rows(200, seed))


def test_size_and_checksum_are_those_of_the_file(tmp_path: Path) -> None:
    size, sha256 = write(str(tmp_path), 50, 1)
    data = (tmp_path / PATH).read_bytes()
    assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert [p.name for p in (tmp_path / PATH).parent.iterdir()] == ["shard-00000.faiss"]


def test_a_shard_in_an_object_store_is_the_same() -> None:
    _, sha256 = write("memory://tables", 50, 2)
    assert read("memory://tables", sha256) == by_id(*rows(50, 2))


@pytest.mark.parametrize("root", ["disk", "memory://tables"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path: Path, root: str) -> None:
    root = str(tmp_path) if root == "disk" else root
    with pytest.raises(ArtifactError) as e:
        shards.read_shard(root, PATH, "0" * 64)
    assert f"{root}/{PATH} is missing" in str(e.value)
    assert "`dedup-spark index --force` with the same --lake and --tables" in str(e.value)


def damaged(data: bytes, how: str) -> bytes:
    if how == "empty":
        return b""
    if how == "truncated":
        return data[:-1]
    if how == "longer":
        return data + b"\0"
    at = {"flipped first bit": 0, "flipped bit inside": len(data) // 2, "flipped last bit": len(data) - 1}[how]
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "how", ["empty", "truncated", "longer", "flipped first bit", "flipped bit inside", "flipped last bit"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, how: str) -> None:
    _, sha256 = write(str(tmp_path), 100, 3)
    file = tmp_path / PATH
    file.write_bytes(damaged(file.read_bytes(), how))
    with pytest.raises(ArtifactError) as e:
        shards.read_shard(str(tmp_path), PATH, sha256)
    assert f"{tmp_path}/{PATH}" in str(e.value)
    assert sha256[:12] in str(e.value)
    assert "`dedup-spark index --force` with the same --lake and --tables" in str(e.value)


def test_a_sound_file_of_another_build_is_refused(tmp_path: Path) -> None:
    _, listed = write(str(tmp_path), 100, 4)
    _, other = write(str(tmp_path), 100, 5)
    with pytest.raises(ArtifactError, match=f"SHA-256 {other[:12]}.*listed with {listed[:12]}"):
        shards.read_shard(str(tmp_path), PATH, listed)


def test_a_repaired_file_is_read_without_a_restart(tmp_path: Path) -> None:
    _, sha256 = write(str(tmp_path), 100, 6)
    file = tmp_path / PATH
    sound = file.read_bytes()
    file.unlink()
    with pytest.raises(ArtifactError):
        shards.read_shard(str(tmp_path), PATH, sha256)
    file.write_bytes(sound)
    assert len(shards.read_shard(str(tmp_path), PATH, sha256).block) == 100


def test_a_new_build_under_the_same_name_is_not_taken_for_the_one_in_memory(tmp_path: Path) -> None:
    _, old = write(str(tmp_path), 60, 7)
    shards.read_shard(str(tmp_path), PATH, old)
    _, new = write(str(tmp_path), 70, 8)
    assert read(str(tmp_path), new) == by_id(*rows(70, 8))


def test_same_rows_make_the_same_file(tmp_path: Path) -> None:
    assert write(str(tmp_path), 80, 9, "a.faiss") == write(str(tmp_path), 80, 9, "b.faiss")


def test_a_shard_holds_the_centroids_of_its_index_in_one_array_for_all(tmp_path: Path) -> None:
    ids, vectors = rows(60, 10)
    floats = vectors.astype(np.float32)
    centroids = train_centroids(floats, 4, 1)
    cells = nearest_cells(floats, centroids)
    read = []
    for n, part in enumerate((slice(0, 25), slice(25, 60))):
        index = build_shard(ids[part], vectors[part], cells[part], centroids)
        _, sha256 = shards.write_shard(str(tmp_path), f"{n}.faiss", index)
        read.append(shards.read_shard(str(tmp_path), f"{n}.faiss", sha256))
        assert np.array_equal(shards.read_centroids(str(tmp_path), f"{n}.faiss", sha256), centroids)
    assert np.array_equal(read[0].centroids, centroids)
    assert read[0].centroids is read[1].centroids


def test_the_index_is_kept_where_it_was_asked_for(tmp_path: Path) -> None:
    _, sha256 = write(str(tmp_path), 60, 11)
    assert shards.read_shard(str(tmp_path), PATH, sha256).index is None
    assert shards.read_shard(str(tmp_path), PATH, sha256, index_file=(PATH, sha256)).index.ntotal == 60


# --- how many rows


@pytest.mark.parametrize(
    ("n_vectors", "n_cores", "rows"),
    [
        (100_000_000, 1400, 65_536),  # 1,526 shards and 1.2 million items, as index.max_shard_rows says
        (10_000_000, 1400, 47_170),  # 212 shards, 22,472 items: 16 a core
        (200_000, 2, 25_000),
        (200_000, 32, 6_250),  # as many shards as cores: each has one in the survey
        (30_000, 2, 4096),
        (5, 64, 4096),
    ],
)
def test_shards_are_so_many_that_a_core_has_sixteen_items(n_vectors: int, n_cores: int, rows: int) -> None:
    assert shards.rows_per_shard(n_vectors, n_cores, 65_536) == rows


# --- what stays in memory


def made_anew(cache: LRUCache[Hashable, int], asked: str, size: int) -> str:
    """The keys, in the order asked for, that had to be made anew; each value is its size."""
    new: list[str] = []

    @cached(cache)
    def make(key: str) -> int:
        new.append(key)
        return size

    for key in asked:
        assert make(key) == size
    return "".join(new)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("abcabc", "abc"),
        ("abcdabcd", "abcdabcd"),  # a round trip through more than it holds gains nothing
        ("abcadab", "abcdb"),  # a was used again, so b goes for d
    ],
)
def test_the_least_recently_used_go_first(asked: str, expected: str) -> None:
    assert made_anew(shards.bounded_cache(30, lambda size: size), asked, size=10) == expected


@pytest.mark.parametrize("size", [15, 16, 30, 1000])
def test_the_last_two_stay_however_large_they_are(size: int) -> None:
    assert made_anew(shards.bounded_cache(30, lambda size: size), "ababcbc", size) == "abc"


def test_a_value_that_takes_nothing_is_kept_too() -> None:
    assert made_anew(shards.bounded_cache(30, lambda size: size), "aabbab", size=0) == "ab"
