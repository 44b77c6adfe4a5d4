"""A decoder that an image has taken over: what it tries to do, and what its parent makes of its answers."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedup_spark.errors import DedupError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import SignatureSettings
from dedup_spark.stages.reading import decoder_pool, sandbox
from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool

SETTINGS = SignatureSettings(max_pixels=10**9, min_side_px=16, thumbnail_px=256, thumbnail_quality=80, input_px=64)

TAKEN_OVER = '''
"""The decoder child, which runs the Python that it is given as an image, and says what came of it."""
import ctypes, os, pickle, signal, socket, subprocess, sys, threading
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.stages.reading import decoder_child
from dedup_spark.kernels.features import signature

DATA = {{"raw": None}}


def sign_image(data, settings):
    found = {{}}
    exec(data.decode(), globals(), found)
    raise ImageRejected("corrupt", repr(found.get("said")))


signature.sign_image = sign_image
decoder_child.main()
'''


@pytest.fixture(scope="module")
def taken_over(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Starts as Python does, and does what the bytes of an image say."""
    folder = tmp_path_factory.mktemp("taken-over")
    (folder / "taken_over.py").write_text(TAKEN_OVER.format())
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/taken_over.py"\n')
    python.chmod(0o755)
    return python


@pytest.fixture(scope="module")
def its_pool(taken_over: Path) -> Iterator[DecoderPool]:
    """One process, confined, which all tests of this module give images to: what it refuses does not end it."""
    made = DecoderPool(1, SETTINGS, DecoderLimits(2 << 30, 60.0, "required"))
    yield made
    made.close()


@pytest.fixture
def pool(its_pool: DecoderPool, taken_over: Path, monkeypatch: pytest.MonkeyPatch) -> DecoderPool:
    """That pool, which starts its process when a first image comes, and again where an image ended it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-environment")
    monkeypatch.setattr(sys, "executable", str(taken_over))
    return its_pool


def said(pool: DecoderPool, code: str) -> str:
    """What the process says when it has run `code`, or the error that this gave."""
    with pytest.raises(ImageRejected) as rejected:
        pool.sign(code.encode())
    return rejected.value.message


@pytest.mark.parametrize("mode", ["w", "a", "r+", "x"])
def test_it_writes_no_file(pool: DecoderPool, tmp_path: Path, mode: str) -> None:
    there = tmp_path / "there.txt"
    if mode != "x":
        there.write_text("as it was")
    assert "PermissionError" in said(pool, f"open({str(there)!r}, {mode!r}).write('taken')")
    assert not there.exists() if mode == "x" else there.read_text() == "as it was"


@pytest.mark.parametrize(
    "act", ["os.unlink({0})", "os.rename({0}, {0} + '2')", "os.mkdir({0} + '2')", "os.symlink('/', {0} + '2')",
            "os.chmod({0}, 0o777)", "os.truncate({0}, 0)", "os.utime({0})", "os.link({0}, {0} + '2')"]
)  # fmt: skip
def test_it_changes_no_file(pool: DecoderPool, tmp_path: Path, act: str) -> None:
    there = tmp_path / "there.txt"
    there.write_text("as it was")
    before = there.stat()
    assert "PermissionError" in said(pool, act.format(repr(str(there))))
    assert there.stat() == before
    assert not (tmp_path / "there.txt2").exists()


def test_it_reads_no_file_but_those_of_its_packages(pool: DecoderPool, tmp_path: Path) -> None:
    (tmp_path / "canary.txt").write_text("canary")
    for place in (tmp_path / "canary.txt", "/etc/passwd", f"/proc/{os.getpid()}/environ"):
        assert "PermissionError" in said(pool, f"said = open({str(place)!r}, 'rb').read()"), place
    assert "PermissionError" in said(pool, "said = os.listdir('/root' if os.getuid() == 0 else '/home')")
    assert said(pool, f"said = len(open({os.__file__!r}).read()) > 100") == "True"


def test_its_environment_holds_no_keys(pool: DecoderPool) -> None:
    message = said(pool, "said = (dict(os.environ), open('/proc/self/environ').read() if 0 else '')")
    assert "canary" not in message
    assert "PYTHONSAFEPATH" in message


@pytest.mark.parametrize(
    "act", ["os.fork()", "os.posix_spawn('/bin/true', ['true'], {})", "subprocess.run(['/bin/true'])",
            "os.execv('/bin/true', ['true'])", "os.kill(os.getppid(), signal.SIGTERM)"]
)  # fmt: skip
def test_it_starts_and_signals_no_process(pool: DecoderPool, act: str) -> None:
    assert "PermissionError" in said(pool, act)


def test_it_may_have_threads_of_its_own(pool: DecoderPool) -> None:
    code = "seen = []\nt = threading.Thread(target=seen.append, args=(1,)); t.start(); t.join(); said = seen"
    assert said(pool, code) == "[1]"


def test_it_reaches_no_address(pool: DecoderPool) -> None:
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)

        def accept() -> None:
            with contextlib.suppress(TimeoutError):
                server.accept()
                reached.set()

        thread = threading.Thread(target=accept)
        thread.start()
        assert "PermissionError" in said(pool, f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))")
        thread.join()
    assert not reached.is_set()
    assert "PermissionError" in said(pool, "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)")


class _Planted:
    """Unpickled, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.place,)


