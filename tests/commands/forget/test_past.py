"""What forget asks for before it deletes files at once, and what it says of tables whose past is still there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.commands.forget import command
from dedup_spark.errors import ConfigError, LeaseError, TableError


def held(lease: object | None) -> Any:
    return SimpleNamespace(root="hdfs://h/tables", lease=lease)


def test_without_a_lease_somebody_must_promise_that_nobody_writes() -> None:
    with pytest.raises(ConfigError, match="--nobody-writes"):
        command.require_alone(held(None), nobody_writes=False)
    command.require_alone(held(None), nobody_writes=True)
    command.require_alone(held(object()), nobody_writes=False)


def test_one_table_that_fails_or_whose_catalog_keeps_its_log_keeps_no_other_from_losing_its_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"a": 3, "b": None, "c": TableError("c: no checkpoint"), "d": 4}

    def erased(tables: object, name: str, *, in_use_seconds: float) -> int | None:
        answer = answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(command.erasure, "erase_past", erased)
    past = command._Past()
    for name in answers:
        past.erase(held(object()), name, name)
    assert past.n_files == 7
    with pytest.raises(TableError, match=r"^forget: c: no checkpoint$"):
        past.require_files_gone()
    with pytest.raises(TableError, match="all else are erased, but the logs of b are kept by their catalog"):
        past.require_logs_gone()


def test_a_lease_that_is_lost_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object, **__: object) -> int:
        raise LeaseError("taken over")

    monkeypatch.setattr(command.erasure, "erase_past", lost)
    with pytest.raises(LeaseError):
        command._Past().erase(held(object()), "a", "a")
