"""The settings that the last finished step cluster was run with: what its groups and keepers were decided by."""

from __future__ import annotations

import json
from typing import Any

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.comparing.probability import cut_for
from dedup_spark.store.sql_tables import SqlTables, first_row

Settings = dict[str, dict[str, Any]]
"""All settings, by section and key."""


def last_settings(tables: SqlTables, command: str) -> Settings:
    """The settings of the last finished step cluster. Raises ConfigError where none has finished."""
    settings: Settings = json.loads(_last_step(tables, command)["config"])
    return settings


def last_lake(tables: SqlTables, command: str) -> str:
    """The lake of that run. Raises ConfigError where none has finished."""
    lake: str = _last_step(tables, command)["lake"]
    return lake


def _last_step(tables: SqlTables, command: str) -> dict[str, Any]:
    done = first_row(
        tables.ask(
            "SELECT runs.config, runs.lake FROM $runs AS runs WHERE step = 'cluster' AND status = 'complete' "
            "ORDER BY runs.at DESC LIMIT 1"
        )
    )
    if done is None:
        raise ConfigError(f"{command}: no step cluster has finished on these tables; run it first")
    return done


def least_probability(settings: Settings) -> float:
    """The least copy probability of a pair that joins two images, by these settings."""
    cluster = settings["cluster"]
    return float(cluster["min_copy_probability"] or cut_for(cluster["target_precision"]))
