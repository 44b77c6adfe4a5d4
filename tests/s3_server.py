"""Runs an S3 server on loopback for tests: moto in a process of its own, behind a proxy that can inject faults."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import boto3
import fsspec
import pytest
from pyspark.sql import SparkSession

from dedup_spark.sources import addresses

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
_ERROR_CODES = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown", 500: "InternalError"}


@dataclass
class Fault:
    """A fault for the next `times` requests of this method whose path and query contain `text`.

    `status` answers with an S3 error, with `code` where that is not the usual one, and with `body` instead of the usual
    page; `delay_seconds` waits first; `cut` breaks the connection in the middle of the answer. The fault applies to a
    `share` of the requests, drawn by `seed`, and only to those with `token`.
    """

    text: str
    status: int | None = None
    times: int = 1
    method: str = "GET"
    delay_seconds: float = 0.0
    cut: bool = False
    body: bytes | None = None
    code: str | None = None
    share: float = 1.0
    seed: int = 0
    token: str | None = None

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def applies_to(self, method: str, path: str, token: str | None) -> bool:
        is_meant = self.times > 0 and self.method == method and self.text in path and self.token in (None, token)
        return is_meant and (self.share >= 1 or self._rng.random() < self.share)


@dataclass
class S3Server:
    """`endpoint` is the proxy; `requests` are (method, path and query) in order of arrival.

    `etags`, by `/bucket/key`, are what the store says in place of the MD5 sums of moto, as a store that encrypts.
    """

    endpoint: str
    etags: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the server through fsspec."""
        return {"FSSPEC_S3_ENDPOINT_URL": self.endpoint, **CREDENTIALS}

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        client = self.client
        client.create_bucket(Bucket=bucket)
        for key, data in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=data)

    def n_requests(self, method: str, text: str) -> int:
        return sum(m == method and text in path for m, path in self.requests)

    def fault_for(self, method: str, path: str, token: str | None = None) -> Fault | None:
        """The fault that applies to this request, if any; its count is reduced by one."""
        for fault in self.faults:
            if fault.applies_to(method, path, token):
                fault.times -= 1
                return fault
        return None


@contextmanager
def running_s3_server(log: Path) -> Iterator[S3Server]:
    """Starts moto and the proxy; both end with the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free, log.open("w") as output:
        moto_port = free.server_address[1]
        free.server_close()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(moto_port)]
        moto = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **CREDENTIALS})
        try:
            _wait_for(moto_port)
            with _running_proxy(moto_port) as server:
                yield server
        finally:
            moto.terminate()
            moto.wait(10)


@contextmanager
def s3_of_this_process(log: Path) -> Iterator[S3Server]:
    """The server, set as the S3 endpoint of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as patch, running_s3_server(log) as s3:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": s3.endpoint})  # fsspec was imported before
        forget_filesystems()
        yield s3
    forget_filesystems()


def forget_filesystems() -> None:
    """Whoever opens a store next finds its endpoint anew: what this process keeps may be of a server that has ended."""
    addresses.open_for_reading.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@contextmanager
def s3_of_workers(spark: SparkSession, environment: dict[str, str]) -> Iterator[None]:
    """Python workers of the session find the server; on a cluster this is spark.executorEnv.*"""
    before = dict(spark.sparkContext.environment)
    spark.sparkContext.environment.update(environment)
    yield
    spark.sparkContext.environment.clear()
    spark.sparkContext.environment.update(before)


@contextmanager
def _running_proxy(moto_port: int) -> Iterator[S3Server]:
    server = S3Server("")

    class Handler(_Proxy):
        s3, port = server, moto_port

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    server.endpoint = f"http://127.0.0.1:{proxy.server_address[1]}"
    Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        proxy.shutdown()
        proxy.server_close()


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: S3Server
    port: int

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path)
        self.s3.requests.append((self.command, path))
        fault = self.s3.fault_for(self.command, path, self.headers.get("X-Amz-Security-Token"))
        if fault:
            time.sleep(fault.delay_seconds)
        if fault and fault.status:
            code = fault.code or _ERROR_CODES[fault.status]
            self._send(
                fault.status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode()
            )
            return
        if fault and fault.body is not None:
            self._send(200, {"Content-Type": "application/xml"}, fault.body)
            return
        own_etag = self.s3.etags.get(path.partition("?")[0])
        asked = dict(self.headers)
        if own_etag and asked.pop("If-Match", f'"{own_etag}"') != f'"{own_etag}"':
            self._send(412, {"Content-Type": "application/xml"}, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        moto = http.client.HTTPConnection("127.0.0.1", self.port)
        moto.request(self.command, self.path, body, asked)
        response = moto.getresponse()
        data, headers = response.read(), dict(response.getheaders())
        moto.close()
        if own_etag:
            headers = {**{k: v for k, v in headers.items() if k.lower() != "etag"}, "ETag": f'"{own_etag}"'}
        self._send(response.status, headers, data, cut=bool(fault and fault.cut))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def _send(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # a client that has lost patience
                self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: tests use `requests` instead."""


def _wait_for(port: int, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json") as answer:
                json.load(answer)
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
