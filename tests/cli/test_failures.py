"""Errors of the machine and of Spark in one sentence, with their trace in a file, or shown to those who ask for it."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import AnalysisException

from dedup_spark import api, console
from dedup_spark.cli import failures, main
from dedup_spark.errors import TaskError

TRACE = "An error while calling o151.execute.\n: java.io.IOException: No space left on device\n\tat a.B.c(B.java:1)"


@pytest.fixture
def log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(failures, "log_file", lambda: tmp_path / "the.log")
    return tmp_path / "the.log"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/t/x"), "/t/x: the disk is full: free space there"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the quota of this user is used up"),
        (PermissionError(errno.EACCES, "Permission denied", "/t/x"), "/t/x: this user has no permission for it"),
        (OSError(errno.EROFS, "Read-only file system", "/t/x"), "/t/x: it is on a disk that is mounted read-only"),
        (OSError(errno.EMFILE, "Too many open files"), "may open no more files: raise its limit"),
        (MemoryError(), "there is not enough memory"),
        (Py4JNetworkError("Answer from Java side is empty"), "Spark's Java has ended in the middle of its work"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Spark's Java has ended"),
        (Py4JError(TRACE), "the disk is full (of the tables, or of Spark's temporary files)"),
        (Py4JError("o1 does not exist\nin the JVM"), "o1 does not exist"),
        (AnalysisException("[TABLE] no such table;\n'Project"), "[TABLE] no such table;"),
        (KeyError("x"), "unexpected error: KeyError: 'x'"),
        (ValueError("a\n\nb"), "unexpected error: ValueError: a"),
        (RuntimeError(), "unexpected error: RuntimeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_kind_of_error_is_one_line(error: Exception, said: str) -> None:
    told = failures.in_words(error)
    assert said in told
    assert "\n" not in told


def run_that_fails(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *options: str
) -> tuple[int, list[str]]:
    """The exit code of `dedup-spark run`, and the words that continue it."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "run", fail)
    words = ["run", "--lake", str(tmp_path), "--tables", str(tmp_path / "my tables"), *options]
    return main(words), words


def test_a_failure_is_told_in_one_sentence_and_its_trace_is_kept(
    log_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run_that_fails(Py4JError(TRACE), monkeypatch, tmp_path)
    assert code == 1
    reason, advice = capsys.readouterr().err.splitlines()
    assert reason.startswith("dedup-spark: the disk is full")
    assert reason.endswith(f"; the trace is in {log_file}, or shown with --verbose")
    assert f"continue with: dedup-spark run --lake {tmp_path} --tables '{tmp_path}/my tables'" in advice
    assert "at a.B.c(B.java:1)" in log_file.read_text()


def test_a_failure_shows_its_trace_to_those_who_ask_for_it(
    log_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(console, "is_verbose", lambda: True)
    monkeypatch.setattr(logging.getLogger("dedup_spark"), "propagate", True)
    code, _ = run_that_fails(KeyError("x"), monkeypatch, tmp_path, "--verbose")
    assert code == 1
    assert "unexpected error: KeyError: 'x'" in capsys.readouterr().err
    assert any(record.exc_info for record in caplog.records)
    assert not log_file.exists()
    logging.getLogger("dedup_spark").setLevel(logging.NOTSET)


def test_an_error_of_ours_needs_no_trace(
    log_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_that_fails(TaskError("a task failed: why"), monkeypatch, tmp_path)[0] == 1
    assert capsys.readouterr().err.splitlines()[0] == "dedup-spark: a task failed: why"
    assert not log_file.exists()


def test_a_question_that_fails_does_not_say_that_work_was_kept(
    log_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(api, "verify_removal", fail)
    assert main(["verify-removal", "--tables", str(tmp_path / "t")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("dedup-spark: the disk is full")
