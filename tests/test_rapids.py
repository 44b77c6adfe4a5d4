"""The whole job with NVIDIA's RAPIDS accelerator loaded: `make test-rapids`.

In explain-only mode it plans every query as on a GPU, and Spark runs the query on the CPU. So a plan that it does not
bear fails here as on a GPU; what a GPU computes is not tested. The log with its explanations stays in build/rapids/.
"""

from __future__ import annotations

import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from fetched import RAPIDS_VERSION, rapids_jar
from PIL import Image
from processes import ROOT, SECONDS_TO_FINISH, shell_environment
from table_contents import contents, counts_of
from test_conf import CONF, read_settings
from tiny_lake import build_tiny_lake

from dedup_spark.pipeline import STEPS

pytestmark = pytest.mark.rapids

LOG = ROOT / "build" / "rapids" / "run.log"
OVERLAY = dict(read_settings(CONF / "rapids" / "overlay.conf"))
_NAMED_AFTER_AN_OPERATOR = "spark.rapids.sql.exec."


def run_job(lake: Path, tables: Path, log: Path, *options: str) -> None:
    """`./spark-submit.sh run_pipeline`, with both of its streams in `log`."""
    command = [str(ROOT / "spark-submit.sh"), "--platform", "local", *options, "run_pipeline"]
    command += ["--", "--lake", str(lake), "--tables", str(tables)]
    limits = {"timeout": 3 * SECONDS_TO_FINISH, "check": False}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        done = subprocess.run(command, cwd=ROOT, env=shell_environment(), stdout=out, stderr=out, **limits)
    assert done.returncode == 0, log.read_text(errors="replace")[-4000:]


def accelerated(explain: str) -> list[str]:
    jar = rapids_jar()
    given = {
        "spark.driver.extraClassPath": jar, "spark.executor.extraClassPath": jar,
        "spark.rapids.sql.mode": "explainOnly", "spark.rapids.sql.explain": explain,
    }  # fmt: skip
    return ["--overlay", "rapids", *(f"--conf={key}={value}" for key, value in given.items())]


def change(lake: Path) -> None:
    """What a later run has to notice: an image is gone, one has changed, two are new."""
    first, second, third = sorted((lake / "singles").iterdir())[:3]
    first.unlink()
    Image.open(third).transpose(Image.Transpose.ROTATE_90).convert("RGB").save(second, "JPEG")
    (lake / "a copy.png").write_bytes(third.read_bytes())
    Image.open(third).convert("RGB").save(lake / "encoded again.jpg", quality=70)


def counts(tables: Path) -> dict[str, dict[str, int]]:
    """What each step counted, times left out."""
    by_step = {step.name: counts_of(tables, step.name) for step in STEPS}
    return {step: {k: n for k, n in found.items() if not k.endswith("_seconds")} for step, found in by_step.items()}


@dataclass(frozen=True)
class Runs:
    """A lake, and its tables made without the accelerator and with it."""

    lake: Path
    plain: Path
    explained: Path

    def again(self, log: Path, explain: str) -> None:
        run_job(self.lake, self.plain, self.plain.with_suffix(".log"))
        run_job(self.lake, self.explained, log, *accelerated(explain))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("rapids")
    build_tiny_lake(root / "lake")
    made = Runs(root / "lake", root / "plain", root / "explained")
    made.again(LOG, "ALL")
    return made


def test_the_tables_are_those_without_it(runs: Runs) -> None:
    assert contents(runs.explained) == contents(runs.plain)
    assert counts(runs.explained) == counts(runs.plain)


def test_it_planned_the_queries_of_every_step(runs: Runs) -> None:
    step, planned = "", set()
    with LOG.open(errors="replace") as lines:
        for line in lines:
            if line.endswith(": started\n"):
                step = line.removesuffix(": started\n").rpartition(" ")[2]
            elif "<FileSourceScanExec> will run on GPU" in line:
                planned.add(step)
    assert planned >= {step.name for step in STEPS}


def test_a_later_run_over_a_changed_lake_gives_the_tables_of_one_without_it(runs: Runs, tmp_path: Path) -> None:
    change(runs.lake)
    runs.again(tmp_path / "run.log", "NONE")
    assert counts(runs.explained)["inventory"]["gone"] == 1
    assert contents(runs.explained) == contents(runs.plain)
    assert counts(runs.explained) == counts(runs.plain)


def test_the_overlay_names_this_version_and_settings_that_it_knows() -> None:
    assert OVERLAY["spark.driver.extraClassPath"].endswith(f"/{rapids_jar().name}")
    with zipfile.ZipFile(rapids_jar()) as jar:
        known = jar.read("spark411/com/nvidia/spark/rapids/RapidsConf$.class")
    ours = [key for key in OVERLAY if key.startswith("spark.rapids.") and not key.startswith(_NAMED_AFTER_AN_OPERATOR)]
    assert len(ours) > 5
    assert [key for key in ours if key.encode() not in known] == []
    assert RAPIDS_VERSION in (CONF / "rapids" / "README.md").read_text()
