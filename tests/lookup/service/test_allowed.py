"""Which addresses a request may name: none that leads out of a prefix, whoever reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.lookup.service.allowed import NotAllowed, allowed_prefix, require_allowed

S3 = ("s3://bucket/allowed/",)


@pytest.mark.parametrize(
    "path",
    ["../secret", "%2e%2e/secret", ".%2E/secret", "%252e%252e/secret", "./../secret", "a/../../secret", "..",
     "a\\..\\b", "%5c../b", "%00a", "."],
)  # fmt: skip
@pytest.mark.parametrize("store", ["s3://bucket", "gs://bucket", "abfss://c@a.dfs.core.windows.net"])
def test_no_spelling_leads_out_of_a_prefix_of_a_store(store: str, path: str) -> None:
    with pytest.raises(NotAllowed):
        require_allowed(f"{store}/allowed/{path}", (f"{store}/allowed/",))


@pytest.mark.parametrize("letter", ["\t", "\n", "\0", "\x7f", "\x85", "\ud800"])
@pytest.mark.parametrize("prefix", ["s3://bucket/allowed/", "file:///allowed/"])
def test_what_no_table_and_no_log_holds_is_no_address(prefix: str, letter: str) -> None:
    with pytest.raises(ValueError, match="it holds"):
        require_allowed(f"{prefix}a{letter}.jpg", (prefix,))


@pytest.mark.parametrize("address", ["http://host/allowed/x", "https://host/allowed/x", "ftp://host/allowed/x"])
def test_nothing_of_the_web_is_allowed(address: str) -> None:
    with pytest.raises(ConfigError, match="--allow"):
        allowed_prefix(address)
    with pytest.raises(NotAllowed):
        require_allowed(address, (address[:-1],))  # not even as the address of a lake


def test_links_are_followed_in_long_addresses_too(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    prefixes = (allowed_prefix(str(tmp_path / "allowed")),)
    for n in (0, 100, 500):
        with pytest.raises(NotAllowed):
            require_allowed(f"{tmp_path}/allowed/link/{'x/../' * n}s.jpg", prefixes)
    with pytest.raises(ValueError, match="bytes"):
        require_allowed(f"{tmp_path}/allowed/link/{'x/../' * 4000}s.jpg", prefixes)


def test_names_that_only_look_so_are_allowed(tmp_path: Path) -> None:
    for name in ("a..b/...jpg", "100%25.jpg", "a%2fb.jpg", "é/ü.jpg"):
        assert require_allowed(f"s3a://bucket/allowed/{name}", S3) == f"s3://bucket/allowed/{name}"
    assert require_allowed(f"{tmp_path}/a/../b.jpg", (f"file://{tmp_path}/",)) == f"file://{tmp_path}/b.jpg"
