"""What a start of Spark here leaves for later ones in the user's cache: the jars of Delta, an archive of classes.

To resolve Delta's coordinate, Ivy asks the net or its cache and Spark copies 33 jars of 90 MB, of which it has most
itself, and takes its own. Where an earlier start has told which jars these are, those that Spark lacks go to the end of
its class path instead. From there the JVM can also take Delta's classes out of an archive of classes that it has parsed
and verified before (class data sharing); those of a jar that is added later it cannot.

Nothing of it is needed: where the cache cannot be written or read, or does not fit, Spark starts as without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

CLASS_PATH = "SPARK_DIST_CLASSPATH"
"""What Spark's launcher puts behind its own jars."""
_QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"
"""An archive that does not fit is passed over without a word."""


def cache_folder() -> Path:
    """Of this user; it may not be there."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "dedup_spark"


def jars_of(coordinate: str) -> list[str]:
    """The jars that Ivy found for a coordinate in an earlier start; empty where it is not known or one is gone."""
    try:
        kept = json.loads(_list_of(coordinate).read_text(encoding="utf-8"))
        fits = all(Path(path).stat().st_size == size for path, size in kept.items())
    except (OSError, ValueError, AttributeError):
        return []
    return list(kept) if fits else []


def lacking(jars: list[str], of_spark: Iterable[str]) -> list[str]:
    """Those of Ivy's `jars` (`group_artifact-1.0.jar`) of which Spark's folder has no version (`artifact-2.0.jar`)."""
    own = {_artifact(name) for name in of_spark}
    return [jar for jar in jars if _artifact(Path(jar).name.partition("_")[2]) not in own]


def keep_jars(coordinate: str, jars: list[str]) -> None:
    """Remember the jars that Ivy found, but not where a class path cannot name one."""
    try:
        kept = {path: Path(path).stat().st_size for path in jars}
        if kept and not any(os.pathsep in path for path in kept):
            _write(_list_of(coordinate), json.dumps(kept))
    except OSError:  # a cache that cannot be written
        return


def archive_of(java: str, spark_home: str, jars: list[str]) -> Path:
    """Where the archive of classes is for this Java, this Spark and these jars. The JVM itself checks that it fits."""
    parts = [os.path.realpath(java), str(Path(java).stat().st_mtime_ns), os.path.realpath(spark_home), *jars]
    return cache_folder() / f"classes-{_digest(parts)}.jsa"


def archive_options(archive: Path) -> str:
    """Options of Java that take classes out of an archive, where there is one."""
    return f"-XX:SharedArchiveFile={archive} {_QUIET}" if archive.is_file() and " " not in str(archive) else ""


@contextlib.contextmanager
def class_path(jars: list[str]) -> Iterator[None]:
    """A Spark that starts in this block finds these jars behind its own, and those of the user."""
    before = os.environ.get(CLASS_PATH)
    if not jars:
        yield
        return
    os.environ[CLASS_PATH] = os.pathsep.join(filter(None, [before, *jars]))
    try:
        yield
    finally:
        os.environ.pop(CLASS_PATH)
        if before is not None:
            os.environ[CLASS_PATH] = before


def _artifact(name: str) -> str:
    return re.sub(r"-\d[^-]*(-[^-]+)?\.jar$", "", name)


def _list_of(coordinate: str) -> Path:
    return cache_folder() / f"jars-{_digest([coordinate])}.json"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
