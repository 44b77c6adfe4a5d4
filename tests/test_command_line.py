"""What a person sees who types something wrong, or whose run stops: one clear sentence and the right exit code."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FinishedRun
from pyspark.sql import SparkSession
from table_contents import rows

import dedup_spark
from dedup_spark import api, pipeline
from dedup_spark.cli import main
from dedup_spark.cli.arguments import make_parser, require_effect
from dedup_spark.commands.calibrate.calibration import OperatingPoint, Share
from dedup_spark.errors import ConfigError, UncalibratedError
from dedup_spark.spark import session

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    "run", *(step.name for step in pipeline.STEPS), "plan", "embed", "sql", "verify-removal", "trace", "calibrate",
    "explain", "clusters", "dendrogram", "lookup", "serve", "status", "forget", "upgrade", "repair", "maintain",
    "demo",
]  # fmt: skip
WITHOUT_A_LAKE = (
    "sql", "verify-removal", "trace", "explain", "clusters", "dendrogram", "lookup", "serve", "status", "forget",
    "upgrade", "repair", "maintain",
)  # fmt: skip
WITHOUT_SETTINGS = {
    "trace": ["--uri", "a.jpg"], "explain": ["--uri", "a", "--uri", "b"], "dendrogram": ["--cluster", "1"],
    "lookup": ["a.jpg"], "serve": [], "status": [], "forget": [], "upgrade": [], "repair": [], "maintain": [],
    "index export": ["--to", "x"],
}  # fmt: skip
"""Commands that settings would not change, with what they ask for."""
ON_A_LAKE = ["run", *(step.name for step in pipeline.STEPS), "plan", "embed", "calibrate"]


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that opens a session."""

    def refuse(app_name: str, **_: object) -> SparkSession:
        raise AssertionError(f"{app_name} started Spark")

    monkeypatch.setattr(session, "get_session", refuse)


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """A folder with one file: enough for every check before Spark."""
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.jpg").write_bytes(b"not looked at")
    return str(tmp_path / "lake")


