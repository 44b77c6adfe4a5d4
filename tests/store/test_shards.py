"""Shard files that are not the ones listed: a wrong file is never searched, it is an error that says what to do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from cachetools import LRUCache, cached
from fabricated import NO_OWN_INDEX
from fsspec.implementations.memory import MemoryFileSystem

from dedup_spark.columns import Columns
from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.faiss_index import fill_index
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.routed import home_cosines
from dedup_spark.kernels.joins.sketch import sketch_block
from dedup_spark.kernels.joins.sketches import SketchFilter
from dedup_spark.kernels.vectors import nearest_cells, train_centroids
from dedup_spark.store import files, shards
from dedup_spark.store.schema import SHARDS

PATH = "shard_files/r1/shard-00000.faiss"


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shards read before stay in memory, and copies on the machine; these tests change files under the same name."""
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "node"))
    shards._kept.clear()
    yield
    shards._kept.clear()
    MemoryFileSystem.store.clear()


def forget_what_was_read() -> None:
    shards._kept.clear()
    for path in Path(os.environ["SPARK_LOCAL_DIRS"], "dedup_spark-files").iterdir():
        path.unlink()


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids over the whole range and float16 unit vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 512))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return rng.integers(-(2**63), 2**63 - 1, n), vectors.astype(np.float16)


def write(root: str, n: int, seed: int, path: str = PATH) -> dict[str, Any]:
    """What the table lists of a shard of `rows`."""
    ids, vectors = rows(n, seed)
    centroids = train_centroids(vectors.astype(np.float32), 4, seed)
    cells = nearest_cells(vectors.astype(np.float32), centroids)
    order, folder = np.argsort(cells, kind="stable"), path.rpartition("/")[0]
    block = Block(ids[order], vectors[order], cells[order])
    of_index = shards.write_centroids(root, folder, centroids), centroids
    return NO_OWN_INDEX | shards.write_shard(root, path, block, of_index, seed)


