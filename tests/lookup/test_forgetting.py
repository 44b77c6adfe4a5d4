"""Additions that are forgotten: by address or prefix, wherever on this machine the log of a set of tables is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dedup_spark.lookup.added_log import AddedLog
from dedup_spark.lookup.forgetting import forget_added
from dedup_spark.lookup.places import state_folder
from lookup.test_added_log import entry, uris

ALL = ["s3://b/users/4/a.jpg", "s3://b/users/42/a.jpg", "s3://b/users/42/b.jpg", "s3://b/other.jpg"]


@pytest.mark.parametrize("place", ["usual", "named", "below"])
def test_what_is_asked_for_leaves_log_and_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    tables = tmp_path / "tables"
    (tables / "clusters").mkdir(parents=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "usual"))
    base = tables / "state" if place == "below" else tmp_path / place
    folder = state_folder(str(tables), str(base))
    log = AddedLog(folder)
    for uri in ALL:
        log.append(replace(entry(), uri=uri))
    named = str(base) if place == "named" else None
    assert forget_added(f"file://{tables}", ["s3://b/other.jpg"], ["s3://b/users/42/"], named) == 3
    assert uris(folder) == ["s3://b/users/4/a.jpg"]
    assert [one.uri for one in log.entries()] == ["s3://b/users/4/a.jpg"]
    assert forget_added(f"file://{tables}", ["s3://b/x.jpg"], [], named) == 0
    assert not any(b"users/42" in path.read_bytes() for path in folder.iterdir())


def test_no_folder_is_made_where_nothing_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert forget_added(str(tmp_path), ["s3://b/a"], []) == 0
    assert not [*tmp_path.iterdir()]
