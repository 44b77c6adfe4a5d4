"""The command `dedup-spark`: parses, loads the settings, calls one function of `dedup_spark.api`, prints its answer.

Exit codes: 0 done, 1 a step failed (the last line is the command that continues once its cause is mended), 2 wrong
settings or surroundings, 130 ended by Ctrl-C, 143 ended by SIGTERM. With `--result NAME` the code is also in a file,
for those who do not see it.

A new command is a function in `dedup_spark/api/`, its options in `arguments.py`, and its answer in `ANSWERS` of
`answers.py`, or of `questions.py`, `lookups.py` or `machine.py`, if it is among their commands in `arguments.py`.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from dedup_spark import console
from dedup_spark.cli.arguments import CONTINUES, LOOKUPS, OF_MACHINE, is_question, make_parser, require_effect
from dedup_spark.cli.interrupts import ending_at_once
from dedup_spark.errors import ConfigError, DedupError, UncalibratedError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed()
    options = make_parser().parse_args(arguments)
    console.set_up(verbose=options.verbose, quiet=options.quiet, as_json=options.json_logs)
    leave = _result_of(options)
    code = _answer(options, arguments, leave)
    if leave is not None:
        leave(code)
    return code


def _open_closed() -> None:
    """Whoever started this process may have closed its outputs (`>&-`): then nobody wants to see them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends


def _result_of(options: argparse.Namespace) -> Callable[[int], None] | None:
    """What writes the file of --result, loaded now: where a signal comes, nothing can be imported any more."""
    if not options.result:
        return None
    return functools.partial(importlib.import_module("dedup_spark.cli.result_file").leave_result, options)


def _answer(options: argparse.Namespace, arguments: list[str], leave: Callable[[int], None] | None) -> int:
    again = f"dedup-spark {shlex.join(argument for argument in arguments if argument != '--break-lock')}"
    continues = options.command in CONTINUES
    told = f"Finished work is kept; the same command continues: {again}" if continues else _NOTHING_KEPT
    with ending_at_once(told, leave):
        try:
            require_effect(options)
            # Spark is loaded here, by `answers` alone: what is above does not wait for it.
            of = _HOMES.get(options.command) or ("questions" if is_question(options) else "answers")
            answers = importlib.import_module(f"dedup_spark.cli.{of}")
            config = answers.load_settings(options)
            for text in answers.ANSWERS[options.command](options, config):
                console.answer(text)
        except console.NobodyReads:
            return _unheard()
        except ConfigError as e:
            return _wrong(e)
        except UncalibratedError as e:
            console.say(str(e))
            console.say("stopped. Finished work is kept; continue with the commands above")
            return 1
        except Exception as e:
            return _failed(e, again if continues else "")
    return 0


_HOMES = dict.fromkeys(OF_MACHINE, "machine") | dict.fromkeys(LOOKUPS, "lookups")
"""The modules of commands that need no Spark whatever their options are."""
_NOTHING_KEPT = "Nothing was changed"
_BY_SIGPIPE = 128 + 13
"""As of other programs that write into a pipe that nobody reads."""


def job(command: str) -> None:
    """A file of jobs/: the command, a word or two, with the arguments of the process, which ends with its exit code.

    Code 0 is that of a file that comes to its end: Databricks runs it inside IPython, where SystemExit is a failure,
    whatever its code.
    """
    if code := main([*command.split(), *sys.argv[1:]]):
        sys.exit(code)


def _unheard() -> int:
    """No error: the reader has enough. What is still buffered would be one at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BY_SIGPIPE


def _wrong(e: ConfigError) -> int:
    for problem in e.problems:
        console.say(problem)
    return 2


def _failed(e: Exception, again: str) -> int:
    """The same command goes on, but it fails again while its cause is there: the last line says so."""
    if isinstance(e, DedupError):
        console.say(str(e))
    else:
        console.say(importlib.import_module("dedup_spark.cli.failures").tell(e))
    if again:
        console.say(f"stopped. Finished work is kept; once that is mended, continue with: {again}")
    return 1
