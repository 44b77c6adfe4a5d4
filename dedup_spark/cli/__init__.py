"""The command line: `command_line.py` is the way through, `arguments.py` the options, `answers.py` what is said."""

from dedup_spark.cli.command_line import job, main

__all__ = ["job", "main"]