def problems(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error, each of which must be a sentence of ours, and nothing else anywhere."""
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines
    assert all(line.startswith("dedup-spark: ") for line in lines), said.err
    return [line.removeprefix("dedup-spark: ") for line in lines]


# --- before Spark starts: exit code 2 ----------------------------------------------------------------------


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("command", ON_A_LAKE)
def test_a_lake_must_be_named(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--tables", str(tmp_path / "tables")]) == 2
    assert problems(capsys) == ["--lake is missing: give the folder or URI that holds the images"]


@pytest.mark.usefixtures("no_spark")
def test_calibrate_says_before_spark_that_its_file_cannot_be_written(
    lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "no such folder" / "calibrated.toml"
    assert main(["calibrate", "--lake", lake, "--tables", str(tmp_path / "t"), "--out", str(out)]) == 2
    assert problems(capsys) == [
        f"--out {out}: expected a file in a folder that can be written to; {out.parent} is none"
    ]


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("name", ["absent", "with a space/and%20more", "café"])
def test_a_lake_that_is_not_there(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / name)
    assert main(["run", "--lake", missing, "--tables", str(tmp_path / "tables")]) == 2
    [problem] = problems(capsys)
    assert problem.startswith(f"lake {missing}: ")
    assert not (tmp_path / "tables").exists()


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("lake", ["nosuchscheme://bucket/photos", "file:///no/such/folder"])
def test_a_lake_at_an_address_that_leads_nowhere(lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--lake", lake, "--tables", str(tmp_path / "tables")]) == 2
    [problem] = problems(capsys)
    assert lake in problem


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("command", ["run", "demo"])
def test_tables_cannot_lie_below_a_file(
    command: str, lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    given = ["--lake", lake] if command == "run" else []
    assert main([command, *given, "--tables", str(tmp_path / "file" / "below" / "tables")]) == 2
    [problem] = problems(capsys)
    assert f"{tmp_path / 'file'} is a file" in problem


@pytest.mark.usefixtures("no_spark")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_tables_cannot_lie_in_a_folder_that_is_read_only(
    lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert main(["run", "--lake", lake, "--tables", str(closed / "tables")]) == 2
    [problem] = problems(capsys)
    assert f"{closed} is read-only" in problem


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("below", ["", "tables", "deep/er/tables"])
def test_tables_inside_the_lake_would_be_listed_as_images(
    below: str, lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--lake", lake, "--tables", f"{lake}/{below}"]) == 2
    [problem] = problems(capsys)
    assert "inside the lake" in problem


@pytest.mark.usefixtures("no_spark")
def test_every_wrong_place_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["run", "--lake", str(tmp_path / "absent"), "--tables", str(tmp_path / "file" / "tables")]) == 2
    said = problems(capsys)
    assert len(said) == 2
    assert any("absent" in problem for problem in said)
    assert any("cannot be written" in problem for problem in said)


@pytest.mark.usefixtures("no_spark")
def test_every_wrong_setting_is_named_at_once(lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text("[extract]\ntask_images = 0\n[matsch]\nx = 1\n")
    wrong = ["match.min_similarty=0.5", "cluster.linkage=single", "index.seed=1.5", "nonsense"]
    settings = [argument for text in wrong for argument in ("--set", text)]
    config = str(tmp_path / "mine.toml")
    assert main(["run", "--lake", lake, "--tables", str(tmp_path / "t"), "--config", config, *settings]) == 2
    said = problems(capsys)
    assert len(said) == 6
    for expected in (
        "extract.task_images must be at least 1",
        "matsch.x",
        "did you mean 'match.min_similarity'?",
        "one of average, complete, ward",
        "index.seed must be a whole number",
        "expected section.key=value",
    ):
        assert sum(expected in problem for problem in said) == 1, (expected, said)


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), ("[extract\n", "not readable as TOML"), ("\xff", "not readable")]
)
def test_a_settings_file_that_cannot_be_read(
    content: str | None, said: str, lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.toml"
    if content is not None:
        config.write_bytes(content.encode("latin-1"))
    assert main(["run", "--lake", lake, "--tables", str(tmp_path / "tables"), "--config", str(config)]) == 2
    [problem] = problems(capsys)
    assert str(config) in problem
    assert said in problem


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(
    "arguments",
    [
        ["sql", "SELECT 1"],
        ["trace", "--uri", "a.jpg"],
        ["explain", "--uri", "a", "--uri", "b"],
        ["dendrogram", "--cluster", "1"],
    ],
)
def test_asking_where_there_are_no_tables(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--tables", str(tmp_path)]) == 2
    [problem] = problems(capsys)
    assert str(tmp_path) in problem
    assert "dedup-spark run" in problem


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("cluster", ["100", "gpu", "0xgpu", "4x0cpu", "16cpu"])
def test_a_cluster_that_is_no_cluster(
    cluster: str, lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--lake", lake, "--tables", str(tmp_path / "tables"), "--cluster", cluster]) == 2
    [problem] = problems(capsys)
    assert f"--cluster {cluster}" in problem
    assert "100xgpu" in problem


# --- the command line itself -------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a command is missing"),
        (["dedupe"], "there is no command 'dedupe'"),
        (["rnu"], "did you mean 'run'?"),
        (["run", "--lak"], "--lak"),
        (["run", "--tabels", "x"], "there is no option --tabels; did you mean '--tables'?"),
        (
            ["run", "--only", "match"],
            "there is no option --only; each step is a command of its own: inventory, extract",
        ),
        (["run", "--from=match"], "there is no option --from; each step is"),
        (["inventory", "--everything"], "there is no option --everything ("),
        (["run", "photos"], "'photos', which belongs to no option; a lake is given as --lake photos"),
        (["run", "--lake", ""], "--lake: its value is empty; is a variable of the shell not set?"),
        (["run", "--set", ""], "--set: its value is empty"),
        (["run", "--tables", ""], "--tables: its value is empty"),
        (["run", "--lake"], "--lake: its value is missing"),
        (["run", "--full=yes"], "--full takes no value, found 'yes'"),
        (["--quiet", "--verbose", "run"], "exclude each other"),
        (
            ["verify-removal", "--relation", "same_byte"],
            "there is no --relation 'same_byte'; did you mean 'same_bytes'?",
        ),
        (["verify-removal", "--tier", "all"], "expected one of same_bytes, same_pixels"),
        (["trace"], "--uri"),
        (["explain"], "--uri"),
        (["dendrogram"], "--image"),
        (["dendrogram", "--cluster", "1", "--image", "a.jpg"], "--image"),
        (["sql", "SELECT 1", "--rows", "many"], "--rows 'many': expected a whole number from 1 on"),
        (["sql", "SELECT 1", "--rows", "0"], "--rows '0': expected a whole number from 1 on"),
        (["sql", "SELECT 1", "--csv", "--json"], "--json and --csv exclude each other"),
        (["trace", "--uri", "a.jpg", "--engine", "duck"], "there is no --engine 'duck'; did you mean 'duckdb'?"),
        (["dendrogram", "--cluster", "1", "--at", "high"], "--at 'high': expected a number"),
    ],
)
def test_words_that_are_no_command(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    [problem] = problems(capsys)
    assert said in problem
    assert "--help lists what there is" in problem


@pytest.mark.usefixtures("no_spark")
def test_a_cluster_that_is_no_id_is_refused_before_tables_are_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dendrogram", "--cluster", "large"]) == 2
    assert problems(capsys) == ["--cluster large: expected a number, or 4 to 16 hex digits"]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")}
    assert set(COMMANDS) <= listed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: dedup-spark {command}")
    assert all(option in said for option in ("--tables PATH", "--database NAME"))
    assert all((option in said) == (command not in WITHOUT_SETTINGS) for option in ("--set KEY=VALUE", "--config FILE"))
    assert ("--lake URI" in said) == (command not in WITHOUT_A_LAKE)
    assert ("--run-id ID" in said) == (command in ON_A_LAKE)


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("option", ["--set", "--config"])
@pytest.mark.parametrize("command", WITHOUT_SETTINGS)
def test_settings_are_refused_where_they_would_change_nothing(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), *WITHOUT_SETTINGS[command], option, "match.min_similarity=0.5"]) == 2
    [problem] = problems(capsys)
    assert problem.startswith(f"{command}: found {option}, which would change nothing: ")


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(
    ("before", "found"),
    [
        (["--lake", "l"], "--lake"),
        (["--run-id", "r"], "--run-id"),
        (["--force", "--break-lock"], "--break-lock and --force"),
        (["--set", "a.b=1", "--config", "c"], "--config and --set"),
    ],
)
def test_options_of_the_index_are_refused_where_it_is_exported(
    before: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", *before, "export", "--to", "x"]) == 2
    [problem] = problems(capsys)
    assert problem.startswith(f"index export: found {found}, which would change nothing: ")


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("step", pipeline.STEPS, ids=lambda step: step.name)
def test_force_is_refused_by_steps_that_are_never_skipped(
    step: pipeline.Step, lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = make_parser().parse_args([step.name, "--force"])
    assert ("--force" in options.ignored) == (not step.inputs)
    if step.inputs:
        require_effect(options)
        return
    assert main([step.name, "--force"]) == 2
    [problem] = problems(capsys)
    assert problem.startswith(f"{step.name}: found --force, which would change nothing: it ")
    with pytest.raises(ConfigError, match="that step is never skipped"):
        api.run_step(None, step.name, lake=lake, tables=tmp_path / "t", force=True)


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("step", [step for step in pipeline.STEPS if not step.remembers], ids=lambda step: step.name)
def test_a_full_comparison_is_refused_by_steps_that_compare_nothing(
    step: pipeline.Step, lake: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"full=True would change nothing in {step.name}"):
        api.run_step(None, step.name, lake=lake, tables=tmp_path / "t", full=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_was_compared_before_is_compared_again_where_something_is_compared(command: str) -> None:
    options = [command, "--full"]
    if command in ("run", "match"):
        assert make_parser().parse_args(options).full
    else:
        with pytest.raises(SystemExit):
            make_parser().parse_args(options)


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "no such folder/list.csv"], "--out no such folder/list.csv: expected a file in a local folder"),
        (["--limit", "0"], "--limit 0: expected the number of copies to check, 1 or more"),
    ],
)
def test_a_list_that_cannot_be_made_is_said_before_spark_starts(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-removal", *options]) == 2
    [problem] = problems(capsys)
    assert problem.startswith(said)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.strip() == dedup_spark.__version__


# --- Java: in a process of its own, as this one may have a JVM already ---------------------------------------


def fake_java(home: Path, script: str, mode: int = 0o755) -> Path:
    """A JAVA_HOME whose java is a shell script."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(script)
    java.chmod(mode)
    return home


def said_by_the_command(arguments: list[str], environment: dict[str, str]) -> list[str]:
    """The problems that the real command names before it exits with 2."""
    command = [sys.executable, "-m", "dedup_spark", *arguments]
    variables = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"} | environment
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("dedup-spark: ") for line in lines), done.stderr
    return [line.removeprefix("dedup-spark: ") for line in lines]


