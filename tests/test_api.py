"""The functions for Python: what they take, what they return, and what they leave of a session that they were given."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from conftest import FinishedRun
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from table_contents import rows

import dedup_spark
from dedup_spark import api, pipeline
from dedup_spark.cli import main
from dedup_spark.cli.answers import ANSWERS
from dedup_spark.cli.arguments import STEPS
from dedup_spark.commands import opening
from dedup_spark.commands.asking import to_ask
from dedup_spark.commands.calibrate import step as calibrating
from dedup_spark.commands.opening import Opening
from dedup_spark.commands.plan import plan as planning
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError, TaskError
from dedup_spark.spark import delta, session
from dedup_spark.store.runs import Run

FUNCTIONS = [
    "run", "run_step", "embed", "plan", "calibrate", "sql", "open_views", "summary", "trace", "explain", "clusters",
    "dendrogram", "verify_removal", "export_index", "status", "forget", "upgrade", "repair", "maintain",
    "demo",
]  # fmt: skip
NOT_COMMANDS = {"run_step", "open_views", "summary"}


# --- names and arguments ----------------------------------------------------------------------------------


def test_every_command_has_a_function_and_an_answer() -> None:
    commands = {name.replace("_", "-") for name in FUNCTIONS if name not in {*NOT_COMMANDS, "export_index"}}
    commands.add("index export")
    assert set(ANSWERS) == commands | {step.name for step in pipeline.STEPS}
    assert list(STEPS) == [step.name for step in pipeline.STEPS]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_stands_at_the_top_and_is_documented(name: str) -> None:
    function = getattr(dedup_spark, name)
    assert function is getattr(api, name)
    assert inspect.getdoc(function)
    first = next(iter(inspect.signature(function).parameters.values()))
    assert (first.name, first.annotation) in {("spark", "SparkSession | None")}


def test_to_import_the_package_loads_no_spark_and_an_unknown_name_is_an_attribute_error() -> None:
    code = (
        "import sys, dedup_spark\n"
        "assert not {'pyspark', 'numpy', 'pyarrow', 'py4j'} & set(sys.modules)\n"
        "assert 'run' in dir(dedup_spark) and not hasattr(dedup_spark, 'no_such_name')\n"
        "from dedup_spark import *\n"
        "assert callable(run) and callable(read_table)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "get_session", lambda *_, **__: pytest.fail("Spark was started"))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.jpg").write_bytes(b"not looked at")
    return tmp_path / "lake"


@pytest.mark.usefixtures("no_spark")
def test_all_wrong_settings_are_named_at_once_before_anything_starts(lake: Path, tmp_path: Path) -> None:
    settings = {"match": {"min_similarty": 0.5}, "index.seed": "one", "min_recall": 0.9, "matsch": {"x": 1}}
    with pytest.raises(ConfigError) as e:
        dedup_spark.run(lake=lake, tables=tmp_path / "tables", settings=settings)
    for said in (
        "did you mean 'match.min_similarity'?",
        "index.seed must be a whole number",
        "match.min_recall",
        "matsch.x",
    ):
        assert sum(said in problem for problem in e.value.problems) == 1, (said, e.value.problems)
    assert not (tmp_path / "tables").exists()


@pytest.mark.usefixtures("no_spark")
def test_a_whole_config_and_a_file_do_not_go_together(lake: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of the two"):
        dedup_spark.run(lake=lake, tables=tmp_path / "t", settings=Config(), settings_file=tmp_path / "mine.toml")


@pytest.mark.usefixtures("no_spark")
def test_every_wrong_place_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as e:
        dedup_spark.plan(lake=tmp_path / "absent", tables=tmp_path / "file" / "tables")
    assert len(e.value.problems) == 2


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda t: dedup_spark.run_step(None, "indx", lake=t, tables=t), "no step 'indx'; the steps are inventory"),
        (lambda t: dedup_spark.verify_removal(tables=t, out=t / "x.csv", limit=0), "1 or more"),
        (lambda t: dedup_spark.verify_removal(tables=t, out="s3://b/x.csv"), "a file in a local folder"),
        (lambda t: dedup_spark.plan(lake=t, tables=t, clusters=["many"]), "100xgpu"),
        (lambda t: dedup_spark.sql(None, "SELECT 1", tables=t), "there are no dedup-spark tables"),
        (lambda t: dedup_spark.repair(tables=t), "there are no dedup-spark tables"),
        (lambda t: dedup_spark.maintain(tables=t), "there are no dedup-spark tables"),
        (lambda t: dedup_spark.dendrogram(None, tables=t), "one of the two"),
        (
            lambda t: dedup_spark.run(lake=t, tables=t / "t", settings={"cluster.linkage": "ward"}),
            "Ward's method is defined for Euclidean distances",
        ),
    ],
)
def test_what_can_be_known_before_spark_is_said_before_spark(call: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        call(tmp_path)


@pytest.mark.parametrize("root", ["~/t", "here/../t", "file:/t", "file:///t", Path("t"), "s3://b/t"])
def test_a_root_is_one_path_or_uri_however_it_is_written(
    root: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected = {"file:/t": "/t", "file:///t": "/t", "s3://b/t": "s3://b/t"}
    assert Opening("run", None, root).root == expected.get(str(root), f"{tmp_path}/t")


# --- what a task raises -----------------------------------------------------------------------------------

TRACE = """An exception was thrown from the Python worker.
Traceback (most recent call last):
  File "/x/dedup_spark/models/weights.py", line 89, in fetch
