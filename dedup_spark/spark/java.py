"""The Java that Spark would start. It imports no Spark, so that `dedup-spark doctor` can ask without one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from dedup_spark.errors import ConfigError

INSTALL_JAVA = "apt-get install openjdk-17-jre-headless"
"""On Debian and Ubuntu."""
_OLDEST = 17


def require_java() -> str:
    """The path of a `java` of version 17 or newer, as Spark would start it. Raises ConfigError where there is none."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    install = f"install Java {_OLDEST} (for example `{INSTALL_JAVA}`) or point JAVA_HOME at one"
    if java is None or not Path(java).exists():
        where = f"JAVA_HOME={home} has no bin/java" if home else "no `java` on the PATH"
        raise ConfigError(f"Java not found ({where}): {install}")
    version = _version(java, install)
    if version is None or version < _OLDEST:
        raise ConfigError(f"Java {_OLDEST} or newer is needed, {java} is {version or 'of unknown version'}: {install}")
    return java


def java_version(java: str) -> int | None:
    """The major version that it says of itself."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None


def _version(java: str, install: str) -> int | None:
    try:
        return java_version(java)
    except OSError as e:
        raise ConfigError(f"{java} does not run ({e.strerror}): {install}") from e
