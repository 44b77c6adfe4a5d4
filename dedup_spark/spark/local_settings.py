"""What a Spark on this machine is started with, for a lake of any size and for a small one.

What a user has set in Spark's own places goes before them (`chosen_by_user`): `spark-defaults.conf` of SPARK_CONF_DIR
or of Spark's folder, and PYSPARK_SUBMIT_ARGS.
"""

from __future__ import annotations

import itertools
import os
import shlex
from pathlib import Path

from dedup_spark.spark.delta import DELTA_SETTINGS, delta_jar

_COMPILE_LATER = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)
"""Ten times the JVM's own thresholds for its best compiler. With its own the compiler takes 15 s of processor time for
the plans of one small extract, beside the decoders; with these 5 s. Code that runs long is compiled all the same."""

_COMPILE_ONCE = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m -XX:MetaspaceSize=256m"
"""Of a small lake. The quick compiler alone, which also leaves out the profile that the best one needs; the collector
without threads of its own; room for all compiled code and all classes, so that neither is emptied on the way."""

_KEPT_CLASSES = "2000"
"""By default Spark keeps the compiled code of 100 plans; a run has some 500. Without this each step compiles its own
again: a fifth of the JVM's processor time in a match of 20,000 images (21 s; 17 s with this). On a cluster, where steps
take long, it matters less."""

JAVA_OPTIONS = "spark.driver.extraJavaOptions"

_LAPTOP = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "4g",
    JAVA_OPTIONS: _COMPILE_LATER,
    "spark.sql.codegen.cache.maxEntries": _KEPT_CLASSES,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Python workers do not import from the current folder, where the files of a lake may lie.
    "spark.executorEnv.PYTHONSAFEPATH": "1",
    **DELTA_SETTINGS,
}

_NEEDED = (*DELTA_SETTINGS, "spark.jars.packages")
"""Without these there is no Delta Lake, so a user's own do not replace them."""
_OPTIONS = {
    "--driver-memory": "spark.driver.memory",
    "--driver-java-options": JAVA_OPTIONS,
    "--packages": "spark.jars.packages",
    "--jars": "spark.jars",
}


def laptop_settings(*, is_small: bool = False) -> dict[str, str]:
    """Of a session that is started here. Raises ConfigError for a Spark that no Delta is built for."""
    return {"spark.jars.packages": delta_jar(), **_LAPTOP, **({JAVA_OPTIONS: _COMPILE_ONCE} if is_small else {})}


def without_chosen(settings: dict[str, str], chosen: frozenset[str]) -> dict[str, str]:
    """`settings` without those that a user has set, which then hold; but for those that Delta needs."""
    return {key: value for key, value in settings.items() if key not in chosen or key in _NEEDED}


def chosen_by_user(spark_home: str) -> frozenset[str]:
    """The settings of Spark that a user has set for each start: their names."""
    folder = Path(os.environ.get("SPARK_CONF_DIR") or Path(spark_home, "conf"))
    arguments = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    return frozenset({*_of_file(folder / "spark-defaults.conf"), *_of_arguments(arguments)})


def _of_file(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {line.replace("=", " ", 1).split()[0] for line in lines if line.strip().startswith("spark.")}


def _of_arguments(arguments: list[str]) -> set[str]:
    """Of `--conf spark.x=1`, `--conf=spark.x=1`, `-c spark.x=1` and the options that stand for a setting."""
    found = set[str]()
    words = [word for argument in arguments for word in _split_option(argument)]
    for word, value in itertools.pairwise([*words, ""]):
        if word in ("--conf", "-c"):
            found.add(value.partition("=")[0])
        elif word in _OPTIONS:
            found.add(_OPTIONS[word])
    return found


def _split_option(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name.startswith("--") else [argument]
