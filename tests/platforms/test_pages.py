"""The commands of each platform's page, as a stranger copies them: each is accepted by what it calls."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from processes import ROOT

from platforms.schemas import CONF

PAGES = {path.parent.name: path.read_text() for path in sorted(CONF.glob("*/README.md"))}


def commands(page: str) -> list[list[str]]:
    """The words of each line of the page's shell blocks; continued lines are one."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines if line.strip() and not line.startswith("#") for part in line.split(" && ")]
    return [shlex.split(part) for part in parts]


SUBMITS = [(page, words) for page in PAGES for words in commands(page) if words[0] == "./spark-submit.sh"]
PACKAGES = [(page, words) for page in PAGES for words in commands(page) if words[:2] == ["make", "package"]]


def test_pages_of_clusters_begin_with_the_command_that_builds_what_they_use(package: ModuleType) -> None:
    built = {page: words[2].removeprefix("PLATFORM=") for page, words in PACKAGES}
    assert built == {platform.folder: name for name, platform in package.PLATFORMS.items()}
    for page in built:
        assert commands(page)[0][:2] == ["make", "package"] or commands(page)[0][0].startswith("SPARK_WORKER_OPTS=")


@pytest.mark.parametrize(("page", "words"), SUBMITS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_script_accepts_the_commands_of_a_page(page: str, words: list[str], tmp_path: Path) -> None:
    submit = tmp_path / "bin/spark-submit"
    submit.parent.mkdir()
    submit.touch(0o755)
    done = subprocess.run(
        [str(ROOT / "spark-submit.sh"), "--dry-run", *words[1:]],
        env={"PATH": os.environ["PATH"], "SPARK_HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), page


def test_files_that_commands_name_below_the_build_are_built(built_context: Path) -> None:
    named = {word for words in commands("k8s") for word in words if word.startswith("build/package/k8s/")}
    assert len(named) == 3
    assert [name for name in named if not (built_context / Path(name).name).exists()] == []
    emr = {Path(word.partition("file://")[2]).name for words in commands("emr") for word in words if "file://" in word}
    assert emr == {"configurations.json", "steps.json"}
    assert all((CONF / "emr" / name).exists() for name in emr)
