"""What a start of Spark here leaves for later ones in the user's cache: the jars of Delta, an archive of classes.

To resolve Delta's coordinate, Ivy asks the net or its cache and Spark copies 33 jars of 90 MB, of which it has most
itself, and takes its own. Where an earlier start has told which jars these are, those that Spark lacks go to the end of
its class path instead. From there the JVM can also take Delta's classes out of an archive of classes that it has parsed
and verified before (class data sharing); those of a jar that is added later it cannot.

Nothing of it is needed: where the cache cannot be written or read, or does not fit, Spark starts as without it. What
lies in it is code that runs as this user, so it counts only where nobody else could have put it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from dedup_spark.store.files import is_of_this_user_alone

CLASS_PATH = "SPARK_DIST_CLASSPATH"
"""What Spark's launcher puts behind its own jars."""
_CHECKED = "-XX:+VerifySharedSpaces -Xlog:cds=off -Xlog:cds+dynamic=off"
"""An archive that does not fit is passed over without a word, and so is one of which a checksum is wrong: without the
check, which takes some tenths of a second, a damaged one kills the JVM or lets it run for ever."""
_PLAIN_PATH = re.compile(r"[\w./@+-]+")
"""What neither Spark nor the JVM takes apart in an option."""
_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """Of this user; it may not be there."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "dedup_spark"


def jars_of(coordinate: str, spark_home: str) -> list[str]:
    """The jars that Ivy found for a coordinate and this Spark in an earlier start; empty where it is not known, or one
    is gone, has changed, or could have been written by somebody else."""
    try:
        place = _list_of(coordinate, spark_home)
        kept = json.loads(place.read_text(encoding="utf-8")) if _are_own(place.parent, place) else {}
        fits = all(Path(path).stat().st_size == size and _is_trusted(Path(path)) for path, size in kept.items())
    except (OSError, ValueError, AttributeError):
        return []
    return list(kept) if fits else []


def _are_own(*paths: Path) -> bool:
    return all(is_of_this_user_alone(path) for path in paths)


def _is_trusted(jar: Path) -> bool:
    """Whether only this user or root may change a jar or put another one in its place."""
    found = (jar.stat(), jar.parent.stat())
    return all(f.st_uid in (0, os.getuid()) and not f.st_mode & _OF_OTHERS for f in found)


def lacking(jars: list[str], of_spark: Iterable[str]) -> list[str]:
    """Those of Ivy's `jars` (`group_artifact-1.0.jar`) of which Spark's folder has no version (`artifact-2.0.jar`)."""
    own = {_artifact(name) for name in of_spark}
    return [jar for jar in jars if _artifact(Path(jar).name.partition("_")[2]) not in own]


def keep_jars(coordinate: str, spark_home: str, jars: list[str]) -> None:
    """Remember the jars that Ivy found, but not where a class path cannot name one."""
    try:
        kept = {path: Path(path).stat().st_size for path in jars}
        if kept and not any(os.pathsep in path for path in kept):
            write(_list_of(coordinate, spark_home), json.dumps(kept).encode())
    except OSError:  # a cache that cannot be written
        return


def archive_of(java: str, spark_home: str, jars: list[str]) -> Path:
    """Where the archive of classes is for this Java, and these jars of Spark and of Delta as they are now.

    The JVM checks that it fits, too, but passes over without a word what does not.
    """
    found = [Path(java), *sorted(Path(spark_home, "jars").glob("*.jar")), *map(Path, jars)]
    facts = [f"{os.path.realpath(path)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in found]
    return cache_folder() / f"classes-{_digest(facts)}.jsa"


def archive_options(archive: Path) -> str:
    """Options of Java that take classes out of an archive, where there is one that this user alone may change."""
    try:
        is_there = _are_own(archive.parent, archive)
    except OSError:
        return ""
    is_plain = _PLAIN_PATH.fullmatch(str(archive))
    return f"-XX:SharedArchiveFile={archive} {_CHECKED}" if is_there and is_plain else ""


def option_to_write(archive: Path) -> str:
    """The option of Java that writes the archive when the JVM ends; empty where its path could be misread."""
    return f"-XX:ArchiveClassesAtExit={archive}" if _PLAIN_PATH.fullmatch(str(archive)) else ""


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


def _list_of(coordinate: str, spark_home: str) -> Path:
    return cache_folder() / f"jars-{_digest([coordinate, os.path.realpath(spark_home)])}.json"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def write(path: Path, data: bytes | mmap.mmap) -> None:
    """In one step, so that no start sees a part, also after a loss of power; below a folder of this user alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, partial = tempfile.mkstemp(prefix=path.stem, suffix=".part", dir=path.parent)
    try:
        with open(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(number)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
