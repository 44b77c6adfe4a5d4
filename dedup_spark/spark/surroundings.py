"""What a Spark on this machine needs besides Java: a user with a name, a folder for jars, and names in UTF-8.

Containers often lack one of them, and Java says so in forty lines of a trace, or not at all. Spark is not imported.
"""

from __future__ import annotations

import locale
import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dedup_spark.errors import ConfigError
from dedup_spark.store import files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_UTF_8_LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8")
_JARS_OF_IVY = ".ivy2.5.2"
"""Where Spark 4.1 keeps the jars of `spark.jars.packages`, below the home folder."""


def is_hosted() -> bool:
    """Whether a cluster or spark-submit started this process, and Spark with it."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ or "PYSPARK_GATEWAY_PORT" in os.environ


def require_user() -> None:
    """Raise ConfigError where the user has no name: Hadoop asks Java for it, and does not start without."""
    user = os.getuid()
    try:
        pwd.getpwuid(user)
    except KeyError:
        raise ConfigError(
            f"the user id {user} has no entry in /etc/passwd, and Spark does not start without a name of the user: "
            f"run as a user that has one, or add it (echo 'spark:x:{user}:{os.getgid()}::/tmp:/bin/sh' >> /etc/passwd)"
        ) from None


def settings_of_home() -> dict[str, str]:
    """Where jars are kept, for a user whose home folder by /etc/passwd cannot be written to; else no setting.

    Java takes that folder, whatever HOME says, unless it is `/` or empty.
    """
    by_passwd, by_variable = pwd.getpwuid(os.getuid()).pw_dir, os.environ.get("HOME", "")
    of_java = by_passwd if len(by_passwd) > 1 else by_variable
    usable = [home for home in (of_java, by_variable) if home and _keeps_jars(Path(home))]
    if usable[:1] == [of_java]:
        return {}
    return {"spark.jars.ivy": str(Path(usable[0], _JARS_OF_IVY) if usable else files.private_folder("ivy"))}


def has_jar(coordinates: str, kept_in: str | None) -> bool:
    """Whether Ivy has fetched `group:artifact:version` before; `kept_in` is spark.jars.ivy, where that is set."""
    group, artifact, version = coordinates.split(":")
    homes = [Path(kept_in)] if kept_in else [Path(pwd.getpwuid(os.getuid()).pw_dir, _JARS_OF_IVY)]
    return any(os.path.exists(home / "jars" / f"{group}_{artifact}-{version}.jar") for home in homes)


def _keeps_jars(home: Path) -> bool:
    kept = home / _JARS_OF_IVY
    return os.access(kept if os.path.exists(kept) else home, os.W_OK | os.X_OK)


@contextmanager
def names_in_utf_8() -> Iterator[None]:
    """A Java that starts in this block takes names of files as Python does.

    In the locale C, Python takes them for UTF-8 (PEP 540), and Java for ASCII: it opens no other file.
    """
    before = os.environ.get("LC_ALL")
    wanted = _utf_8_locale() if sys.getfilesystemencoding() == "utf-8" and not _is_utf_8(locale.getencoding()) else None
    if wanted is None:
        yield
        return
    os.environ["LC_ALL"] = wanted
    try:
        yield
    finally:
        os.environ.pop("LC_ALL")
        if before is not None:
            os.environ["LC_ALL"] = before


def require_names(spark: SparkSession, path: str) -> None:
    """Raise ConfigError where the Java of a session opens no file of such a name."""
    if path.isascii() or "://" in path:
        return
    encoding = spark.sparkContext._jvm.java.lang.System.getProperty("sun.jnu.encoding")  # type: ignore[union-attr]
    if not _is_utf_8(str(encoding)):
        raise ConfigError(
            f"{path}: Spark's Java takes names of files for {encoding} and cannot open it: start Spark with "
            "LC_ALL=C.UTF-8 in the environment, or choose a path in ASCII"
        )


def _is_utf_8(encoding: str) -> bool:
    return encoding.lower().replace("-", "") == "utf8"


def _utf_8_locale() -> str | None:
    """The name of one that is installed here."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in _UTF_8_LOCALES:
            try:
                locale.setlocale(locale.LC_CTYPE, name)
            except locale.Error:
                continue
            return name
        return None
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
