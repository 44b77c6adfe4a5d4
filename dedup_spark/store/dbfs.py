"""DBFS of Databricks: Python sees it as the folder /dbfs, Spark as `dbfs:/`; a volume is /Volumes to both."""

from __future__ import annotations

import os
import re
from typing import Any

from dedup_spark.errors import ConfigError

MOUNT = "/dbfs"
_OF_DBFS = re.compile(rf"(?:(?i:dbfs:)/+|{MOUNT}/)(?!Volumes/)")


def require_mounted(option: str, place: str) -> None:
    """Raise ConfigError where a place in DBFS is given to a machine that does not show DBFS to Python."""
    if _OF_DBFS.match(place) and not os.path.isdir(MOUNT):
        raise ConfigError(
            f"{option} {place}: this machine has no folder {MOUNT}, by which Python reads and writes DBFS: use a "
            "volume of Unity Catalog (/Volumes/CATALOG/SCHEMA/VOLUME/...), or a Databricks cluster with dedicated "
            f"access, which has {MOUNT}"
        )


def to_path(place: str) -> str:
    """The local path of an address `dbfs:/...`."""
    return re.sub(f"^{MOUNT}/+Volumes(?=/|$)", "/Volumes", re.sub("^(?i:dbfs:)/*", f"{MOUNT}/", place))


def to_spark(spark: Any, path: str) -> str:
    """A local path as a SparkSession takes it: `/dbfs/a` is `dbfs:/a` where it knows DBFS, and would be `dbfs:/dbfs/a`
    there. Its type is not imported, as questions without Spark load this module."""
    if not path.startswith(f"{MOUNT}/") or not _OF_DBFS.match(path):
        return path
    knows_dbfs = spark._jsparkSession.sessionState().newHadoopConf().get("fs.dbfs.impl")
    return f"dbfs:{path.removeprefix(MOUNT)}" if knows_dbfs else path
