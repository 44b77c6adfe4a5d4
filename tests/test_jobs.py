"""How a file of jobs/ ends: by coming to its end where all went well, else with the command's exit code."""

from __future__ import annotations

import sys

import pytest

from dedup_spark.cli import command_line


@pytest.mark.parametrize("command", ["run", "index export"])
def test_a_job_that_went_well_comes_to_its_end(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databricks evaluates it inside IPython, for which SystemExit is a failure even with code 0."""
    asked: list[list[str]] = []
    monkeypatch.setattr(command_line, "main", lambda arguments: asked.append(arguments) or 0)
    monkeypatch.setattr(sys, "argv", ["run_pipeline.py", "--lake", "a b"])
    command_line.job(command)
    assert asked == [[*command.split(), "--lake", "a b"]]


@pytest.mark.parametrize("code", [1, 2])
def test_a_job_that_failed_ends_with_the_code_of_its_command(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "main", lambda _: code)
    with pytest.raises(SystemExit) as e:
        command_line.job("run")
    assert e.value.code == code
