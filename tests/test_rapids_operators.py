"""The table of docs/rapids.md, from the log of a driver."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent

LOG = """\
26/11/27 23:12:00 INFO SparkContext: Running Spark version 4.1.1
26/11/27 23:12:01 WARN RapidsPluginUtils: RAPIDS Accelerator 26.08.1 using cudf 26.08.0, private revision 66a
26/11/27 23:12:02 WARN GpuOverrides:\x20
*Exec <UnionExec> will run on GPU

23:12:03 INFO match: started
26/11/27 23:12:04 WARN GpuOverrides:\x20
*Exec <ProjectExec> will run on GPU
  *Expression <Alias> 1 AS one#1 will run on GPU
  !Exec <FilterExec> cannot run on GPU because not all expressions can be replaced
    !Expression <And> (a#2 AND invoke(b#3)) cannot run on GPU because not all expressions can be replaced
      ! <Invoke> invoke(b#3) cannot run on GPU because GPU does not currently support the operator class Invoke
      @Expression <Literal> a text
with a line break could run on GPU
    !Exec <MapInArrowExec> cannot run even partially on the GPU because the Exec MapInArrowExec has been disabled. Set x
      ! <LocalTableScanExec> cannot run on GPU because GPU does not currently support the operator class LocalTableScan
      @Expression <AttributeReference> a#2 could run on GPU

26/11/27 23:12:05 WARN GpuOverrides:\x20
#Exec <SortExec> could run on GPU but is going to be removed because replacing sortMergeJoin with shuffleHashJoin
  !Exec <ProjectExec> cannot run on GPU because of something new about a#12L
    *Exec <FileSourceScanExec> will run on GPU
26/11/27 23:12:06 WARN GpuOverrides:\x20
! <RDDScanExec> cannot run on GPU because GPU does not currently support the operator class RDDScanExec
  @Expression <AttributeReference> add#38 could run on GPU

23:12:07 INFO match: done in 4s
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("rapids_operators", ROOT / "docs" / "rapids_operators.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_operators_of_a_step_are_those_of_its_own_plans(script: ModuleType) -> None:
    found = script.operators_by_step(LOG.splitlines(keepends=True))
    assert set(found) == {"match"}
    assert found["match"].on_gpu == {"Project", "FileSourceScan"}
    assert found["match"].on_cpu == {
        "Filter": {"no Invoke"},
        "MapInArrow": {"switched off by the overlay"},
        "LocalTableScan": {"the plugin has no such operator"},
        "Project": {"cannot run on GPU because of something new about a"},
    }


def test_the_page_says_versions_and_day(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page, log = tmp_path / "rapids.md", tmp_path / "run.log"
    page.write_text("before\n<!-- rapids -->\nold\n<!-- /rapids -->\nafter\n")
    log.write_text(LOG)
    monkeypatch.setattr(script, "PAGE", page)
    script.main(log)
    text = page.read_text()
    assert "RAPIDS Accelerator 26.08.1, Spark 4.1.1, 20" in text
    assert "| match | FileSourceScan, Project | " in text
    assert text.startswith("before\n<!-- rapids -->\n")
    assert text.endswith("<!-- /rapids -->\nafter\n")
    assert "old" not in text
