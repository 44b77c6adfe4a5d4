"""Drives Chromium without a window by its own protocol over two pipes; gives the console's messages and pictures.

https://chromedevtools.github.io/devtools-protocol/; `--remote-debugging-pipe` reads and writes JSON on file descriptors
3 and 4, and each message ends with a zero byte.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGES_SECONDS = 60.0
"""A page that takes longer to load or to answer fails its test, because the browser's process is then ended."""


def find_browser() -> str:
    """Path of the browser. Raises RuntimeError where there is none, as a test that needs one must not pass without."""
    found = os.environ.get("BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise RuntimeError(f"no browser here ({', '.join(NAMES)}): install one (Debian: apt-get install chromium)")
    return found


class Page:
    """One open page. `errors` are the errors and warnings in its console."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.errors: list[str] = []
        self._to, self._from = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self._numbers, self._left, self._session = itertools.count(1), b"", ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, file: Path | str, *, width_px: int = 1100, dark: bool = False) -> None:
        """Load a file, or the page at a URL, and wait until it and its pictures are loaded."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width_px, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Page.navigate", url=file if isinstance(file, str) else file.as_uri())
        self.run(
            "new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', () => done()))"
        )
        self.run("Promise.all([...document.images].map(image => image.decode())).then(() => 0)")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; for a promise, the value that it resolves to."""
        answer = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, x: float, y: float, width: float, height: float) -> Image.Image:
        """A part of the page, in px from its upper left corner; it may lie below what a window would show."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        shot = self._ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")

    def close(self) -> None:
        self._session = ""
        self._ask("Browser.close")

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        return next(self._answers(number))

    def _answers(self, number: int) -> Iterator[dict[str, Any]]:
        """The answer to the message of this number; events of the page in between are noted."""
        while True:
            message = self._next_message()
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                yield message["result"]
            self._note(message)

    def _next_message(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = self._from.read1(65536)  # type: ignore[attr-defined]
            assert more, "the browser ended"
            self._left += more
        message, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(details["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and details["type"] in ("error", "assert", "warning"):
            self.errors.append(json.dumps(details["args"]))
        elif event.get("method") == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.errors.append(details["entry"]["text"])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with a profile of its own; its process is ended with the block."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    script = 'exec 3<&"$1" 4>&"$2"; shift 2; exec timeout "$@"'  # bash takes descriptors above 9, other shells do not
    options = (
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        f"--user-data-dir={profile}", "--remote-debugging-pipe",
    )  # fmt: skip
    process = subprocess.Popen(
        ["bash", "-c", script, "browser", str(to_read), str(from_write), str(PAGES_SECONDS), find_browser(), *options],
        pass_fds=(to_read, from_write),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        page = Page(to_write, from_read)
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(timeout=30)
