"""Whatever an object's listing or its store says of its size: no more than one byte above the limit is asked for."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import fsspec.asyn
import pytest

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, disk, objects, streams
from dedup_spark.sources.limits import Part, read_up_to
from dedup_spark.sources.objects import read_object

LIMIT = 100_000


def reason_of(uri: str, *part: int, max_bytes: int = LIMIT) -> str:
    with pytest.raises(ImageRejected) as rejected:
        read_object(uri, *part, max_bytes=max_bytes)
    return str(rejected.value)


class Counted(io.FileIO):
    """A file that is written to as fast as it is read."""

    n_read = 0

    def read(self, n: int | None = -1) -> bytes:  # type: ignore[override]
        assert n is not None
        assert n >= 0, "a read without a limit"
        data = (super().read(n) or b"").ljust(n, b"x")
        Counted.n_read += len(data)
        return data


def test_a_file_that_grows_is_cut_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1234")
    monkeypatch.setattr(disk, "open_regular", Counted)
    Counted.n_read = 0
    assert reason_of(f"file://{path}") == f"too_large: more than {LIMIT:,} bytes; extract.max_object_bytes is {LIMIT:,}"
    assert Counted.n_read == LIMIT + 1


def test_a_file_that_says_its_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        file.truncate(2**31)
    monkeypatch.setattr(disk, "read_up_to", lambda *_: pytest.fail("it was read"))
    assert reason_of(f"file://{path}").startswith("too_large: 2,147,483,648 bytes; extract.max_object_bytes is 100,000")
    assert reason_of(f"file://{path}", 5).startswith("too_large: 2,147,483,643 bytes")
    assert reason_of(f"file://{path}", 5, LIMIT + 1).startswith("too_large: 100,001 bytes")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a system without /proc")
def test_a_file_of_the_kernel_that_says_it_is_empty_is_read_up_to_the_limit() -> None:
    assert read_object("file:///proc/self/status", max_bytes=LIMIT).startswith(b"Name:")
    assert reason_of("file:///proc/self/status", max_bytes=10).startswith("too_large: more than 10 bytes")
    assert read_object("file:///proc/self/status", 10_000_000, max_bytes=LIMIT) == b""


@pytest.mark.parametrize("address", ["file://{}", "local://{}", "local:{}", "LOCAL://{}"])
def test_what_is_no_regular_file_is_never_opened(address: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", "/dev/stdin", str(tmp_path / "pipe"), str(tmp_path)):
        assert reason_of(addresses.canonical(address.format(path))).startswith("forbidden:")


def test_a_read_that_would_have_to_wait_is_none() -> None:
    with pytest.raises(ImageRejected, match="forbidden: its bytes are still to be written"):
        read_up_to(lambda n: None, 10, 3)


@pytest.mark.parametrize("n", [LIMIT - 1, LIMIT])
def test_an_object_of_the_size_allowed_is_whole(n: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(n))
    fsspec.filesystem("memory").pipe_file("/limits/a", bytes(n))
    for uri in (f"file://{tmp_path}/a", "memory://limits/a"):
        assert read_object(uri, max_bytes=LIMIT) == bytes(n)


def test_a_store_is_asked_for_one_byte_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def cat_file(_: Any, path: str, start: int | None = None, end: int | None = None) -> bytes:
        assert start is not None
        assert end is not None
        asked.append(end - start)
        return bytes(end - start)

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", cat_file)
    assert reason_of("memory://limits/b").startswith("too_large: more than 100,000 bytes")
    assert read_object("memory://limits/b", 7, 50, max_bytes=LIMIT) == bytes(50)
    assert asked == [LIMIT + 1, 50]


class EndlessBody:
    """As aiobotocore's, of an object that is longer than its listing says."""

    n_taken = 0

    async def __aenter__(self) -> EndlessBody:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def read(self, n: int = -1) -> bytes:
        assert n >= 0, "a read without a limit"
        EndlessBody.n_taken += n
        return bytes(n)


