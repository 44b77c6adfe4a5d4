"""A user without a name or a home, names in the locale C: each is one sentence, or Spark starts all the same."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.spark import surroundings
from dedup_spark.store import files

PACKAGE = Path(__file__).parents[2]
JAVA = str(Path(os.environ["JAVA_HOME"], "bin", "java")) if "JAVA_HOME" in os.environ else shutil.which("java")
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
NO_NAME = 54_321


def python(code: str, *arguments: str, user: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """A new Python, which becomes another user where one is given: after its imports, which that user may not read."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "HOME", "USER"))}
    become = f"import os; os.setgroups([]); os.setgid({user}); os.setuid({user})\n" if user else ""
    return subprocess.run(
        [sys.executable, "-c", f"{IMPORTS}{become}{code}", *arguments], capture_output=True, text=True, check=False,
        cwd="/", env=kept | {"PYTHONPATH": str(PACKAGE)} | environment,
    )  # fmt: skip


IMPORTS = "from dedup_spark.spark import surroundings\n"


@AS_ROOT
def test_a_user_without_a_name_is_one_sentence_that_says_what_to_do() -> None:
    with pytest.raises(KeyError):
        pwd.getpwuid(NO_NAME)
    done = python("surroundings.require_user()", user=NO_NAME)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"dedup_spark.errors.ConfigError: the user id {NO_NAME} has no entry in /etc/passwd")
    assert f"echo 'spark:x:{NO_NAME}:{NO_NAME}::/tmp:/bin/sh' >> /etc/passwd" in last
    surroundings.require_user()


@AS_ROOT
@pytest.mark.skipif(JAVA is None or not Path(JAVA).exists(), reason="the command asks for Java first")
def test_the_command_ends_before_spark_for_a_user_without_a_name(tmp_path: Path) -> None:
    for folder in (tmp_path, *(above for above in tmp_path.parents if "pytest-of" in str(above))):
        folder.chmod(0o755)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/a.jpg").touch()
    (tmp_path / "work").mkdir()
    os.chown(tmp_path / "work", NO_NAME, NO_NAME)
    command = "sys.exit(command_line.main(sys.argv[1:]))"
    place = ("--lake", str(tmp_path / "lake"), "--tables", str(tmp_path / "work/tables"))
    imported = "import sys; from dedup_spark.cli import answers, command_line\n"
    become = f"import os; os.setgid({NO_NAME}); os.setuid({NO_NAME})\n"
    done = python(f"{imported}{become}{command}", "run", *place, "--set", "extract.embedding=off")
    assert done.returncode == 2, done.stderr
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith(f"dedup-spark: the user id {NO_NAME} has no entry in /etc/passwd")


@AS_ROOT
def test_a_user_without_a_home_keeps_jars_in_a_temporary_folder_of_its_own(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    assert not os.access(nobody.pw_dir, os.F_OK)
    for folder in (tmp_path, *(above for above in tmp_path.parents if "pytest-of" in str(above))):
        folder.chmod(0o755)
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    done = python("print(surroundings.settings_of_home())", user=nobody.pw_uid, TMPDIR=str(tmp_path))
    assert done.stdout.strip() == str({"spark.jars.ivy": f"{tmp_path}/dedup_spark-{nobody.pw_uid}/ivy"}), done.stderr
    assert (tmp_path / f"dedup_spark-{nobody.pw_uid}").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("by_passwd", "by_variable", "kept_in"),
    [
        ("mine", "other", None),
        ("of another", "other", "other/.ivy2.5.2"),  # a home that is there, with the jars of another user in it
        ("missing", "other", "other/.ivy2.5.2"),
        ("missing", "missing", "dedup_spark-{user}/ivy"),
        ("missing", None, "dedup_spark-{user}/ivy"),
        ("/", "other", None),  # which Java takes then
        ("", None, "dedup_spark-{user}/ivy"),
    ],
)
def test_jars_are_kept_in_the_home_folder_that_can_be_written_to(
    by_passwd: str, by_variable: str | None, kept_in: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home in ("mine", "of another/.ivy2.5.2", "other"):
        (tmp_path / home).mkdir(parents=True)
    may_write, closed = os.access, tmp_path / "of another/.ivy2.5.2"
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in ("/", str(closed)) and may_write(path, mode))
    monkeypatch.setattr(files, "private_folder", lambda name: tmp_path / f"dedup_spark-{os.getuid()}" / name)
    pw_dir = by_passwd if by_passwd in ("", "/") else str(tmp_path / by_passwd)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_dir=pw_dir))
    monkeypatch.delenv("HOME")
    if by_variable:
        monkeypatch.setenv("HOME", str(tmp_path / by_variable))
    wanted = {} if kept_in is None else {"spark.jars.ivy": str(tmp_path / kept_in.format(user=os.getuid()))}
    assert surroundings.settings_of_home() == wanted


ENCODING = (
    "import os, subprocess, sys\n"
    "with surroundings.names_in_utf_8():\n"
    "    java = [sys.argv[1], '-XshowSettings:properties', '-version']\n"
    "    said = subprocess.run(java, capture_output=True, text=True)\n"
    "print(*(line.strip() for line in said.stderr.splitlines() if 'jnu.encoding' in line), os.environ.get('LC_ALL'))"
)


@pytest.mark.skipif(JAVA is None or not Path(JAVA).exists(), reason="there is no Java")
@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C.UTF-8"}, {}], ids=str)
def test_java_takes_names_for_utf_8_as_python_does(environment: dict[str, str]) -> None:
    done = python(ENCODING, str(JAVA), **environment)
    assert done.stdout.strip() == f"sun.jnu.encoding = UTF-8 {environment.get('LC_ALL')}", done.stderr


def with_java_of(encoding: str) -> Any:
    system = SimpleNamespace(getProperty=lambda _: encoding)
    java = SimpleNamespace(java=SimpleNamespace(lang=SimpleNamespace(System=system)))
    return SimpleNamespace(sparkContext=SimpleNamespace(_jvm=java))


def test_a_java_that_is_there_and_cannot_name_the_tables_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"/tables/café: .*ANSI_X3\.4-1968.*LC_ALL=C\.UTF-8"):
        surroundings.require_names(with_java_of("ANSI_X3.4-1968"), "/tables/café")
    surroundings.require_names(with_java_of("ANSI_X3.4-1968"), "/tables/cafe")
    surroundings.require_names(with_java_of("ANSI_X3.4-1968"), "s3://bucket/café")
    surroundings.require_names(with_java_of("UTF-8"), "/tables/café")
