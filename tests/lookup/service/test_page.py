"""The page in a real browser: an image is dropped on it, and the answer is shown beside the keeper's thumbnail."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import lookups
import pytest
from browser import Page, browser

from dedup_spark.lookup.service.settings import TOKEN
from lookup.conftest import images_of_lake
from lookup.service.test_service import Service, started

pytestmark = pytest.mark.browser

_DROP = """
(async () => {
  const bytes = Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], "my upload.jpg", { type: "image/jpeg" }));
  document.getElementById("said").textContent = "";
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: carried, cancelable: true }));
  for (let i = 0; i < 300; i++) {
    await new Promise((done) => setTimeout(done, 100));
    const said = document.getElementById("said").textContent;
    if (said && !said.endsWith("...")) break;
  }
  await new Promise((done) => setTimeout(done, 500));
  return [document.getElementById("said").textContent, document.getElementById("found").innerText,
          [...document.images].filter((image) => image.naturalWidth > 0).length];
})()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("page")
    lookups.finish_run(folder / "tables", images_of_lake())
    yield from started(folder / "tables", folder)


def drop(page: Page, data: bytes) -> tuple[str, str, int]:
    said, found, n_pictures = page.run(_DROP % base64.b64encode(data).decode())
    return said, found, n_pictures


def test_a_dropped_image_is_answered_with_pictures(service: Service, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.open(f"http://127.0.0.1:{service.port}/")
        said, found, n_pictures = drop(page, lookups.edited(lookups.photo("rocket.jpg")))
        assert said == "A copy of 1 image among 6 images."
        assert "rocket.jpg" in found
        assert n_pictures == 2
        page.picture(0, 0, 1100, 700).save(os.environ.get("PAGE_PICTURE", tmp_path / "page.png"))
        assert drop(page, lookups.jpeg(lookups.photo("astronaut.png")))[0] == "No copy of it among 6 images."
        assert drop(page, b"no image")[0].startswith("It cannot be read (not_an_image)")
        assert page.errors == []


def test_the_page_asks_for_the_token(service: Service, tmp_path: Path) -> None:
    for guarded in started(service.folder / "tables", tmp_path, **{TOKEN: "a long secret"}):
        with browser(tmp_path / "profile") as page:
            page.open(f"http://127.0.0.1:{guarded.port}/")
            assert "token" in drop(page, lookups.edited(lookups.photo("rocket.jpg")))[0]
            page.run('document.getElementById("token").value = "a long secret"')
            said, _, n_pictures = drop(page, lookups.edited(lookups.photo("rocket.jpg")))
            assert (said, n_pictures) == ("A copy of 1 image among 6 images.", 2)