@pytest.mark.parametrize(
    ("length", "n_taken", "said"), [(None, LIMIT + 1, "more than 100,000"), (2**40, 0, "1,099,511,")]
)
def test_an_object_of_s3_is_cut_at_the_limit(
    length: int | None, n_taken: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Store:
        loop = fsspec.asyn.get_loop()
        call_s3 = None

        async def _call_s3(self, _: str, **request: str) -> dict[str, Any]:
            return {"Body": EndlessBody(), "ContentLength": length}

    monkeypatch.setattr(objects.addresses, "open_for_reading", lambda store: (Store(), "bucket"))
    EndlessBody.n_taken = 0
    assert reason_of("s3://bucket/a.jpg").startswith(f"too_large: {said}")
    assert EndlessBody.n_taken == n_taken
    assert len(read_object("s3://bucket/a.jpg", 10, 20, max_bytes=LIMIT)) == 20


class Web(BaseHTTPRequestHandler):
    """Answers by the path; `sent` counts the bytes of bodies."""

    protocol_version = "HTTP/1.1"
    sent = 0
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        kind = self.path.strip("/")
        if kind.startswith("on-to="):
            self.send_response(302)
            self.send_header("Location", unquote(kind.removeprefix("on-to=")))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        Web.asked.append(kind)
        self.send_response(206 if kind == "parts" else 200)
        if kind.startswith("packed"):
            self.send_header("Content-Encoding", "br" if "br" in kind else "gzip")
        body = {"small": b"1234567890", "parts": b"456", "packed": gzip.compress(bytes(2 * LIMIT)),
                "packed-small": gzip.compress(b"1234567890"), "packed-br": b"??"}.get(kind)  # fmt: skip
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        elif kind == "claim":
            self.send_header("Content-Length", str(2**40))
        elif kind == "chunks":
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if body is None:
            self._send_without_end(b"10000\r\n" + bytes(2**16) + b"\r\n" if kind == "chunks" else bytes(2**16))
        else:
            self.wfile.write(body)

    def _send_without_end(self, chunk: bytes) -> None:
        try:
            while Web.sent < 2**30:
                self.wfile.write(chunk)
                Web.sent += len(chunk)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@contextmanager
def web() -> Iterator[str]:
    Web.sent = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("kind", "said"),
    [("claim", "too_large: 1,099,511,627,776 bytes"), ("chunks", "too_large: more than 100,000 bytes"),
     ("no-length", "too_large: more than 100,000 bytes"), ("packed", "too_large: more than 100,000 bytes"),
     ("packed-br", "forbidden: the server sends it compressed (br)")],
)  # fmt: skip
def test_an_answer_of_the_web_is_cut_at_the_limit(kind: str, said: str) -> None:
    with web() as server:
        assert reason_of(f"{server}/{kind}").startswith(said)
        assert Web.sent < 2**28, "the server could go on: only what sockets hold was sent"


def test_an_ordinary_answer_of_the_web_is_read() -> None:
    with web() as server:
        assert read_object(f"{server}/small", max_bytes=10) == b"1234567890"
        assert read_object(f"{server}/packed-small", max_bytes=10) == b"1234567890"
        assert read_object(f"{server}/parts", 3, 3, max_bytes=10) == b"456"
        assert reason_of(f"{server}/small", 3, 3).startswith("forbidden: the server gives no parts of objects")


def test_a_server_sends_on_within_its_host_alone() -> None:
    """Another port is another server: a service that only this machine reaches."""
    with web() as server, web() as inside:
        for place in ("/small", f"{server}/small", "/on-to=%2Fsmall"):
            assert read_object(f"{server}/on-to={quote(place, safe='')}", max_bytes=10) == b"1234567890"
        Web.asked.clear()
        for place in (f"{inside}/small", f"{server.replace('127.0.0.1', 'localhost')}/small", "file:///etc/passwd"):
            assert reason_of(f"{server}/on-to={quote(place, safe='')}").startswith("outside_lake: the server sends on")
        assert reason_of(f"{server}/on-to={quote('http://h:x/', safe='')}").startswith("forbidden: the server sends on")
        assert Web.asked == []


def test_a_server_that_sends_on_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_MOST_HOPS", 2)
    with web() as server:
        round_and_round = "/on-to=" + quote("/on-to=" + quote("/on-to=" + quote("/small", safe=""), safe=""), safe="")
        assert reason_of(server + round_and_round) == "forbidden: the server sends on more than 2 times"


@pytest.mark.parametrize("part", [(-1, None), (0, -1), (-(2**63), 2**63), (5, -(2**63))])
def test_no_object_has_a_part_of_negative_place_or_length(part: tuple[int, int | None], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for uri in (f"file://{tmp_path}/a", "memory://limits/a", "s3://bucket/a"):
        with pytest.raises(ImageRejected, match=r"missing: no object has|too_large"):
            read_object(uri, *part, max_bytes=LIMIT)


def test_a_part_asks_for_no_more_than_it_is() -> None:
    assert (Part.of(None, None, 10).end, Part.of(3, None, 10).end, Part.of(3, 4, 10).end) == (11, 14, 7)
