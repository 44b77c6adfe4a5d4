"""The file of `--result`: how a command ended, for those who do not see its exit code. It loads no Spark."""

from __future__ import annotations

import argparse

from dedup_spark.commands.apart import folder_below, root_of
from dedup_spark.errors import ConfigError
from dedup_spark.store import outcomes

_OF_SIGNALS = 128


def leave_result(options: argparse.Namespace, exit_code: int) -> None:
    """Write it below the root of the tables; never into the lake, where a command refused such a root."""
    if _is_in_lake(options):
        return
    ended = "complete" if exit_code == 0 else "interrupted" if exit_code > _OF_SIGNALS else "failed"
    told = {"command": options.command, "exit_code": exit_code, "status": ended}
    outcomes.write(root_of(options.tables), options.result, told)


def _is_in_lake(options: argparse.Namespace) -> bool:
    lake = getattr(options, "lake", None)
    if not lake:
        return False
    try:
        below_tables = folder_below(lake, options.tables)
        return folder_below(options.tables, lake) is not None or below_tables == outcomes.FOLDER
    except ConfigError:  # an address with a key in it, which the command refused: nothing is known of the place
        return True
