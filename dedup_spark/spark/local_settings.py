"""What a Spark on this machine is started with, for a lake of any size and for a small one.

What a user has set in Spark's own places goes before them (`chosen_by_user`): `spark-defaults.conf` of SPARK_CONF_DIR
or of Spark's folder, and PYSPARK_SUBMIT_ARGS.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from pathlib import Path

from dedup_spark.spark.delta import DELTA_SETTINGS, delta_jar

_COMPILE_LATER = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)
"""Ten times the JVM's own thresholds for its best compiler. With its own the compiler takes 15 s of processor time for
the plans of one small extract, beside the decoders; with these 5 s. Code that runs long is compiled all the same."""

_COMPILE_ONCE = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:MetaspaceSize=256m"
"""Of a small lake. The quick compiler alone, which also leaves out the profile that the best one needs; room for all
compiled code and all classes, so that neither is emptied on the way."""
_COLLECTOR = "-XX:+UseSerialGC"
"""Without threads of its own. A JVM that is told of two collectors does not start, so it is left out where the user may
have named one: in `_ALSO_OF_JAVA`, or in the settings of an administrator."""
_ALSO_OF_JAVA = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "SPARK_SUBMIT_OPTS")
_OF_ADMINISTRATOR = "spark.driver.defaultJavaOptions"

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
    # Else each function of a column (F.col) is five calls to the JVM, by which Spark's errors name a line of ours.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
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


def laptop_settings(chosen: frozenset[str] = frozenset(), *, is_small: bool = False) -> dict[str, str]:
    """Of a session that is started here; `chosen` as by `chosen_by_user`. Raises ConfigError for a Spark that no Delta
    is built for."""
    may_collect = not any(os.environ.get(name) for name in _ALSO_OF_JAVA) and _OF_ADMINISTRATOR not in chosen
    of_small = {JAVA_OPTIONS: f"{_COMPILE_ONCE} {_COLLECTOR}" if may_collect else _COMPILE_ONCE}
    return {"spark.jars.packages": delta_jar(), **_LAPTOP, **(of_small if is_small else {})}


def without_chosen(settings: dict[str, str], chosen: frozenset[str]) -> dict[str, str]:
    """`settings` without those that a user has set, which then hold; but for those that Delta needs."""
    return {key: value for key, value in settings.items() if key not in chosen or key in _NEEDED}


def chosen_by_user(spark_home: str) -> frozenset[str]:
    """The settings of Spark that a user has set for each start: their names."""
    arguments = [w for a in shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", "")) for w in _split_option(a)]
    named = [value for word, value in itertools.pairwise([*arguments, ""]) if word == "--properties-file"]
    of_file = _of_file(Path(named[-1]) if named else _conf_folder(spark_home) / "spark-defaults.conf")
    return frozenset({*of_file, *_of_arguments(arguments)})


def has_environment_file(spark_home: str) -> bool:
    """Whether Spark's launcher reads a `spark-env.sh`, which may set anew what the environment says."""
    return (_conf_folder(spark_home) / "spark-env.sh").exists()


def _conf_folder(spark_home: str) -> Path:
    return Path(os.environ.get("SPARK_CONF_DIR") or Path(spark_home, "conf"))


def _of_file(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {re.split(r"[\s=:]", line.strip(), maxsplit=1)[0] for line in lines if line.strip().startswith("spark.")}


def _of_arguments(arguments: list[str]) -> set[str]:
    """Of `--conf spark.x=1`, `--conf=spark.x=1`, `-c spark.x=1` and the options that stand for a setting."""
    found = set[str]()
    for word, value in itertools.pairwise([*arguments, ""]):
        if word in ("--conf", "-c"):
            found.add(value.partition("=")[0])
        elif word in _OPTIONS:
            found.add(_OPTIONS[word])
    return found


def _split_option(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name.startswith("--") else [argument]