dedup_spark.errors.ArtifactError: model weights /m.onnx: no such file; correct extract.weights
"""


@pytest.fixture
def tasks_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command's own work fails as Spark has it, in a run that stands for an opened one; no Spark."""

    @contextmanager
    def open_run(asked: Opening, config: Config) -> Iterator[Run]:
        tables: Any = SimpleNamespace(spark=None, root=asked.root)
        yield Run(tables, config, "file:///lake", "r1", is_logged=False)

    def fail(*_: Any) -> NoReturn:
        raise PySparkException(TRACE)

    monkeypatch.setattr(opening, "open_run", open_run)
    monkeypatch.setattr(opening, "open_run_beside", open_run)
    monkeypatch.setattr(planning, "_plan", fail)
    monkeypatch.setattr(calibrating, "run", fail)
    failing = pipeline.Step("embed", fail)
    monkeypatch.setattr(pipeline, "EMBED", failing)
    monkeypatch.setattr(pipeline, "find_step", lambda _: failing)
    monkeypatch.setattr(pipeline, "STEPS", (failing,))


def test_the_photos_of_the_demo_are_not_put_into_a_store() -> None:
    with pytest.raises(
        ConfigError, match="next to the tables, on a disk, and not into memory://bucket/tables: give --lake"
    ):
        dedup_spark.demo(tables="memory://bucket/tables")


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"demo"}))  # which is a run
def test_every_function_tells_in_one_sentence_what_fails_in_a_task(name: str) -> None:
    source = inspect.getsource(getattr(api, name))
    if f'to_ask("{name}", ' in source:
        source = inspect.getsource(to_ask)
    assert re.search(r"with told_in_a_sentence\(\), (opening\.|to_read\()", source)


@pytest.mark.usefixtures("tasks_fail")
@pytest.mark.parametrize("command", ["run", *STEPS, "plan", "calibrate", "embed"])
def test_an_error_of_a_task_is_one_sentence_and_exit_code_1(
    command: str, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--lake", str(lake), "--tables", str(tmp_path / "tables")]) == 1
    said = capsys.readouterr()
    sentence, advice = said.err.splitlines()
    assert sentence == "dedup-spark: model weights /m.onnx: no such file; correct extract.weights"
    assert advice.startswith(
        "dedup-spark: stopped. Finished work is kept; once that is mended, continue with: dedup-spark"
    )
    assert said.out == ""


@pytest.mark.slow
def test_a_task_that_really_fails_is_one_sentence_in_the_log_and_on_the_terminal(
    finished: FinishedRun, tables: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"no model")
    wrong = ["--set", "extract.embedding=onnx", "--set", f"extract.weights={garbage}"]
    own = str(shutil.copytree(finished.tables.root, tmp_path / "finished"))
    for command, root in (("plan", tables.root), ("embed", own)):
        assert main([command, "--lake", str(finished.lake.folder), "--tables", root, *wrong]) == 1
        said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("dedup-spark: ")]
        assert len(said) == 2
        assert "garbage.onnx" in said[0]
        [failed] = [row["message"] for row in rows(root, "runs") if row["status"] == "failed"]
        assert said[0] == f"dedup-spark: {failed}"


