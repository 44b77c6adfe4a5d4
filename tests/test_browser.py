"""The report of the demo in a browser, and what the README shows of the demo: `make test-browser`.

Without Chromium these fail, and say so. The first test writes the picture of the README, docs/report.png.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Page, browser
from PIL import Image
from test_documents import README

pytestmark = pytest.mark.browser

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "report.png"
MAX_PICTURE_BYTES = 150_000
SHOWN = "coffee"
"""The picture of the README shows the cluster of this photo, which is CC0; see docs/licences.md."""


@dataclass(frozen=True)
class Demo:
    tables: Path
    output: str

    @property
    def report(self) -> Path:
        return self.tables / "report" / "index.html"


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """`dedup-spark demo`, at a place whose name a picture can show."""
    root = Path(tempfile.gettempdir()) / "dedup_spark_demo"
    shutil.rmtree(root, ignore_errors=True)
    yield Demo(root / "tables", run("demo", "--tables", str(root / "tables")))
    shutil.rmtree(root)


def run(*arguments: str) -> str:
    """What `dedup-spark` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "dedup_spark", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path / "profile") as opened:
        yield opened


FIGURES = (
    "(() => { const all = document.querySelector('h2').getBoundingClientRect(); return all.top + scrollY - 32; })()"
)
CLUSTER = f"""(() => {{
  const shown = [...document.images].map(image => image.parentElement).filter(e => e.textContent.includes('{SHOWN}'));
  let around = shown[0];
  while (!shown.every(e => around.contains(e))) around = around.parentElement;
  const box = around.parentElement.getBoundingClientRect();
  return [box.left, box.top + scrollY, box.width, box.height];
}})()"""


def test_the_picture_of_the_readme_is_the_report_of_the_demo(demo: Demo, page: Page) -> None:
    page.open(demo.report)
    head = page.picture(0, 0, 1100, page.run(FIGURES))
    left, top, width, height = page.run(CLUSTER)
    cluster = page.picture(0, top - 12, 1100, height + 24)
    assert 300 < height < 900
    assert left >= 0
    assert width > 800
    together = Image.new("RGB", (1100, head.height + cluster.height))
    together.paste(head, (0, 0))
    together.paste(cluster, (0, head.height))
    together.quantize(112, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    assert PICTURE.stat().st_size < MAX_PICTURE_BYTES


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width_px", [1100, 390], ids=["desk", "phone"])
def test_the_report_shows_all_pictures_and_the_console_is_silent(
    demo: Demo, page: Page, width_px: int, dark: bool
) -> None:
    page.open(demo.report, width_px=width_px, dark=dark)
    assert page.errors == []
    assert page.run("document.images.length") > 100
    assert page.run("[...document.images].filter(image => !image.naturalWidth).length") == 0
    assert page.run("document.documentElement.scrollWidth") <= width_px


def test_the_console_of_a_page_with_errors_is_not_silent(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text("<script>console.error('one'); nobody()</script><img src='data:image/png;base64,'>")
    with pytest.raises(AssertionError):
        page.open(broken)  # its picture is none
    assert len(page.errors) >= 2


def words(line: str) -> list[str]:
    """Of a line of text or of a table, so that widths of columns do not count."""
    return re.findall(r"[^\s|]+", line)


def shown_lines(part: str) -> list[str]:
    """The lines of the block behind `<!-- part -->` in the README."""
    found = re.search(rf"<!-- {part} -->\n+```text\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, part
    return [line for line in found[1].splitlines() if words(line)]


def test_the_output_in_the_readme_is_that_of_the_demo(demo: Demo) -> None:
    said = [words(line) for line in demo.output.splitlines()]
    assert [line for line in shown_lines("demo") if words(line) not in said] == [], demo.output


def test_the_rows_in_the_readme_are_those_of_the_demo(demo: Demo) -> None:
    command = re.search(r"^dedup-spark sql .*SELECT relation, round.*$", README.read_text(), re.MULTILINE)
    assert command
    asked = [word.replace("demo/tables", str(demo.tables)) for word in shlex.split(command[0])[1:]]
    said = run(*asked)
    lines = [words(line) for line in said.splitlines()]
    assert [line for line in shown_lines("rows") if words(line) not in lines] == [], said
