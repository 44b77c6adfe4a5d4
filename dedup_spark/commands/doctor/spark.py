"""Java, Spark and Delta Lake: what is there, by files and by pip; Spark is neither imported nor started."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from dedup_spark.commands.doctor.extras import SPARK
from dedup_spark.commands.doctor.findings import Finding
from dedup_spark.commands.doctor.packages import Requirement, install
from dedup_spark.errors import ConfigError
from dedup_spark.spark import surroundings
from dedup_spark.spark.delta import delta_jar, minor_of
from dedup_spark.spark.java import INSTALL_JAVA, java_version, require_java

_CONNECTORS = {"s3": "hadoop-aws", "azure": "hadoop-azure"}
"""By extra, Hadoop's artifact by which Spark reads and writes tables there."""


def spark_findings(asked: tuple[Requirement, ...]) -> Iterator[Finding]:
    """`asked`: what the extra spark asks for."""
    yield _java()
    version, why = _spark_version(), ""
    if version is not None:
        try:
            delta_jar(version)
        except ConfigError as e:
            why = str(e)
    yield Finding(
        SPARK, "Spark", f"{version} ({_home()})" if version and not why else None, needed=True,
        problem=why or "not installed", without="no run; sql, clusters, trace, explain and dendrogram work",
        command=install(asked),
    )  # fmt: skip
    if version and not why:
        yield _delta(delta_jar(version))
    yield from _foreign_home(version)
    yield from _surroundings()


def connector(extra: str) -> str:
    """For a store: whether Spark has the jar for tables there, as the end of a sentence; else empty."""
    artifact = _CONNECTORS.get(extra)
    if artifact is None or _home() is None:
        return ""
    found = _jars(f"{artifact}-*.jar", f"org.apache.hadoop_{artifact}-*.jar")
    if found:
        return f"; Spark's connector {found[0].name}"
    versions = [re.search(r"-(\d[\d.]*)\.jar$", jar.name) for jar in _jars("hadoop-client-api-*.jar")]
    version = next((found[1] for found in versions if found), "VERSION")
    return f"; for tables there Spark lacks {artifact}: spark.jars.packages=org.apache.hadoop:{artifact}:{version}"


def _java() -> Finding:
    try:
        java = require_java()
    except ConfigError as e:
        is_needed = not surroundings.is_hosted()
        return Finding(
            SPARK, "Java", needed=is_needed, problem=str(e), without="no Spark, so no run", command=INSTALL_JAVA
        )
    return Finding(SPARK, "Java", f"{java_version(java)} ({java})", needed=True)


def _foreign_home(version: str | None) -> Iterator[Finding]:
    """Where SPARK_HOME names another Spark than pip's, which PySpark starts all the same; told only then."""
    home = os.environ.get("SPARK_HOME")
    if not home or not version:
        return
    if not Path(home, "bin", "spark-submit").is_file():
        problem = f"SPARK_HOME={home} holds no Spark: there is no bin/spark-submit"
    elif not any(Path(home, "jars").glob(f"spark-core_2.13-{minor_of(version)}.*.jar")):
        problem = f"SPARK_HOME={home} is another Spark than the module pyspark {version}, which starts it"
    else:
        return
    yield Finding(SPARK, "SPARK_HOME", needed=True, problem=problem, without="no run", command="unset SPARK_HOME")


def _delta(coordinates: str) -> Finding:
    """A jar that is not there yet is no fault: the first run fetches it."""
    group, artifact, number = coordinates.split(":")
    jars = _jars(f"{artifact}-*.jar", f"{group}_{artifact}-{number}.jar")
    fetched = f"{coordinates} is fetched by the first run, once, from the net"
    told = f"{jars[0].name} ({jars[0].parent})" if jars else fetched
    return Finding(SPARK, "Delta Lake", told, needed=True)


def _surroundings() -> Iterator[Finding]:
    """The folder for temporary files; and what is told only where it is wrong."""
    try:
        folder = tempfile.gettempdir()
        yield Finding(
            SPARK, "temporary files", f"{folder}, {shutil.disk_usage(folder).free / 1e9:,.1f} GB free", needed=True
        )
    except OSError as e:
        yield Finding(SPARK, "temporary files", needed=True, problem=str(e), without="no Spark, so no run",
                      command="export TMPDIR=/a/folder/to/write/to")  # fmt: skip
    try:
        surroundings.require_user()
    except ConfigError as e:
        yield Finding(SPARK, "user", needed=True, problem=str(e), without="no Spark, so no run")
    if "SPARK_REMOTE" in os.environ:
        yield Finding(
            SPARK, "Spark Connect", needed=True, problem="SPARK_REMOTE is set: Spark Connect has no resource profiles",
            without="no run", command="unset SPARK_REMOTE",
        )  # fmt: skip


def _spark_version() -> str | None:
    """Of pip, or of a Spark that a platform put on the path."""
    installed = Requirement("pyspark", "").installed
    home = _home()
    if installed or home is None:
        return installed
    try:
        said = re.search(r"""__version__[^=]*=\s*['"]([^'"]+)""", (home / "version.py").read_text(encoding="utf-8"))
    except OSError:
        return None
    return said[1] if said else None


def _home() -> Path | None:
    """The folder of the module pyspark; it is found, and not imported."""
    found = find_spec("pyspark")
    return Path(found.origin).parent if found and found.origin else None


def _jars(*patterns: str) -> list[Path]:
    """Of Spark's own folder, and of those that Ivy has fetched."""
    home, spark_home = _home(), os.environ.get("SPARK_HOME")
    folders = [place / "jars" for place in (home, Path(spark_home) if spark_home else None) if place]
    try:
        kept = surroundings.settings_of_home().get("spark.jars.ivy") or os.path.expanduser("~/.ivy2.5.2")
    except KeyError:  # a user without a name, which is told elsewhere
        kept = ""
    folders += [Path(kept, "jars")] if kept else []
    return [jar for folder in folders for pattern in patterns for jar in sorted(folder.glob(pattern))]
