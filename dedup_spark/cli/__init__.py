"""The command line: `command_line.py` runs a command, `arguments.py` has the options, `answers.py` the output."""

from dedup_spark.cli.command_line import job, main

__all__ = ["job", "main"]