@pytest.mark.parametrize(
    ("script", "mode", "found"),
    [
        ("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n", 0o755, " 11: install Java 17"),
        ("#!/bin/sh\necho 'java version \"1.8.0_292\"' >&2\n", 0o755, " 8: install Java 17"),
        ("#!/bin/sh\necho 'Segmentation fault' >&2\nexit 139\n", 0o755, "of unknown version"),
        ("no program at all", 0o644, "bin/java"),
    ],
    ids=["java 11", "java 8", "a java that crashes", "a java that cannot be run"],
)
def test_a_wrong_java_is_named_with_the_right_one(
    script: str, mode: int, found: str, lake: str, tmp_path: Path
) -> None:
    home = str(fake_java(tmp_path / "jdk", script, mode))
    [problem] = said_by_the_command(["run", "--lake", lake, "--tables", str(tmp_path / "t")], {"JAVA_HOME": home})
    assert found in problem
    assert home in problem
    assert "Java 17" in problem
    assert not (tmp_path / "t").exists()


def test_no_java_anywhere(lake: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["run", "--lake", lake, "--tables", str(tmp_path / "t")]
    [problem] = said_by_the_command(arguments, {"PATH": str(tmp_path / "empty")})
    assert "no `java` on the PATH" in problem
    [problem] = said_by_the_command(arguments, {"JAVA_HOME": str(tmp_path / "empty")})
    assert f"JAVA_HOME={tmp_path / 'empty'} has no bin/java" in problem


def test_the_demo_looks_for_java_before_it_builds_its_lake(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said_by_the_command(["demo", "--tables", str(tmp_path / "demo" / "tables")], {"JAVA_HOME": str(tmp_path / "empty")})
    assert not (tmp_path / "demo").exists()


# --- with Spark ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_spark")
def test_a_run_that_stops_for_want_of_a_calibration_does_not_say_that_the_same_command_goes_on(
    lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise UncalibratedError("model m has no calibration: `dedup-spark calibrate`, then `dedup-spark run`")

    monkeypatch.setattr(api, "run", stop)
    assert main(["run", "--lake", lake, "--tables", str(tmp_path / "tables")]) == 1
    reason, advice = problems(capsys)
    assert "has no calibration" in reason
    assert advice.endswith("stopped. Finished work is kept; continue with the commands above")


@pytest.mark.usefixtures("no_spark")
def test_calibrate_reads_its_labels_before_spark_and_says_exactly_what_to_run_next(
    lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, place = tmp_path / "my settings.toml", ["--lake", lake, "--tables", str(tmp_path / "tables")]
    asked = ["calibrate", *place, "--database", "d", "--out", str(out)]
    assert main([*asked, "--pairs", str(tmp_path / "nowhere.csv")]) == 2
    assert "nowhere.csv: no such file" in problems(capsys)[0]

    share = Share(1.0, 0.9, 1.0, 40, 40, 40)
    found = api.Calibration(
        "r1", OperatingPoint(0.9, share, share, {}), {}, "[cluster]\n", "40 labelled pairs were used."
    )
    monkeypatch.setattr(api, "calibrate", lambda *_, **__: found)
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert out.read_text() == "[cluster]\n"
    assert said.startswith("40 labelled pairs were used.\n")
    words = shlex.split(said.splitlines()[-1].rpartition("Go on with them: ")[2])
    assert words == ["dedup-spark", "run", *place, "--database", "d", "--config", str(out)]


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_step_that_fails_says_how_to_continue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my lake").mkdir()
    for i in range(200):  # below 200 a share of rejects is no alarm
        (tmp_path / "my lake" / f"{i}.jpg").write_text(f"text number {i}")
    tables = str(tmp_path / "tables")
    arguments = ["run", "--lake", str(tmp_path / "my lake"), "--tables", tables, "--set", "extract.embedding=off"]
    assert main(arguments) == 1
    reason, advice = problems(capsys)
    assert "200 of 200 images read were rejected (not_an_image 200)" in reason
    assert "--set extract.max_reject_share=1" in reason
    assert advice.endswith("continue with: dedup-spark " + shlex.join(arguments))

    assert main(arguments) == 1, "the same command must not slip past the guard"
    problems(capsys)
    assert main(["extract", *arguments[1:], "--set", "extract.max_reject_share=1"]) == 0
    failed = [row for row in rows(tables, "runs") if row["status"] == "failed"]
    assert [row["step"] for row in failed].count("extract") == 2
    assert all("were rejected" in row["message"] for row in failed)
    assert len(rows(tables, "features")) == 200


def test_sql_answers_and_explains(finished: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    tables = ["--tables", finished.tables.root]
    assert main(["sql", *tables, "SELECT count(*) AS n FROM quarantine"]) == 0
    assert capsys.readouterr().out.split() == ["n", "-", str(len(finished.lake.rejects))]
    for query in ("SELEKT 1", "SELECT nothing FROM images", "SELECT * FROM no_such_table"):
        assert main(["sql", *tables, query]) == 2
        assert "the query is not valid: " in " ".join(capsys.readouterr().err.splitlines())


def test_trace_shows_one_image_and_explains(finished: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    tables = ["--tables", finished.tables.root]
    assert main(["trace", *tables, "--uri", "photos/coffee (1).jpg"]) == 0
    said = capsys.readouterr().out
    assert "relation: same_bytes" in said
    for uri, reason in (("no such file.jpg", "no image has a uri that ends with"), (".jpg", "more than 5 images")):
        assert main(["trace", *tables, "--uri", uri]) == 2
        [problem] = problems(capsys)
        assert reason in problem


def test_the_console_command_and_the_module_are_one() -> None:
    script = shutil.which("dedup-spark", path=str(Path(sys.executable).parent))
    assert script, "the package is not installed in this environment"
    for command in ([script], [sys.executable, "-m", "dedup_spark"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, dedup_spark.__version__)
