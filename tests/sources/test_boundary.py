"""What a row of a manifest may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.base import Address
from dedup_spark.sources.boundary import require_inside
from dedup_spark.sources.manifest import ManifestSource

HOME = "s3://bucket/photos"


def is_inside(uri: str, home: str = HOME, allowed: tuple[str, ...] = ()) -> bool:
    try:
        require_inside(uri, home, allowed)
    except ImageRejected as e:
        assert e.reason == "outside_lake"
        assert "inventory.allowed_prefixes" in e.message
        return False
    return True


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "file:///proc/self/environ", "s3://bucket/other/1.jpg", "s3://bucket/photos2/1.jpg",
            "s3://other/photos/1.jpg", "gs://bucket/photos/1.jpg", "https://169.254.169.254/latest/meta-data",
            "foo://x/y", "reference://a", "dir://b", "local:///dev/zero"]
)  # fmt: skip
def test_what_lies_elsewhere_is_outside(uri: str) -> None:
    assert not is_inside(uri)


@pytest.mark.parametrize("uri", [f"{HOME}/1.jpg", f"{HOME}/a/b/../1.jpg"])
def test_what_lies_below_the_folder_is_inside(uri: str) -> None:
    assert is_inside(uri)


@pytest.mark.parametrize(
    ("allowed", "uri", "inside"),
    [
        ("s3://other", "s3://other/1.jpg", True), ("s3://other/", "s3://other/a/1.jpg", True),
        ("s3a://other/a/", "s3://other/a/1.jpg", True), ("s3://other/a", "s3://other/ab/1.jpg", False),
        ("https://images.example", "https://images.example/1.jpg", True),
        ("https://images.example", "https://images.example.evil/1.jpg", False), ("/data", "file:///data/1.jpg", True),
    ],
)  # fmt: skip
def test_prefixes_that_the_operator_names_are_inside(allowed: str, uri: str, inside: bool) -> None:
    assert is_inside(uri, allowed=(allowed,)) == inside


def test_a_link_out_of_the_folder_is_outside_also_where_it_came_after_the_listing(tmp_path: Path) -> None:
    lake, secret = tmp_path / "lake", tmp_path / "secret"
    (lake / "a").mkdir(parents=True)
    secret.mkdir()
    (secret / "1.jpg").write_bytes(b"canary")
    home = f"file://{lake}"
    assert is_inside(f"{home}/a/1.jpg", home)
    (lake / "a").rmdir()
    (lake / "a").symlink_to(secret)
    assert not is_inside(f"{home}/a/1.jpg", home)


def test_a_manifest_reads_nothing_outside_its_folder_and_quotes_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    manifest, secret = tmp_path / "lake/m.csv", tmp_path / "secret.txt"
    manifest.write_text("uri\n1.jpg\n")
    secret.write_bytes(b"canary")
    (tmp_path / "lake/1.jpg").write_bytes(b"an image")
    source = ManifestSource(str(manifest))
    assert source.fetch(Address(f"file://{tmp_path}/lake/1.jpg")) == b"an image"
    for position in (None, 2):
        with pytest.raises(ImageRejected) as rejected:
            source.fetch(Address(f"file://{secret}", position=position, size_bytes=3))
        assert rejected.value.reason == "outside_lake"
        assert "canary" not in rejected.value.message
    allowing = ManifestSource(str(manifest), (str(tmp_path),))
    assert allowing.fetch(Address(f"file://{secret}")) == b"canary"
