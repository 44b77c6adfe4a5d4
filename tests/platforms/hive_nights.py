"""A night on a catalog: `test_hive.py` runs this file as a process, twice over one metastore.

    python tests/platforms/hive_nights.py FOLDER COMMANDS

COMMANDS are lists of words of dedup-spark, as JSON. It prints one JSON object: the exit code of each, and its answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import own_cluster

from dedup_spark.cli import main as dedup_spark


def main() -> None:
    folder, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
    settings = {
        "spark.sql.catalogImplementation": "hive",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder}/metastore;create=true",
        "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={folder}/derby.log",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    spark = own_cluster.start("local[2,4]", folder, settings)
    told = []
    for words in commands:
        if words[0] == "CREATE":
            spark.sql(" ".join(words))
        else:
            told.append({"command": words, **answer(words)})
    spark.stop()
    sys.stdout.write(json.dumps(told) + "\n")


def answer(words: list[str]) -> dict[str, object]:
    """The exit code of a command, and what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = dedup_spark(words)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()[-3000:]}


if __name__ == "__main__":
    main()