def with_an_index_of_its_own(root: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row where FAISS searches a product quantiser, which is trained on too few rows here."""
    shard, path = read_row(root, row), "shard_files/r1/shard-00000.PQ8.faiss"
    index = faiss.index_factory(512, f"IVF{len(shard.centroids)},PQ2x4np", faiss.METRIC_INNER_PRODUCT)
    x = shard.block.unit_vectors(slice(None))
    index.train(x)  # type: ignore[attr-defined]
    data = faiss.serialize_index(index).tobytes()
    index = fill_index(data, shard.block.ids, x, shard.block.cells, shard.centroids)
    forget_what_was_read()
    return row | {"index_path": path, "index_sha256": shards.write_index(root, path, index)}


def by_id(ids: np.ndarray, vectors: np.ndarray) -> dict[int, bytes]:
    return dict(zip(ids.tolist(), (v.tobytes() for v in vectors), strict=True))


def read_row(root: str, row: dict[str, Any], *, with_index: bool = False) -> shards.Shard:
    return shards.read_shard(root, shards.ShardFiles.of(row), with_index=with_index)


def read(root: str, row: dict[str, Any]) -> dict[int, bytes]:
    block = read_row(root, row).block
    return by_id(block.ids, block.vectors)


@pytest.mark.parametrize("root", ["disk", "memory://tables"])
@pytest.mark.parametrize("seed", range(3))
def test_a_shard_gives_back_every_vector_bit_for_bit(tmp_path: Path, seed: int, root: str) -> None:
    root = str(tmp_path) if root == "disk" else root
    row = write(root, 200, seed)
    assert read(root, row) == by_id(*rows(200, seed))


def test_sizes_and_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    row = write(str(tmp_path), 50, 1)
    stem = "shard_files/r1/shard-00000"
    for path, sha256 in {
        row["path"]: row["sha256"],
        f"{stem}.rows.npy": row["rows_sha256"],
        f"{stem}.vectors.npy": row["vectors_sha256"],
        row["centroids_path"]: row["centroids_sha256"],
    }.items():
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() == sha256
    assert row["path"] == f"{stem}.faiss"
    assert row["size_bytes"] == (tmp_path / row["path"]).stat().st_size
    assert {p.name for p in (tmp_path / "shard_files/r1").iterdir()} == {
        "centroids.npy", "shard-00000.faiss", "shard-00000.rows.npy", "shard-00000.vectors.npy",
    }  # fmt: skip


def test_numpy_alone_reads_the_flat_files(tmp_path: Path) -> None:
    row = write(str(tmp_path), 70, 2)
    folder = tmp_path / "shard_files/r1"
    stored, vectors = np.load(folder / "shard-00000.rows.npy"), np.load(folder / "shard-00000.vectors.npy")
    centroids = np.load(folder / "centroids.npy")
    assert by_id(stored["image_id"], vectors) == by_id(*rows(70, 2))
    assert sorted(set(stored["cell"].tolist())) == row["cells"]
    index: Any = faiss.read_index(str(tmp_path / row["path"]))
    assert np.array_equal(index.quantizer.reconstruct_n(0, index.nlist), centroids[row["cells"]])


@pytest.mark.parametrize("which", ["rows.npy", "vectors.npy", "PQ8.faiss", "centroids.npy"])
@pytest.mark.parametrize("root", ["disk", "memory://tables"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path: Path, root: str, which: str) -> None:
    root = str(tmp_path) if root == "disk" else root
    row = with_an_index_of_its_own(root, write(root, 20, 2))
    gone = f"{root}/shard_files/r1/{which if which.startswith('c') else f'shard-00000.{which}'}"
    files.delete_tree(gone)
    with pytest.raises(ArtifactError) as e:
        read_row(root, row, with_index=True)
    assert f"{gone} is missing" in str(e.value)
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


@pytest.mark.parametrize("which", ["rows.npy", "vectors.npy", "PQ8.faiss"])
@pytest.mark.parametrize(
    "how", ["empty", "truncated", "longer", "flipped first bit", "flipped bit inside", "flipped last bit"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, how: str, which: str) -> None:
    row = with_an_index_of_its_own(str(tmp_path), write(str(tmp_path), 100, 3))
    file = tmp_path / f"shard_files/r1/shard-00000.{which}"
    sound = file.read_bytes()
    file.write_bytes(damaged(sound, how))
    with pytest.raises(ArtifactError) as e:
        read_row(str(tmp_path), row, with_index=True)
    assert str(file) in str(e.value)
    assert hashlib.sha256(sound).hexdigest()[:12] in str(e.value)
    assert "`dedup-spark index --force` with the same --lake and --tables" in str(e.value)


def test_a_sound_file_of_another_build_is_refused(tmp_path: Path) -> None:
    listed, other = write(str(tmp_path), 100, 4)["rows_sha256"], write(str(tmp_path), 100, 5)
    with pytest.raises(ArtifactError, match=f"SHA-256 {other['rows_sha256'][:12]}.*listed with {listed[:12]}"):
        read_row(str(tmp_path), other | {"rows_sha256": listed})


def test_a_row_of_a_version_without_flat_files_is_refused_with_the_way_out() -> None:
    old = dict.fromkeys(shards.ShardFiles._fields) | {"path": PATH, "sha256": "0" * 64}
    with pytest.raises(ArtifactError, match=r"shard-00000\.faiss is of an older version.*`dedup-spark index --force`"):
        shards.ShardFiles.of(old)


def test_a_repaired_file_is_read_without_a_restart(tmp_path: Path) -> None:
    row = write(str(tmp_path), 100, 6)
    file = tmp_path / "shard_files/r1/shard-00000.vectors.npy"
    sound = file.read_bytes()
    file.unlink()
    with pytest.raises(ArtifactError):
        read_row(str(tmp_path), row)
    file.write_bytes(sound)
    assert len(read_row(str(tmp_path), row).block) == 100


def test_a_new_build_under_the_same_name_is_not_taken_for_the_one_in_memory(tmp_path: Path) -> None:
    read(str(tmp_path), write(str(tmp_path), 60, 7))
    assert read(str(tmp_path), write(str(tmp_path), 70, 8)) == by_id(*rows(70, 8))


def test_same_rows_make_the_same_files(tmp_path: Path) -> None:
    one, two = (write(str(tmp_path), 80, 9, f"{name}.faiss") for name in "ab")
    assert one | {"path": ""} == two | {"path": ""}


def test_all_shards_of_a_build_give_the_centroids_of_one_file(tmp_path: Path) -> None:
    row = write(str(tmp_path), 60, 10)
    shard = read_row(str(tmp_path), row)
    assert np.array_equal(shard.centroids, np.load(tmp_path / row["centroids_path"]))
    assert np.array_equal(shard.home_cosines, home_cosines(shard.block, shard.centroids))


def test_what_reads_a_shard_may_write_to_its_arrays_and_the_file_stays(tmp_path: Path) -> None:
    row = write(str(tmp_path), 60, 12)
    read_row(str(tmp_path), row).block.vectors[:] = 0  # PyTorch warns of arrays that are not for writing
    shards._kept.clear()
    assert read(str(tmp_path), row) == by_id(*rows(60, 12))


@pytest.mark.parametrize("seed", [11, 5])
def test_sketches_are_those_of_the_seed_asked_for_stored_or_not(tmp_path: Path, seed: int) -> None:
    shard, used = read_row(str(tmp_path), write(str(tmp_path), 60, 11)), SketchFilter(128, 256, 9, 9)
    given, expected = shard.sketches(used, seed), sketch_block(shard.block, used, seed)
    assert (given.first != expected.first).sum() + (given.rest != expected.rest).sum() <= 1  # 0 but for rounding


@pytest.mark.parametrize("is_of_its_own", [False, True])
def test_the_index_is_there_where_it_was_asked_for_and_has_all_cells(tmp_path: Path, is_of_its_own: bool) -> None:
    root = str(tmp_path)
    row = write(root, 60, 11)
    row = with_an_index_of_its_own(root, row) if is_of_its_own else row
    assert read_row(root, row).index is None
    shard = read_row(root, row, with_index=True)
    assert (type(shard.index), shard.index.ntotal, shard.index.nlist) == (
        faiss.IndexIVFPQ if is_of_its_own else faiss.IndexIVFScalarQuantizer, 60, 4,
    )  # fmt: skip
    for cell, held in shard.block.cell_bounds.items():
        n = shard.index.invlists.list_size(cell)
        assert faiss.rev_swig_ptr(shard.index.invlists.get_ids(cell), n).tolist() == shard.block.ids[held].tolist()


def test_the_usual_index_answers_as_that_of_the_file_does(tmp_path: Path) -> None:
    row = write(str(tmp_path), 100, 13)
    ours, file = read_row(str(tmp_path), row, with_index=True).index, faiss.read_index(str(tmp_path / row["path"]))
    queries = rows(9, 14)[1].astype(np.float32)
    assert all(np.array_equal(*found) for found in zip(ours.search(queries, 5), file.search(queries, 5), strict=True))


def test_the_columns_of_a_row_are_those_of_the_files_in_order() -> None:
    assert tuple(Columns(shards.FILES_DDL)) == shards.ShardFiles._fields
    assert SHARDS.schema.only(*shards.ShardFiles._fields).types == Columns(shards.FILES_DDL).types


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
