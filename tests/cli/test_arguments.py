"""Every example that a help text or a message shows is one that the command accepts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedup_spark.cli.arguments import CONTINUES, make_parser
from dedup_spark.commands.plan.forecast import parse_cluster
from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError
from dedup_spark.vocabulary import StepName

ROOT = Path(__file__).resolve().parents[2]
SETTING = re.compile(r"\b([a-z]+\.[a-z_]+=[^\s;,'\"`)]+)")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


HELP = {parser.prog: " ".join(parser.format_help().split()) for parser in parsers(make_parser())}


@pytest.mark.parametrize("command", HELP)
def test_settings_that_a_help_text_shows_are_accepted(command: str) -> None:
    shown = SETTING.findall(HELP[command])
    assert bool(shown) == ("--set" in HELP[command])
    for setting in shown:
        load_config(None, [setting])


def test_clusters_that_a_help_text_shows_are_accepted() -> None:
    shown = re.findall(r"\b\d+x(?:\d+c|g)pu\b", HELP["dedup-spark plan"])
    assert len(shown) == 2
    for cluster in shown:
        parse_cluster(cluster)


def test_the_setting_that_a_message_shows_is_accepted() -> None:
    with pytest.raises(ConfigError) as e:
        load_config(None, ["nonsense"])
    [shown] = re.findall(r"--set (\S+=\S+)$", e.value.problems[0])
    load_config(None, [shown])


def test_settings_that_make_and_the_notebooks_show_are_accepted() -> None:
    for path in (ROOT / "Makefile", *(ROOT / "notebooks").glob("*.py"), *(ROOT / "jobs").glob("*.py")):
        for setting in re.findall(r"--set ['\"]?([a-z]+\.[a-z_]+=[^\s'\"]+)", path.read_text()):
            load_config(None, [setting])


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize(
    ("words", "name"),
    [(["-v"], "verbose"), (["--verbose"], "verbose"), (["-q"], "quiet"), (["--quiet"], "quiet"),
     (["--json-logs"], "json_logs")],
)  # fmt: skip
def test_how_much_is_said_stands_before_the_command_or_behind_it(place: str, words: list[str], name: str) -> None:
    command = ["index", "export", "--to", "x"]
    options = make_parser().parse_args([*words, *command] if place == "before" else [*command, *words])
    assert {key: getattr(options, key) for key in ("verbose", "quiet", "json_logs")} == {
        "verbose": False, "quiet": False, "json_logs": False, name: True
    }  # fmt: skip
    assert options.command == "index export"


def test_commands_that_leave_work_behind_are_those_that_go_on() -> None:
    assert {step.value for step in StepName} <= CONTINUES


@pytest.mark.parametrize("words", [["--tables", "x", "run"], ["--tables=x"], ["--lake", "x"]])
def test_an_option_of_a_command_in_front_of_it_is_told_where_it_stands(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        make_parser().parse_args(words)
    assert left.value.code == 2
    option = words[0].partition("=")[0]
    assert (
        f"there is no option {option} in front of a command; those of a command stand behind" in capsys.readouterr().err
    )


def test_the_examples_of_help_are_accepted() -> None:
    texts = HELP["dedup-spark clusters"].partition("For example: ")[2].split("; ")
    assert len(texts) == 2
    for text in texts:
        make_parser().parse_args(text.split()[1:])
