"""Claim: a listing of a million folders costs what the store's pages cost, wherever the folders are.

A lake of N folders with one file each lies on disk, and in a store on loopback that lists like S3: at most 1,000 keys a
request, each answered after a delay. `dedup-spark inventory` lists both twice: into empty tables, and again where
nothing has changed. Beside it, in the same run: `find`, which asks the disk for the same facts of each file, and the
pages one after another as boto3 asks for them. For the store, the number of requests and how many keys each gave.

    python benchmarks/listing.py --quick
    python benchmarks/listing.py --folders 1000000
    python benchmarks/listing.py --folders 1000000 --skip disk --delay-ms 30

All seconds are those of a command from its start to its end; that of Spark is among them.
"""

from __future__ import annotations

import argparse
import bisect
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

import boto3
from deltalake import DeltaTable
from harness import Table, describe_machine, print_json

BUCKET, PREFIX = "lake", "photos"
_PAGE = 1000
_SIZE_BYTES = 7
_LISTED = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    '<ETag>"0123456789abcdef0123456789abcdef"</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>'
)


def name_of(number: int) -> str:
    """Path of a file below the lake: each lies in a folder of its own."""
    return f"{number:07d}/photo.jpg"


def make_folders(root: Path, n: int) -> None:
    """The lake on disk. The files are no images: a listing opens none."""
    root.mkdir(parents=True)
    for number in range(n):
        path = root / name_of(number)
        path.parent.mkdir()
        path.write_bytes(b"x" * _SIZE_BYTES)


# --- the store --------------------------------------------------------------------------------------------


def serve(n: int, delay_seconds: float, port: Synchronized[int], n_requests: Synchronized[int], ready: Event) -> None:
    """Answers ListObjectsV2 of the made-up keys by their order, and nothing else, until its process is ended."""
    keys = [f"{PREFIX}/{name_of(number)}" for number in range(n)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            asked = {key: values[0] for key, values in parse_qs(address.query, keep_blank_values=True).items()}
            if asked.get("list-type") != "2":
                self._answer(404, "<Error><Code>NoSuchKey</Code></Error>")
                return
            with n_requests.get_lock():
                n_requests.value += 1
            time.sleep(delay_seconds)
            self._answer(200, _page(keys, asked))

        def do_HEAD(self) -> None:
            self._answer(200 if urlsplit(self.path).path.strip("/") == BUCKET else 404, "")

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing: there are thousands of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        port.value = server.server_port
        ready.set()
        server.serve_forever()


def _page(keys: list[str], asked: dict[str, str]) -> str:
    """A page as S3 gives it: keys, or the folders below a prefix where `delimiter` asks for those."""
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
    after = asked.get("continuation-token") or asked.get("start-after", "")
    most = min(int(asked.get("max-keys", _PAGE)), _PAGE)
    at = max(bisect.bisect_right(keys, after), bisect.bisect_left(keys, prefix))
    found, folders, last = [], [], after
    while at < len(keys) and keys[at].startswith(prefix) and len(found) + len(folders) < most:
        below, slash, _ = keys[at][len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if slash:
            folders.append(prefix + below + slash)
            last = folders[-1] + "\U0010ffff"  # behind all keys of the folder
            at = bisect.bisect_right(keys, last)
        else:
            found.append(keys[at])
            last = keys[at]
            at += 1
    is_truncated = at < len(keys) and keys[at].startswith(prefix)
    token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if is_truncated else ""
    encode = quote if asked.get("encoding-type") == "url" else escape
    return (
        f'<?xml version="1.0"?><ListBucketResult><Name>{BUCKET}</Name><Prefix>{encode(prefix)}</Prefix>'
        f"<MaxKeys>{most}</MaxKeys><KeyCount>{len(found) + len(folders)}</KeyCount>"
        f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{token}"
        + "".join(_LISTED.format(key=encode(key)) for key in found)
        + "".join(f"<CommonPrefixes><Prefix>{encode(folder)}</Prefix></CommonPrefixes>" for folder in folders)
        + "</ListBucketResult>"
    )


@contextmanager
def running_store(n: int, delay_seconds: float) -> Iterator[tuple[dict[str, str], Synchronized[int]]]:
    """What finds the store, as variables of the environment, and the number of requests so far."""
    context = multiprocessing.get_context("spawn")
    port, n_requests, ready = context.Value("i", 0), context.Value("q", 0), context.Event()
    process = context.Process(target=serve, args=(n, delay_seconds, port, n_requests, ready), daemon=True)
    process.start()
    if not ready.wait(120):
        raise SystemExit("listing: the store did not start")
    found = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port.value}", "AWS_ACCESS_KEY_ID": "x",
             "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    try:
        yield found, n_requests
    finally:
        process.terminate()
        process.join()


# --- what is timed ----------------------------------------------------------------------------------------


def inventory_seconds(lake: str, tables: Path, environment: dict[str, str]) -> float:
    """Seconds of the command, whose messages are shown where it fails."""
    command = [sys.executable, "-m", "dedup_spark", "inventory", "--lake", lake, "--tables", str(tables)]
    begin = time.monotonic()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"listing: {' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - begin


def find_seconds(root: Path) -> float:
    """`find` with the facts that a listing keeps of a file: path, size, times and device."""
    begin = time.monotonic()
    with subprocess.Popen(["find", str(root), "-type", "f", "-printf", "%p %s %T@ %C@ %D %i\n"],
                          stdout=subprocess.DEVNULL) as found:  # fmt: skip
        code = found.wait()
    if code:
        raise SystemExit(f"listing: find {root} failed")
    return time.monotonic() - begin


def paginator_seconds(environment: dict[str, str], n: int) -> float:
    """The pages of the whole lake, each asked for when the one before is there."""
    client = boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name="us-east-1", aws_access_key_id="x",
        aws_secret_access_key="x",
    )  # fmt: skip
    begin = time.monotonic()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/")
    n_keys = sum(len(page.get("Contents", [])) for page in pages)
    if n_keys != n:
        raise SystemExit(f"listing: boto3 was given {n_keys} keys of {n}")
    return time.monotonic() - begin