def frame(body: bytes) -> bytes:
    return struct.pack("<Q", len(body)) + body


def answer(header: bytes, rest: bytes = b"") -> bytes:
    return frame(struct.pack("<I", len(header)) + header + rest)


@pytest.mark.parametrize(
    "raw",
    [
        frame(b""), frame(b"\xff" * 40), struct.pack("<Q", 1 << 62), struct.pack("<Q", (64 << 20) + 1),
        answer(b"["), answer(b"[]"), answer(b"{}"), answer(b'["ok"]'), answer(b'["rejected", "no such reason", ""]'),
        answer(b'["rejected", 1, 2]'), answer(b"[" * 100_000), answer(b'["ok", {"": "bytes", "length": 10}]', b"short"),
        answer(b'["ok", {"": "bytes", "length": -1}]'), answer(b'["ok", {"": "bytes"}]'),
        answer(b'["ok", {"": "array", "length": 6, "shape": [2, 2]}]', bytes(6)),
        answer(b'["ok", {"": "array", "length": 6, "shape": ["x"]}]', bytes(6)),
        answer(b'["ok", {"": "time", "text": "yesterday"}]'), answer(b'["ok", {"": "signature", "values": [1, 2]}]'),
        frame(pickle.dumps(("ok", 1))),
    ],
)  # fmt: skip
def test_an_answer_of_another_form_costs_its_image_and_the_process(pool: DecoderPool, raw: bytes) -> None:
    code = f"decoder_child.write_frame = lambda stream, _: (stream.write({raw!r}), stream.flush())"
    with pytest.raises(ImageRejected) as rejected:
        pool.sign(code.encode())
    assert rejected.value.reason == "decoder_crashed"
    assert said(pool, "said = 7") == "7"


def test_no_answer_is_unpickled(pool: DecoderPool, tmp_path: Path) -> None:
    raw = frame(pickle.dumps(_Planted(tmp_path / "planted")))
    code = f"decoder_child.write_frame = lambda stream, _: (stream.write({raw!r}), stream.flush())"
    assert "decoder process died" in said(pool, code)
    assert not (tmp_path / "planted").exists()


def test_modules_in_the_current_folder_are_not_run(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for name in ("struct", "pickle", "resource", "traceback", "numpy", "PIL", "dedup_spark", "sitecustomize"):
        (lake / f"{name}.py").write_text(f"from pathlib import Path; Path('ran-{name}').touch()")
    code = (
        "from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool\n"
        "from dedup_spark.kernels.features.signature import SignatureSettings\n"
        "import os, sys\n"
        f"os.chdir({str(lake)!r})\nsys.path.insert(0, '')\nsys.path.insert(0, os.getcwd())\n"
        "pool = DecoderPool(1, SignatureSettings(10**9, 16, 256, 80, 64), DecoderLimits(2 << 30, 60.0))\n"
        "try:\n    pool.sign(b'no image')\nexcept Exception as e:\n    print(e.reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "not_an_image\n"
    assert not list(lake.glob("ran-*"))


def test_a_machine_without_protection_is_told_once_or_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "unprotected.py"
    script.write_text(
        "from dedup_spark.stages.reading import decoder_child, sandbox\n"
        "sandbox.confine = lambda: ['Landlock', 'seccomp']\ndecoder_child.main()\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(decoder_pool, "_told", set())
    for _ in range(2):
        pool = DecoderPool(1, SETTINGS, DecoderLimits(2 << 30, 60.0))
        with pytest.raises(ImageRejected, match="not_an_image"):
            pool.sign(b"no image")
        pool.close()
    assert caplog.text.count("run without Landlock and seccomp") == 1
    with pytest.raises(DedupError, match=r"decoder_sandbox=required.*no Landlock and no seccomp"):
        DecoderPool(1, SETTINGS, DecoderLimits(2 << 30, 60.0, "required")).sign(b"no image")


def test_the_path_of_a_decoder_leaves_out_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(tmp_path / "."), "/packages", "/gone"])
    assert sandbox.environment("/root-of-package")["PYTHONPATH"] == "/root-of-package:/packages:/gone"
