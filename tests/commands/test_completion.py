"""`dedup-spark completion`: bash and zsh take the script, and complete what the parser knows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from dedup_spark.cli import main
from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands.completion import SHELLS, completion_script
from dedup_spark.errors import ConfigError

BASH = shutil.which("bash")
ASKED = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_shtab_dedup_spark
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "dedup-spark.bash"
    file.write_text(completion_script(make_parser(), "bash"))
    return file


def completed(script: Path, folder: Path, *words: str) -> set[str]:
    assert BASH is not None
    command = [BASH, "--norc", "-c", ASKED, "bash", str(script), "dedup-spark", *words]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert said.stderr == ""
    return set(said.stdout.split("\n")) - {""}


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["clu"], {"cluster", "clusters"}),
        (["clusters", "--sort", "r"], {"removable"}),
        (["clusters", "--relation", "same_"], {"same_bytes", "same_pixels"}),
        (["-v", "clusters", "--bri"], {"--bridges"}),
        (["index", "exp"], {"export"}),
        (["index", "export", "--me"], {"--merged"}),
        (["completion", ""], {"bash", "zsh"}),
        (["run", "--tables", "ta"], {"tables"}),
        (["run", "--config", "ta"], {"tables", "table.toml"}),
        (["trace", "--conf"], set()),
    ],
)
def test_bash_completes_commands_options_values_and_paths(
    words: list[str], offered: set[str], script: Path, tmp_path: Path
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "table.toml").touch()
    assert completed(script, tmp_path, *words) == offered


def test_zsh_gets_a_function_of_its_own() -> None:
    script = completion_script(make_parser(), "zsh")
    assert script.startswith("#compdef dedup-spark\n")
    if zsh := shutil.which("zsh"):
        subprocess.run([zsh, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script_as_it_is(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == completion_script(make_parser(), shell).rstrip("\n") + "\n"
    assert set(SHELLS) <= set(shtab.SUPPORTED_SHELLS)


def test_a_shell_that_is_not_served_and_a_missing_package_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["completion", "csh"])
    assert left.value.code == 2
    assert "there is no shell 'csh'; expected one of bash, zsh" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(ConfigError, match=r"pip install 'dedup-spark\[reader\]'"):
        completion_script(make_parser(), "bash")
