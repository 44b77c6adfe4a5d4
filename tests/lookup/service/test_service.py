"""The service on loopback, by plain HTTP: what it answers, what it refuses, and that it outlives hostile clients."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lookups
import pytest
from starlette.requests import Request
from starlette.responses import Response

from dedup_spark.errors import ConfigError
from dedup_spark.lookup.service.app import _guarded
from dedup_spark.lookup.service.metrics import Metrics
from dedup_spark.lookup.service.settings import TOKEN, ServiceSettings
from dedup_spark.lookup.service.work import Work
from lookup.conftest import CAT, COFFEE, ROCKET, images_of_lake

SECONDS_TO_OPEN = 300


@dataclass(frozen=True)
class Service:
    """A running `dedup-spark serve`."""

    port: int
    folder: Path
    pid: int

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body (of JSON the value) and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            data = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()
        is_json = found.get("content-type", "").startswith("application/json")
        return response.status, json.loads(data) if is_json else data, found

    def look(self, data: bytes, query: str = "") -> dict[str, Any]:
        status, body, _ = self.ask("POST", f"/v1/lookup{query}", data)
        assert status == 200, body
        found: dict[str, Any] = body["answers"][0]
        return found

    @property
    def memory_bytes(self) -> int:
        words = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
    return port


def started(tables: Path, folder: Path, *options: str, **environment: str) -> Iterator[Service]:
    port = free_port()
    command = [sys.executable, "-m", "dedup_spark", "serve", "--tables", str(tables), "--port", str(port)]
    command += ["--cache", str(folder / "cache"), "--state", str(folder / "state"), *options]
    env = os.environ | {"JAVA_HOME": "/nonexistent", "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    with (folder / "service.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    service = Service(port, folder, process.pid)
    try:
        _wait_until_ready(service, process)
        yield service
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(service: Service, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_OPEN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if service.ask("GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError((service.folder / "service.log").read_text()[-3000:])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    lookups.finish_run(folder / "tables", images_of_lake())
    return folder


@pytest.fixture(scope="module")
def service(lake: Path) -> Iterator[Service]:
    (lake / "uploads").mkdir()
    bounds = ("--max-upload-mib", "2", "--reload-seconds", "0.5")
    yield from started(lake / "tables", lake, "--allow", str(lake / "uploads"), *bounds)


def form(*files: bytes, **fields: str) -> tuple[bytes, dict[str, str]]:
    parts = [f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    parts += [head + data + b"\r\n" for data in files]
    return b"".join(parts) + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def test_an_image_comes_as_body_as_form_and_by_its_address(service: Service, lake: Path) -> None:
    data = lookups.edited(lookups.photo("rocket.jpg"))
    (lake / "uploads" / "a.jpg").write_bytes(data)
    body, headers = form(data, images_of_lake()[CAT])
    answers = [
        service.look(data),
        service.ask("POST", "/v1/lookup", body, headers)[1]["answers"][0],
        service.ask("POST", "/v1/lookup", json.dumps({"uri": str(lake / "uploads/a.jpg")}).encode(), _JSON)[1][
            "answers"
        ][0],
    ]
    for answer in answers:
        assert [found["uri"] for found in answer["copies"]] == [ROCKET]
        assert answer["copies"][0]["relation"] in ("edited_copy", "contained")
        assert answer["index"]["run_id"] in ("r1", "r2")
    assert service.ask("POST", "/v1/lookup", body, headers)[1]["answers"][1]["copies"][0]["relation"] == "same_bytes"


_JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "address",
    ["/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "{allowed}/../tables/x.jpg",
     "{allowed}/link.jpg", "{allowed}", "{allowed}evil/a.jpg", "s3://bucket/a.jpg", "ftp://host/a"],
)  # fmt: skip
def test_no_address_outside_the_prefixes_is_fetched(service: Service, lake: Path, address: str) -> None:
    link = lake / "uploads" / "link.jpg"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    uri = address.format(allowed=lake / "uploads")
    status, body, _ = service.ask("POST", "/v1/lookup", json.dumps({"uri": uri}).encode(), _JSON)
    assert status == 403, body
    assert "prefix" in body["error"]


def test_a_bad_image_is_an_answer_with_its_reason(service: Service) -> None:
    answer = service.look(images_of_lake()[CAT][:300])
    assert (answer["outcome"], answer["reason"]) == ("rejected", "truncated")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"x" * (3 << 20), {}, 413),
        (b"{", _JSON, 400),
        (b"[" * 5000, _JSON, 400),
        (b'{"uri": 5}', _JSON, 400),
        (b"--y", {"Content-Type": "multipart/form-data"}, 400),
        (b"garbage", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        form(*[b"a"] * 40)[::1] + (400,),
    ],
)
def test_a_request_that_is_not_as_described_is_refused_in_a_sentence(
    service: Service, body: bytes, headers: dict[str, str], status: int
) -> None:
    found, said, _ = service.ask("POST", "/v1/lookup", body, headers)
    assert found == status
    assert said["error"]


def test_a_body_that_never_ends_is_cut_off(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as s:
        s.sendall(b"POST /v1/lookup HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        sent = 0
        try:
            while sent < 200 << 20:
                s.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert sent < 100 << 20


def test_bodies_that_come_slowly_hold_no_more_memory_than_all_may(service: Service) -> None:
    """Sixteen uploads of 2 MiB are what this service holds; whoever comes then is told to come again."""
    head = f"POST /v1/lookup HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {2 << 20}\r\n\r\n".encode()
    slow = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(17)]
    try:
        for s in slow:
            s.sendall(head + b"x" * (2_000_000))
        deadline, status, headers = time.monotonic() + 25, 200, {}  # bodies may take 30 s
        while status == 200 and time.monotonic() < deadline:
            status, _, headers = service.ask("POST", "/v1/lookup", b"x" * 1_900_000)
        assert (status, headers["retry-after"]) == (503, "1")
    finally:
        for s in slow:
            s.close()
    deadline = time.monotonic() + 15
    while status != 200 and time.monotonic() < deadline:
        status = service.ask("POST", "/v1/lookup", images_of_lake()[CAT])[0]
    assert status == 200


def test_a_form_is_whole_and_in_utf_8(service: Service) -> None:
    body, _ = form(images_of_lake()[CAT], images_of_lake()[COFFEE])
    for n in (3, 10, 20_000):
        assert service.ask("POST", "/v1/lookup", body[:-n], _FORM)[0] == 400
    codec = {"Content-Type": f"{_FORM['Content-Type']}; charset=unicode_escape"}
    assert service.ask("POST", "/v1/images", form(b"x", uri="file:///lake/\\ud800.jpg")[0], codec)[0] == 400
    assert service.ask("POST", "/v1/lookup", body.removesuffix(b"\r\n"), _FORM)[0] == 200


_FORM = form()[1]


def test_pages_of_others_cannot_ask(service: Service) -> None:
    assert service.ask("GET", "/v1/index", headers={"Host": "evil.example"})[0] == 403
    assert service.ask("POST", "/v1/images?uri=x", b"x", {"Origin": "http://evil.example"})[0] == 403
    for host in ("evil.example:99999", "evil.example/livez?", "127.0.0.1@evil.example", "127.0.0.1, evil.example", ""):
        assert service.ask("GET", "/v1/index", headers={"Host": host})[0] in (400, 403)
    own = {"Origin": f"http://127.0.0.1:{service.port}"}
    assert service.ask("POST", "/v1/lookup", images_of_lake()[CAT], own)[0] == 200


def test_an_image_is_added_and_found_at_once(service: Service, lake: Path) -> None:
    data = lookups.jpeg(lookups.photo("coins.png"))
    body, headers = form(data, uri=str(lake / "uploads" / "coins.jpg"))
    status, said, _ = service.ask("POST", "/v1/images", body, headers)
    assert (status, said["added"]) == (201, True)
    [found] = service.look(lookups.edited(lookups.photo("coins.png")))["copies"]
    assert found["is_added"]
    assert found["uri"].endswith("/uploads/coins.jpg")
    assert service.ask("POST", "/v1/images?uri=/etc/passwd", data)[0] == 403
    assert service.ask("POST", f"/v1/images?uri={lake}/uploads/x.jpg", b"no image")[0] == 422
    assert service.ask("POST", "/v1/images", data)[0] == 400
    for status in (200, 404):
        assert service.ask("DELETE", f"/v1/images?uri={lake}/uploads/coins.jpg")[0] == status
    assert service.look(data)["copies"] == []


def test_an_image_or_a_hash_is_listed_and_matches_nothing_from_then_on(service: Service) -> None:
    logo = lookups.jpeg(lookups.photo("rocket.jpg").rotate(90, expand=True))
    assert service.look(logo)["outcome"] != "never_match"
    status, body, _ = service.ask("POST", "/v1/never-match?reason=our+logo", logo)
    assert (status, body) == (201, {"listed": True})
    answer = service.look(logo)
    assert (answer["outcome"], answer["reason"]) == ("never_match", "our logo")
    assert service.ask("POST", f"/v1/never-match?content_hash={'0a' * 32}")[0] == 201
    for query, data, why in (
        ("?phash=12", None, "expected one of content_hash, pixel_hash, phash in hex"),
        (f"?phash={'0' * 16}&max_bits=9", None, "max_bits is of a pHash, and between 0 and 3"),
        (f"?phash={'0' * 16}&max_bits=-1", None, "expected max_bits as a number"),
        ("", None, "expected an image"),
    ):
        status, body, _ = service.ask("POST", f"/v1/never-match{query}", data)
        assert (status, why in body["error"]) == (400, True), body
    assert service.ask("POST", "/v1/never-match", b"GIF89a no picture")[0] == 201  # by its bytes
    assert service.look(b"GIF89a no picture")["outcome"] == "never_match"
    missing = json.dumps({"uri": "file:///etc/passwd"}).encode()
    assert service.ask("POST", "/v1/never-match", missing, {"Content-Type": "application/json"})[0] == 403


def test_an_image_is_described_and_shown(service: Service) -> None:
    [first, *_] = service.look(images_of_lake()[COFFEE])["copies"]
    status, facts, _ = service.ask("GET", f"/v1/images/{first['image_id']}")
    assert (status, facts["uri"], facts["image_id"]) == (200, first["uri"], first["image_id"])
    status, jpeg, headers = service.ask("GET", f"/v1/images/{first['image_id']}/thumbnail")
    assert (status, jpeg[:2], headers["content-type"]) == (200, b"\xff\xd8", "image/jpeg")
    assert service.ask("GET", "/v1/images/999")[0] == service.ask("GET", "/v1/images/x")[0] == 404


def test_metrics_and_the_document_say_what_there_is(service: Service) -> None:
    service.look(images_of_lake()[CAT])
    text = service.ask("GET", "/metrics")[1].decode()
    assert 'dedup_spark_lookup_images_total{outcome="copies"}' in text
    assert "dedup_spark_lookup_index_age_seconds" in text
    document = service.ask("GET", "/openapi.json")[1]
    properties = document["components"]["schemas"]["Answer"]["properties"]
    assert set(properties) == set(service.look(images_of_lake()[CAT]))
    for path in document["paths"]:
        method = "POST" if "post" in document["paths"][path] else "GET"
        assert service.ask(method, path.replace("{image_id}", "5"))[0] != 405
    refusals = {path: set(one["responses"]) for path, asked in document["paths"].items() for one in asked.values()}
    assert all("403" in found and "401" not in found for found in refusals.values()), "there is no token here"


def test_the_page_loads_nothing_from_elsewhere(service: Service) -> None:
    status, page, headers = service.ask("GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"http" not in page.replace(b"https://", b"http://").split(b"<body>")[0]
    assert service.ask("GET", "/page.js")[2]["content-type"].startswith("text/javascript")
    assert service.ask("GET", "/page.css")[0] == 200


def test_with_a_token_only_those_who_bring_it_are_answered(lake: Path, tmp_path: Path) -> None:
    for service in started(lake / "tables", tmp_path, **{TOKEN: "a long secret"}):
        assert service.ask("GET", "/livez")[0] == service.ask("GET", "/")[0] == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic a long secret"}):
            assert service.ask("GET", "/v1/index", headers=headers)[0] == 401
            assert service.ask("POST", "/v1/lookup", images_of_lake()[CAT], headers)[0] == 401
        for host in ("x/livez?", "127.0.0.1/livez?", "127.0.0.1/livez#"):
            assert service.ask("GET", "/v1/index", headers={"Host": host})[0] in (400, 401, 403)
        assert service.ask("GET", "/v1/index", headers={"Authorization": "Bearer a long secret"})[0] == 200
        asked = {path: one.get("get") for path, one in service.ask("GET", "/openapi.json")[1]["paths"].items()}
        assert asked["/livez"]["security"] == []
        assert "401" not in asked["/livez"]["responses"]
        assert "401" in asked["/v1/index"]["responses"]


def test_others_than_this_machine_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(ConfigError, match=TOKEN):
        ServiceSettings.of("0.0.0.0", 1, [])
    assert ServiceSettings.of("127.0.0.1", 1, ["/a/b/"]).prefixes == ("file:///a/b/",)
    monkeypatch.setenv(TOKEN, "secret")
    assert ServiceSettings.of("0.0.0.0", 1, []).hosts == ()


def test_what_fails_within_is_an_answer_in_json_and_counted() -> None:
    async def fails(request: Request, work: Work) -> Response:
        raise OSError(28, "No space left on device")

    work: Any = SimpleNamespace(settings=ServiceSettings(), metrics=Metrics())
    request = Request({"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"localhost:1")]})
    response = asyncio.run(_guarded(fails, work, "/x", is_open=False)(request))
    assert response.status_code == 500
    assert "OSError" in json.loads(response.body)["error"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert 'requests_total{path="/x",status="500"} 1' in work.metrics.text(None)
