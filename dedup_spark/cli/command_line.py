"""The command `dedup-spark`: parses, loads the settings, calls one function of `dedup_spark.api`, prints its answer.

Exit codes: 0 done, 1 a step failed (the last line is the command that continues once its cause is mended), 2 wrong
settings or surroundings.

A new command is a function in `dedup_spark/api/`, its options in `arguments.py`, and its answer in `answers.py`.
"""

from __future__ import annotations

import importlib
import logging
import shlex
import sys
from collections.abc import Sequence

from dedup_spark.cli.arguments import is_question, make_parser, require_effect
from dedup_spark.errors import ConfigError, DedupError, UncalibratedError
from dedup_spark.printable import printable
from dedup_spark.redaction import without_secrets

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser().parse_args(arguments)
    try:
        require_effect(options)
    except ConfigError as e:
        return _wrong(e)
    # Spark is loaded here, by all but questions: what is above does not wait for it.
    answers = importlib.import_module(f"dedup_spark.cli.{'questions' if is_question(options) else 'answers'}")
    answers.configure_logging()
    try:
        config = answers.load_settings(options)
        for text in answers.ANSWERS[options.command](options, config):
            _say(text)
    except ConfigError as e:
        return _wrong(e)
    except UncalibratedError as e:
        _say(f"dedup-spark: {e}", error=True)
        _say("dedup-spark: stopped. Finished work is kept; continue with the commands above", error=True)
        return 1
    except DedupError as e:
        _say(f"dedup-spark: {e}", error=True)
        return _failed(arguments, "once that is mended, continue with")
    except Exception:
        log.exception("unexpected error")
        return _failed(arguments, "if it was a passing fault, continue with")
    return 0


def job(command: str) -> None:
    """A file of jobs/: the command, a word or two, with the arguments of the process, which ends with its exit code."""
    sys.exit(main([*command.split(), *sys.argv[1:]]))


def _wrong(e: ConfigError) -> int:
    for problem in e.problems:
        _say(f"dedup-spark: {problem}", error=True)
    return 2


def _failed(arguments: list[str], when: str) -> int:
    """The same command goes on, but it fails again while its cause is there: `when` says so."""
    again = shlex.join(argument for argument in arguments if argument != "--break-lock")
    _say(f"dedup-spark: stopped. Finished work is kept; {when}: dedup-spark {again}", error=True)
    return 1


def _say(text: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    stream.write(printable(without_secrets(text)) + "\n")
    stream.flush()
