"""The file that says how a run or a command ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.cli import main
from dedup_spark.errors import ConfigError, GuardError
from dedup_spark.store import outcomes
from dedup_spark.store.runs import StepOutcome


def a_run(root: Path, run_id: str = "r1") -> Any:
    steps = [StepOutcome("extract", "complete", {"read": 7}, 1.25), StepOutcome("index", "unchanged", {}, 0.0)]
    tables = SimpleNamespace(root=str(root), database=None)
    return SimpleNamespace(tables=tables, run_id=run_id, lake="s3://b/lake", outcomes=steps)


def read(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "results" / f"{name}.json").read_text())
    return found


def test_a_run_that_ends_well_leaves_its_steps_with_their_counts(tmp_path: Path) -> None:
    with outcomes.told(a_run(tmp_path), "run"):
        pass
    found = read(tmp_path, "r1")
    assert (found["command"], found["run_id"], found["status"], found["exit_code"]) == ("run", "r1", "complete", 0)
    assert found["steps"][0] == {
        "step": "extract",
        "status": "complete",
        "counts": {"read": 7},
        "elapsed_seconds": 1.25,
    }
    assert found["message"] is None


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (ConfigError(["a is wrong", "b too"]), 2, "a is wrong\nb too"), (GuardError("too many"), 1, "too many"),
        (ValueError(), 1, "ValueError"), (KeyboardInterrupt(), 1, "KeyboardInterrupt"),
    ],
)  # fmt: skip
def test_a_run_that_fails_leaves_why_and_the_exit_code_of_its_command(
    failure: BaseException, code: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(type(failure)), outcomes.told(a_run(tmp_path), "match"):
        raise failure
    found = read(tmp_path, "r1")
    assert (found["status"], found["exit_code"], found["message"]) == ("failed", code, message)


def test_the_last_command_of_a_run_counts(tmp_path: Path) -> None:
    with pytest.raises(GuardError), outcomes.told(a_run(tmp_path), "match"):
        raise GuardError("x")
    with outcomes.told(a_run(tmp_path), "cluster"):
        pass
    assert os.listdir(tmp_path / "results") == ["r1.json"]
    assert read(tmp_path, "r1")["command"] == "cluster"


@pytest.mark.parametrize("name", ["../../out", "a/b", "night 1: é"])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    outcomes.write(str(tmp_path / "tables"), name, {"exit_code": 0})
    assert os.listdir(tmp_path) == ["tables"]
    [file] = (tmp_path / "tables/results").iterdir()
    assert file.is_file()


def test_keys_do_not_get_into_the_file(tmp_path: Path) -> None:
    address = "https://store/a.jpg?X-Amz-Signature=abc123&sig=def456"
    outcomes.write(str(tmp_path), "r1", {"message": f"{address} cannot be read"})
    text = (tmp_path / "results/r1.json").read_text()
    assert "abc123" not in text
    assert "def456" not in text


def test_a_place_that_cannot_be_written_changes_nothing_but_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "results").write_text("a file")
    with outcomes.told(a_run(tmp_path), "run"):
        pass
    assert "the outcome could not be written to" in caplog.text


def test_a_command_that_is_refused_leaves_its_code_under_the_name_that_was_given(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    asked = ["run", "--lake", str(tmp_path / "nothing"), "--tables", str(tables), "--set", "match.no_such_key=1"]
    assert main([*asked, "--result", "night-1"]) == 2
    assert {key: read(tables, "night-1")[key] for key in ("command", "exit_code")} == {"command": "run", "exit_code": 2}
    assert main(asked) == 2
    assert os.listdir(tables / "results") == ["night-1.json"]
