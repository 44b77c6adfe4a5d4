"""What reaches standard error: text or JSON, more or less of it; on a terminal progress in place, and colours."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from dedup_spark import console


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def package_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The logger of the package as in a new process, put back afterwards."""
    package = logging.getLogger("dedup_spark")
    kept = list(package.handlers), package.level, package.propagate
    package.handlers.clear()
    monkeypatch.setattr(sys, "warnoptions", ["default"])  # the filters of this process stay as they are
    yield package
    package.handlers[:], level, package.propagate = kept
    package.setLevel(level)


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by the test itself: pytest sets the streams anew when the test begins."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def set_up(monkeypatch: pytest.MonkeyPatch, **how: bool) -> None:
    """Without the handlers that pytest gives the root."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    console.set_up(**how)


def say_everything() -> None:
    log = logging.getLogger("dedup_spark.somewhere")
    log.debug("a detail")
    log.info("a step")
    log.warning("a doubt")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, ["a step", "a doubt"]),
        ({"quiet": True}, ["a doubt"]),
        ({"verbose": True}, ["a detail", "a step", "a doubt"]),
    ],
)
def test_how_much_is_said(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    how: dict[str, bool], said: list[str],
) -> None:  # fmt: skip
    set_up(monkeypatch, **how)
    say_everything()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" ", 2)[2] for line in err.splitlines()] == said


def test_json_is_one_object_a_line_without_secrets_or_colours(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = on_terminal(monkeypatch)
    set_up(monkeypatch, as_json=True)
    say_everything()
    logging.getLogger("dedup_spark.x").info("extract: 1/2", extra={"share": 0.5})
    logging.getLogger("dedup_spark.x").warning("s3://name:secret@host/a\x1b[2J")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("dedup_spark.x").exception("failed")
    console.say("stopped")
    lines = [json.loads(line) for line in terminal.getvalue().splitlines()]
    assert [line["message"] for line in lines[:3]] == ["a step", "a doubt", "extract: 1/2"]
    assert "secret" not in lines[3]["message"]
    assert lines[4]["trace"].endswith("ValueError: why")
    assert (lines[5]["level"], lines[5]["message"]) == ("ERROR", "stopped")
    assert all(set(line) - {"trace"} == {"time", "level", "message"} for line in lines)
    assert "\x1b" not in terminal.getvalue()


def test_progress_is_written_over_on_a_terminal(package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    set_up(monkeypatch)
    log = logging.getLogger("dedup_spark.x")
    for done in (1, 2):
        log.info("extract: %d/4 images", done, extra={"share": done / 4})
    log.info("extract: done")
    text = terminal.getvalue()
    assert console.shows_progress()
    assert text.count("\n") == 1
    first, second, end = text.split("\r\x1b[K")
    assert first == "[######..................]  25% extract: 1/4 images"
    assert second == "[############............]  50% extract: 2/4 images"
    assert end.endswith(" INFO extract: done\n")


def test_progress_is_lines_where_there_is_no_terminal(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(monkeypatch)
    for done in (1, 2):
        logging.getLogger("dedup_spark.x").info("extract: %d/4 images", done, extra={"share": done / 4})
    console.say("stopped")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines[:2]] == ["INFO extract: 1/4 images", "INFO extract: 2/4 images"]
    assert lines[2] == "dedup-spark: stopped"
    assert not console.shows_progress()


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_for_terminals_that_want_them(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    terminal = on_terminal(monkeypatch)
    set_up(monkeypatch)
    logging.getLogger("dedup_spark.x").warning("a doubt")
    assert terminal.getvalue().startswith("\x1b[33m")
    assert terminal.getvalue().endswith("a doubt\x1b[0m\n")
    before = len(terminal.getvalue())
    monkeypatch.setenv(variable, value)
    logging.getLogger("dedup_spark.x").warning("a doubt")
    assert "\x1b" not in terminal.getvalue()[before:]


def test_an_answer_goes_to_standard_output_and_ends_the_line_of_progress(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    terminal = on_terminal(monkeypatch)
    set_up(monkeypatch)
    logging.getLogger("dedup_spark.x").info("half", extra={"share": 0.5})
    console.answer("n\n-\n5\x1b[2J")
    assert capsys.readouterr().out == "n\n-\n5\\x1b[2J\n"
    assert terminal.getvalue().endswith("half\r\x1b[K")


def test_a_program_that_has_set_up_logging_keeps_its_own(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    console.set_up()
    assert package_log.handlers == []
    assert logging.getLogger().handlers == [own]


def test_a_command_decides_once_and_those_who_call_from_python_do_not_undo_it(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, quiet=True)
    console.configure_logging()
    assert package_log.level == logging.WARNING
    set_up(monkeypatch, verbose=True, as_json=True)
    assert console.is_verbose()
    assert len(package_log.handlers) == 1
