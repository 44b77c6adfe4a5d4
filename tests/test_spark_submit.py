"""spark-submit.sh and getGpusResources.sh. No JVM starts: a recording script is the spark-submit here."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
GPU_PLATFORMS = ["emr", "k8s", "standalone-gpu"]
CHILD_EXIT_CODE = 7

Done = subprocess.CompletedProcess[str]
Submit = Callable[..., Done]


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def run_script(script: Path, *arguments: str, env: dict[str, str], cwd: Path = ROOT) -> Done:
    command = [str(script), *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def copy_project(folder: Path) -> Path:
    """A checkout with the real script and conf/, a package of two modules and two jobs."""
    folder.mkdir(parents=True)
    shutil.copy2(ROOT / "spark-submit.sh", folder)
    shutil.copytree(CONF, folder / "conf")
    sources = {
        "dedup_spark/__init__.py": "VERSION = 'throwaway'\n",
        "dedup_spark/stages/match.py": "",
        "dedup_spark/stages/page.html": "<p>",
        "dedup_spark/__pycache__/match.cpython-312.pyc": "",
        "dedup_spark/.DS_Store": "",
        "jobs/02_extract.py": "",
        "jobs/04_match.py": "",
        "jobs/run_pipeline.py": "",
    }
    for name, text in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


@pytest.fixture
def fake_spark(tmp_path: Path) -> Path:
    """A SPARK_HOME whose spark-submit writes its environment and arguments as JSON and exits with 7."""
    record = "import json, os, sys; json.dump([dict(os.environ), sys.argv[1:]], open(sys.argv.pop(1), 'w'))"
    call = shlex.join([sys.executable, "-c", record, str(tmp_path / "call.json")])
    write_script(tmp_path / "spark/bin/spark-submit", f'#!/bin/sh\n{call} "$@"\nexit {CHILD_EXIT_CODE}\n')
    return tmp_path / "spark"


@pytest.fixture
def submit(project: Path, fake_spark: Path, tmp_path: Path) -> Submit:
    def run(*arguments: str, **environment: str) -> Done:
        defaults = {"PATH": os.environ["PATH"], "SPARK_HOME": str(fake_spark)}
        variables = {name: value for name, value in (defaults | environment).items() if value}
        return run_script(project / "spark-submit.sh", *arguments, env=variables, cwd=tmp_path)

    return run


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with the tools that the script needs, and surely without a spark-submit."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ["awk", "bash", "cat", "dirname", "env"]:
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    (tools / "python3").symlink_to(sys.executable)
    return str(tools)


def dry_run(submit: Submit, *arguments: str) -> list[str]:
    """The words of the command that --dry-run prints, from spark-submit on."""
    done = submit("--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    return words[next(i for i, word in enumerate(words) if word.endswith("bin/spark-submit")) :]


def value_after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def confs(words: list[str]) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == "--conf"]


# --- the command -----------------------------------------------------------------------------------------


def packages_of(submit: Submit, *arguments: str) -> list[str]:
    """What --conf says of the packages, in order."""
    words = dry_run(submit, *arguments, "run_pipeline")
    key = "spark.jars.packages="
    return [pair.removeprefix(key) for pair in confs(words) if pair.startswith(key)]


@pytest.mark.parametrize("platform", ["local", "standalone-gpu"])
@pytest.mark.parametrize("version", ["4.0.2", "4.2.0", "4.2.10"])
def test_the_delta_jar_is_that_of_the_spark_that_is_here(
    submit: Submit, fake_spark: Path, version: str, platform: str
) -> None:
    (fake_spark / "jars").mkdir()
    (fake_spark / "jars" / f"spark-core_2.13-{version}.jar").touch()
    minor = version.rpartition(".")[0]
    fitting = f"io.delta:delta-spark_{minor}_2.13:4.4.0"
    assert packages_of(submit, "--platform", platform) == [fitting]
    mine = "io.delta:delta-spark_2.13:4.0.1"  # comes last and wins
    assert packages_of(submit, "--platform", platform, "--conf", f"spark.jars.packages={mine}") == [fitting, mine]


@pytest.mark.parametrize("jar", ["spark-core_2.13-4.1.1.jar", "hadoop-client-api-3.4.2.jar"])
def test_the_jar_of_the_platform_stays_where_it_fits_or_the_spark_is_unknown(
    submit: Submit, fake_spark: Path, jar: str
) -> None:
    (fake_spark / "jars").mkdir()
    (fake_spark / "jars" / jar).touch()
    assert packages_of(submit) == []


def test_a_platform_with_a_delta_of_its_own_gets_no_jar(submit: Submit, fake_spark: Path) -> None:
    (fake_spark / "jars").mkdir()
    (fake_spark / "jars" / "spark-core_2.13-4.0.2.jar").touch()
    assert packages_of(submit, "--platform", "emr") == []


def test_dry_run_prints_one_line_and_starts_nothing(submit: Submit, tmp_path: Path) -> None:
    done = submit("--dry-run", "extract", "--", "--lake", "my photos")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert shlex.split(done.stdout)[-2:] == ["--lake", "my photos"]
    assert not (tmp_path / "call.json").exists()


def test_dry_run_writes_nothing(submit: Submit, project: Path) -> None:
    before = sorted(project.rglob("*"))
    package = value_after(dry_run(submit, "extract"), "--py-files")
    assert sorted(project.rglob("*")) == before
    submit("extract")
    assert Path(package).exists()


def test_exit_code_and_arguments_pass_unchanged(submit: Submit, project: Path, tmp_path: Path) -> None:
    arguments = ["--lake", "my photos", "--conf", "not=spark's", "*", ""]
    done = submit("run_pipeline", "--", *arguments)
    assert done.returncode == CHILD_EXIT_CODE
    _, received = json.loads((tmp_path / "call.json").read_text())
    assert received[-len(arguments) - 1 :] == [str(project / "jobs/run_pipeline.py"), *arguments]


def test_what_dry_run_prints_is_what_runs(submit: Submit, tmp_path: Path) -> None:
    printed = submit("--dry-run", "match", "--", "a b").stdout
    subprocess.run(["bash", "-c", printed], env={"PATH": os.environ["PATH"]}, check=False, timeout=60)
    from_print = json.loads((tmp_path / "call.json").read_text())[1]
    submit("match", "--", "a b")
    assert json.loads((tmp_path / "call.json").read_text())[1] == from_print


def test_local_is_the_default_and_retries_failed_tasks(submit: Submit, project: Path) -> None:
    words = dry_run(submit, "extract")
    assert value_after(words, "--master") == "local[*,4]"
    assert value_after(words, "--properties-file") == str(project / "conf/local/spark-defaults.conf")
    assert "--load-spark-defaults" not in words


@pytest.mark.parametrize("platform", GPU_PLATFORMS)
def test_cluster_platforms_take_their_master_from_conf_and_keep_the_defaults_of_the_cluster(
    submit: Submit, project: Path, platform: str
) -> None:
    words = dry_run(submit, "--platform", platform, "extract")
    assert "--master" not in words
    assert value_after(words, "--properties-file") == str(project / f"conf/{platform}/spark-defaults.conf")
    assert "--load-spark-defaults" in words


@pytest.mark.parametrize("job", ["extract", "02_extract.py", "jobs/02_extract", "project/jobs/extract"])
def test_short_name_file_name_and_path_mean_the_same_job(submit: Submit, project: Path, job: str) -> None:
    assert dry_run(submit, job)[-1] == str(project / "jobs/02_extract.py")


@pytest.mark.parametrize("master", ["local[2]", "local-cluster[2,1,2048]"])
def test_local_masters_use_the_loopback_address(submit: Submit, tmp_path: Path, master: str) -> None:
    submit("--master", master, "extract")
    environment, words = json.loads((tmp_path / "call.json").read_text())
    assert environment["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert value_after(words, "--master") == master


def test_a_cluster_gets_no_address_of_this_machine(submit: Submit, tmp_path: Path) -> None:
    submit("--platform", "emr", "extract")
    environment, _ = json.loads((tmp_path / "call.json").read_text())
    assert "SPARK_LOCAL_IP" not in environment


def test_own_settings_come_last_and_win(submit: Submit) -> None:
    for job in ("match", "run_pipeline"):
        given = confs(dry_run(submit, "--overlay", "rapids", "--conf", "a.b=c=d", "--conf=e.f=g h", job))
        assert given[-2:] == ["a.b=c=d", "e.f=g h"]
        assert "spark.plugins=com.nvidia.spark.SQLPlugin" in given


def test_only_yarn_is_sent_the_gpu_discovery_script(submit: Submit, project: Path) -> None:
    shipped = value_after(dry_run(submit, "--platform", "emr", "extract"), "--files")
    assert shipped == str(project / "conf/getGpusResources.sh")
    assert "--files" not in dry_run(submit, "--platform", "k8s", "extract")


def test_packed_environment_is_the_python_of_the_executors(submit: Submit, tmp_path: Path) -> None:
    (tmp_path / "env.tar.gz").touch()
    in_cluster = dry_run(submit, "--platform=emr", "--archive=env.tar.gz", "extract")
    assert value_after(in_cluster, "--archives") == "env.tar.gz#environment"
    assert confs(in_cluster) == ["spark.pyspark.python=./environment/bin/python"]
    driver_here = dry_run(submit, "--platform=standalone-gpu", "--archive=s3://bucket/env.tar.gz", "extract")
    assert any(conf.startswith("spark.pyspark.driver.python=/") for conf in confs(driver_here))


def test_the_environment_that_was_packed_for_a_platform_is_taken_unless_another_is_named(
    submit: Submit, project: Path, tmp_path: Path
) -> None:
    for folder in ("emr", "standalone-gpu"):
        built = project / "build/package" / folder / "environment.tar.gz"
        built.parent.mkdir(parents=True)
        built.touch()
        assert value_after(dry_run(submit, "--platform", folder, "extract"), "--archives") == f"{built}#environment"
    assert "--archives" in dry_run(submit, "--platform", "standalone", "extract")
    (tmp_path / "mine.tar.gz").touch()
    mine = dry_run(submit, "--platform", "emr", "--archive", "mine.tar.gz", "extract")
    assert value_after(mine, "--archives") == "mine.tar.gz#environment"
    assert "--archives" not in dry_run(submit, "--platform", "emr", "--archive=", "extract")
    assert "--archives" not in dry_run(submit, "--platform", "k8s", "extract")
    assert "--archives" not in dry_run(submit, "extract")


def test_standalone_is_the_platform_with_gpus(submit: Submit, project: Path) -> None:
    words = dry_run(submit, "--platform", "standalone", "extract")
    assert value_after(words, "--properties-file") == str(project / "conf/standalone-gpu/spark-defaults.conf")


def test_a_driver_in_the_cluster_is_sent_the_settings_file_of_this_machine(submit: Submit, tmp_path: Path) -> None:
    (tmp_path / "my settings.toml").write_text("")
    for given in (["--config", "my settings.toml"], ["--config=my settings.toml"]):
        words = dry_run(submit, "--platform", "k8s", "extract", "--", "--lake", "s3://b/l", *given, "--set", "a=b")
        assert value_after(words, "--files") == "my settings.toml"
        assert words[-len(given) - 2 :] == [*given, "--set", "a=b"]
    far = tmp_path / "far" / "settings.toml"
    far.parent.mkdir()
    far.touch()
    words = dry_run(submit, "--platform", "emr", "extract", "--", "--config", str(far))
    assert value_after(words, "--files").endswith(f"getGpusResources.sh,{far}")
    assert words[-2:] == ["--config", "settings.toml"]
    here = dry_run(submit, "--platform", "standalone-gpu", "extract", "--", "--config", str(far))
    assert here[-2:] == ["--config", str(far)]


def test_a_settings_file_that_is_not_there_is_refused_before_a_cluster_starts(submit: Submit) -> None:
    done = submit("--platform", "emr", "--dry-run", "extract", "--", "--config", "absent.toml")
    assert (done.returncode, done.stderr) == (2, "spark-submit.sh: --config absent.toml: no such file\n")


def test_whoever_asks_a_driver_in_the_cluster_is_told_where_the_answer_is(submit: Submit, project: Path) -> None:
    for name in ("sql", "calibrate"):
        (project / f"jobs/{name}.py").touch()
    asked = {
        ("sql",): "what it prints of sql",
        ("sql", "--", "--out", "a.csv"): "a.csv of sql",
        ("calibrate",): "the file in its working folder of calibrate",
    }
    for words, said in asked.items():
        done = submit("--dry-run", "--platform", "emr", *words)
        assert done.returncode == 0
        assert f"spark-submit.sh: {said} is where the driver runs" in done.stderr
        assert submit("--dry-run", "--platform", "standalone", *words).stderr == ""
    assert submit("--dry-run", "--platform", "emr", "extract").stderr == ""
    assert submit("--dry-run", "--platform", "emr", "sql", "--", "--out", "s3://b/a.svg").stderr == ""


def test_without_spark_home_the_venv_is_used(submit: Submit, project: Path, bare_path: str) -> None:
    venv = project / ".venv/bin"
    write_script(venv / "spark-submit", "#!/bin/sh\n")
    (venv / "find_spark_home.py").write_text("print('/the/pyspark')")
    (venv / "python").symlink_to(sys.executable)
    done = submit("--dry-run", "extract", SPARK_HOME="", PATH=bare_path)
    words = shlex.split(done.stdout)
    assert words[0] == "env"
    assert {
        "SPARK_HOME=/the/pyspark",
        "SPARK_LOCAL_IP=127.0.0.1",
        f"PYSPARK_PYTHON={venv}/python",
        f"PYSPARK_DRIVER_PYTHON={venv}/python",
    } <= set(words)
    assert f"{venv}/spark-submit" in words


def test_spark_on_the_path_is_the_last_resort(submit: Submit, bare_path: str) -> None:
    expected = write_script(Path(bare_path, "spark-submit"), "#!/bin/sh\n")
    assert str(expected) in shlex.split(submit("--dry-run", "extract", SPARK_HOME="", PATH=bare_path).stdout)


def test_help_lists_jobs_and_platforms(submit: Submit) -> None:
    done = submit("--help")
    assert done.returncode == 0
    assert "extract, match, run_pipeline" in done.stdout
    assert "emr, k8s, local, standalone-gpu" in done.stdout


# --- refusals: one sentence, exit code 2 -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--platform=mesos", "extract"], "'mesos'; known platforms: emr, k8s, local, standalone-gpu"),
        (["--platform", "../jobs", "extract"], "unknown platform"),
        (["--platform", "databricks", "extract"], "conf/databricks/README.md"),
        (["extrakt"], "unknown job 'extrakt'; known jobs: extract, match, run_pipeline"),
        (["project/conf/getGpusResources.sh"], "unknown job"),
        (["project/dedup_spark/stages/match.py"], "unknown job"),
        ([], "name a job; known jobs: extract"),
        (["extract", "--lake"], "unknown option --lake"),
        (["extract", "photos"], "unexpected argument photos: put the arguments of the job after --"),
        (["extract", "--conf", "spark.x"], "--conf spark.x is not of the form KEY=VALUE"),
        (["extract", "--master"], "--master needs a value"),
        (["--platform=emr", "--archive=absent.tar.gz", "extract"], "--archive absent.tar.gz: no such file"),
        (["--archive=env.tar.gz", "extract"], "--archive is for executors in processes of their own"),
        (["--overlay", "rapids", "extract"], "takes GPU memory from the model: leave it out"),
        (["--overlay", "local", "match"], "unknown overlay 'local'"),
        (["--overlay", "../conf/rapids", "match"], "unknown overlay '../conf/rapids'"),
        (["--overlay", "..", "match"], "unknown overlay '..'"),
    ],
)
def test_wrong_command_lines_get_one_sentence(submit: Submit, arguments: list[str], said: str) -> None:
    done = submit(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_missing_spark_is_refused_with_one_sentence(submit: Submit, bare_path: str) -> None:
    done = submit("extract", SPARK_HOME="", PATH=bare_path)
    assert done.returncode == 2
    assert "no spark-submit in SPARK_HOME/bin, in .venv/bin or on the PATH" in done.stderr


def test_a_wrong_spark_home_is_not_passed_over_in_silence(submit: Submit, tmp_path: Path) -> None:
    done = submit("extract", SPARK_HOME=str(tmp_path / "absent"))
    assert done.returncode == 2
    assert "correct it or unset it" in done.stderr


# --- the package -------------------------------------------------------------------------------------------


def packed(submit: Submit) -> Path:
    """The archive that a job writes when it starts."""
    submit("extract")
    return Path(value_after(dry_run(submit, "extract"), "--py-files"))


def test_zip_holds_the_package_and_python_imports_it(submit: Submit) -> None:
    package = str(packed(submit))
    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        names = [name.removeprefix("dedup_spark/") for name in archive.namelist()]
    assert names == ["__init__.py", "stages/match.py", "stages/page.html"]
    code = f"import sys; sys.path.insert(0, {package!r}); import dedup_spark; print(dedup_spark.VERSION)"
    assert run_script(Path(sys.executable), "-I", "-c", code, env={}).stdout == "throwaway\n"


def test_equal_sources_give_equal_bytes(submit: Submit, tmp_path: Path) -> None:
    first = packed(submit)
    twin = copy_project(tmp_path / "twin")
    for path in twin.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    environment = {"PATH": os.environ["PATH"], "SPARK_HOME": str(tmp_path / "spark")}
    assert run_script(twin / "spark-submit.sh", "extract", env=environment).returncode == CHILD_EXIT_CODE
    [second] = (twin / "build/spark-submit").iterdir()
    assert (second.name, second.read_bytes()) == (first.name, first.read_bytes())


def test_changed_sources_give_another_file_and_leave_the_first(submit: Submit, project: Path) -> None:
    first = packed(submit)
    (project / "dedup_spark/__init__.py").write_text("VERSION = 'changed'\n")
    assert packed(submit) != first
    assert first.exists()


# --- conf/getGpusResources.sh ------------------------------------------------------------------------------


@pytest.mark.parametrize(("listed", "addresses"), [("0", ["0"]), ("0\n1\n2", ["0", "1", "2"])])
def test_discovery_script_speaks_json(bare_path: str, listed: str, addresses: list[str]) -> None:
    write_script(Path(bare_path, "nvidia-smi"), f"#!/bin/sh\ncat <<END\n{listed}\nEND\n")
    done = run_script(CONF / "getGpusResources.sh", env={"PATH": bare_path})
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": addresses}


def test_discovery_script_fails_where_there_is_no_gpu(bare_path: str) -> None:
    script = CONF / "getGpusResources.sh"
    assert run_script(script, env={"PATH": bare_path}).returncode != 0
    write_script(Path(bare_path, "nvidia-smi"), "#!/bin/sh\necho No devices were found\n")
    done = run_script(script, env={"PATH": bare_path})
    assert (done.returncode, done.stdout) == (1, "")
    assert "nvidia-smi lists no GPU" in done.stderr


# --- exit codes of drivers that are elsewhere ------------------------------------------------------------


@pytest.fixture
def in_cluster(project: Path, tmp_path: Path) -> Callable[..., Done]:
    """Submits to a spark-submit that ends with `code`, as the platform makes it, and whose driver left `result`."""
    wrote = write_script(
        tmp_path / "cluster/bin/spark-submit",
        '#!/bin/bash\nmkdir -p "$TABLES/results"\n'
        '[ -z "$LEFT" ] || echo "$LEFT" > "$TABLES/results/${!#}.json"\nexit "$CODE"\n',
    )

    def run(code: int, left: str, *arguments: str) -> Done:
        tables = str(tmp_path / "my tables")
        env = {"PATH": os.environ["PATH"], "SPARK_HOME": str(wrote.parents[1]), "CODE": str(code), "LEFT": left}
        asked = ("--platform", "k8s", *arguments, "run_pipeline", "--", "--tables", tables)
        return run_script(project / "spark-submit.sh", *asked, env=env | {"TABLES": tables}, cwd=tmp_path)

    return run


@pytest.mark.parametrize(
    ("code", "left", "ends"),
    [
        (0, 0, 0), (0, 1, 1), (0, 2, 2),  # Kubernetes: 0 whatever the driver did
        (1, 1, 1), (1, 2, 2),  # YARN: 1 whatever the driver did
        (1, 0, 1), (7, None, 7),  # the driver was done, or never began: what spark-submit says counts
    ],
)  # fmt: skip
def test_the_exit_code_is_that_of_the_driver_where_the_platform_hides_it(
    in_cluster: Callable[..., Done], code: int, left: int | None, ends: int
) -> None:
    text = "" if left is None else json.dumps({"command": "run", "exit_code": left}, indent=1)
    assert in_cluster(code, text).returncode == ends


def test_a_driver_that_left_nothing_is_no_success(in_cluster: Callable[..., Done]) -> None:
    done = in_cluster(0, "")
    assert done.returncode == 1
    assert "the driver left no result at " in done.stderr


def test_nothing_is_read_where_nobody_waits_for_the_end(in_cluster: Callable[..., Done]) -> None:
    done = in_cluster(0, "", "--conf", "spark.kubernetes.submission.waitAppCompletion=false")
    assert (done.returncode, done.stderr) == (0, "")


def test_only_a_driver_in_the_cluster_is_told_where_to_leave_its_code(submit: Submit) -> None:
    place = ("--", "--tables", "s3://b/t")
    assert dry_run(submit, "--platform", "emr", "extract", *place)[-2] == "--result"
    mine = dry_run(submit, "--platform", "emr", "extract", *place, "--result", "mine")
    assert mine[-4:] == ["--tables", "s3://b/t", "--result", "mine"]
    assert "--result" not in dry_run(submit, "--platform", "standalone-gpu", "extract", *place)
    assert "--result" not in dry_run(submit, "--platform", "emr", "--master", "local[2]", "extract", *place)