def n_listed(tables: Path) -> int:
    """Images in the tables."""
    return int(DeltaTable(str(tables / "images")).to_pyarrow_dataset().count_rows())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=1_000_000)
    parser.add_argument("--delay-ms", type=float, default=30.0, help="of each answer of the store")
    parser.add_argument("--skip", choices=["disk", "store"], action="append", default=[])
    parser.add_argument("--quick", action="store_true", help="2,000 folders")
    parser.add_argument("--scratch", type=Path, help="folder for the lake and the tables (default: a temporary one)")
    asked = parser.parse_args()
    n = 2_000 if asked.quick else asked.folders
    print(f"{n:,} folders with one file each; {asked.delay_ms:g} ms for an answer of the store; {describe_machine()}\n")
    table = Table(("lake", "requests", "keys a request", "first s", "again s", "beside it", "its s"))
    figures: dict[str, Any] = {"folders": n, "delay_ms": asked.delay_ms}
    scratch = Path(tempfile.mkdtemp(prefix="listing-", dir=asked.scratch))
    try:
        if "disk" not in asked.skip:
            _measure_disk(n, scratch, table, figures)
        if "store" not in asked.skip:
            _measure_store(n, asked.delay_ms / 1000, scratch, table, figures)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    table.show()
    print_json(figures)


def _measure_disk(n: int, scratch: Path, table: Table, figures: dict[str, Any]) -> None:
    lake, tables = scratch / "lake", scratch / "tables-disk"
    make_folders(lake, n)
    find_seconds(lake)  # both sides find the folders in the memory of the system
    beside = find_seconds(lake)
    first, again = (inventory_seconds(str(lake), tables, {}) for _ in range(2))
    _require(n_listed(tables), n)
    table.add("disk", "-", "-", first, again, "find", beside)
    figures |= {"disk_first_s": first, "disk_again_s": again, "find_s": beside}


def _measure_store(n: int, delay_seconds: float, scratch: Path, table: Table, figures: dict[str, Any]) -> None:
    tables = scratch / "tables-store"
    with running_store(n, delay_seconds) as (environment, n_requests):
        beside = paginator_seconds(environment, n)
        before = n_requests.value
        first = inventory_seconds(f"s3://{BUCKET}/{PREFIX}", tables, environment)
        asked_for = n_requests.value - before
        again = inventory_seconds(f"s3://{BUCKET}/{PREFIX}", tables, environment)
    _require(n_listed(tables), n)
    table.add("store", asked_for, n / asked_for, first, again, "boto3, a page at a time", beside)
    figures |= {"store_first_s": first, "store_again_s": again, "requests": asked_for, "paginator_s": beside}


def _require(n_found: int, n: int) -> None:
    if n_found != n:
        raise SystemExit(f"listing: {n_found} images of {n} are in the tables")


if __name__ == "__main__":
    main()