# --- with a session ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_tables(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(finished.tables.root, tmp_path_factory.mktemp("api") / "tables")


def test_a_run_returns_what_it_did_and_leaves_the_session_as_it_was(
    spark: SparkSession, finished: FinishedRun, own_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "get_session", lambda *_, **__: pytest.fail("a session was made"))
    monkeypatch.chdir(finished.lake.folder.parent)
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    spark.sparkContext.setLocalProperty("spark.jobGroup.id", "mine")
    try:
        done = dedup_spark.run(spark, lake=f"./{finished.lake.folder.name}/", tables=own_tables, settings={})
        assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
        assert spark.sparkContext.getLocalProperty("spark.jobGroup.id") == "mine"
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
    assert done.lake == f"file://{finished.lake.folder.resolve()}"
    assert done.run_id not in {row["run_id"] for row in rows(finished.tables.root, "runs")}
    assert [step.step for step in done.steps] == [step.name for step in pipeline.STEPS]
    assert {step.status for step in done.steps} == {"complete", "unchanged"}
    clusters = rows(own_tables, "clusters")
    assert done.clusters == sum(row["is_keeper"] for row in clusters)
    assert 0 < done.removable <= len(clusters) - done.clusters
    assert done.removable_bytes > 0
    assert done.elapsed_seconds > 0
    assert Path(done.report).exists()
    assert not any(
        "released" in p.read_text() and '"released": false' in p.read_text() for p in own_tables.glob("_lease/*")
    )
    assert spark.sql("SELECT count(*) FROM duplicates").first()[0] == len(clusters) - done.clusters  # type: ignore[index]


def test_tables_that_another_run_holds_are_refused(
    spark: SparkSession, own_tables: Path, finished: FinishedRun
) -> None:
    with opening.to_write(Opening("run", spark, own_tables)), pytest.raises(ConfigError, match="are being written by"):
        dedup_spark.run_step(spark, "report", lake=finished.lake.folder, tables=own_tables)


def test_questions_return_values(spark: SparkSession, finished: FinishedRun) -> None:
    root = finished.tables.root
    answer = dedup_spark.sql(spark, "SELECT relation, count(*) AS n FROM duplicates GROUP BY 1", tables=root)
    assert set(answer.column_names) == {"relation", "n"}
    [found] = dedup_spark.trace(spark, "photos/coffee.jpg", tables=root)
    assert found.uri.endswith("photos/coffee.jpg")
    assert [len(found.rows[table]) for table in ("images", "features", "clusters")] == [1, 1, 3]
    first, second = finished.lake.same_bytes[0][:2]
    joined = dedup_spark.explain(spark, first, second, tables=root)
    assert (joined.comparison.same_bytes, joined.why_not) == (True, None)
    assert joined.path[0].uri.endswith(first)
    assert joined.path[-1].uri.endswith(second)
    figures = dedup_spark.summary(spark, tables=root)
    assert (figures.n_found, figures.n_clusters) == (len(rows(root, "images")), answer_of(finished, "is_keeper"))


def answer_of(finished: FinishedRun, column: str) -> int:
    return sum(row[column] for row in rows(finished.tables.root, "clusters"))


def test_a_session_without_delta_is_refused(
    spark: SparkSession, own_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "_CLASS", "no.such.Delta")
    with pytest.raises(ConfigError, match=r"has no Delta Lake: build it with spark\.jars\.packages=io\.delta"):
        dedup_spark.sql(spark, "SELECT 1", tables=own_tables)


def test_an_unforeseen_error_of_a_task_stands_with_its_trace_in_the_log_of_runs(tables: Any) -> None:
    def fail(batches: Any) -> Any:
        yield from (batch for batch in batches if 1 / 0)

    run, said = Run(tables, Config(), "file:///lake", "r1"), r"ZeroDivisionError: division by zero \(.*line \d+\)$"
    with pytest.raises(TaskError, match=f"^a task failed: {said}"), run.step("match"):
        tables.spark.range(2).mapInArrow(fail, "id bigint").count()
    [failed] = [row["message"] for row in rows(tables.root, "runs") if row["status"] == "failed"]
    assert failed.startswith("a task failed: ZeroDivisionError")
    assert "Traceback (most recent call last)" in failed
