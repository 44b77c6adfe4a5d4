"""A stand-in for Kubernetes' API server: it keeps what a client makes, and ends each pod at once."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import yaml

Resource = dict[str, Any]
Ended = Callable[[Resource], int]
"""What a pod's container does; returns its exit code."""


@dataclass
class Api:
    """What was made so far, by kind; `address` is what `k8s://` is put before."""

    run: Ended
    address: str = ""
    made: list[Resource] = field(default_factory=list)

    def of(self, kind: str) -> list[Resource]:
        """Those of a kind, in the order in which they were made; what was applied again replaces the former."""
        found = {r["metadata"]["name"]: r for r in self.made if r["kind"] == kind}
        return list(found.values())

    def make(self, resource: Resource) -> Resource:
        """Keep a resource, as the server completes it; a pod has ended when this returns."""
        about = resource.setdefault("metadata", {})
        about |= {"uid": f"uid-{len(self.made)}", "resourceVersion": str(len(self.made) + 1), "namespace": "default"}
        if resource["kind"] == "Pod":
            resource["status"] = _status(resource, self.run(resource))
        self.made.append(resource)
        return resource


def _status(pod: Resource, code: int) -> Resource:
    ended = {"exitCode": code, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}
    container = pod["spec"]["containers"][0]
    about = {"name": container["name"], "image": container["image"], "imageID": "", "ready": False, "restartCount": 0}
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [about | {"state": {"terminated": ended}}],
    }


@contextlib.contextmanager
def started(run: Ended) -> Iterator[Api]:
    """The server while the block lasts."""
    api = Api(run)
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    api.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    api: Api

    def do_POST(self) -> None:  # create
        self._answer(201, self.api.make(self._body()))

    def do_PATCH(self) -> None:  # server-side apply
        self._answer(200, self.api.make(self._body()))

    def do_GET(self) -> None:
        """A resource by its name. A watch ends after the last pod: the client falls back to this from WebSocket."""
        place = urlsplit(self.path)
        if "watch=true" in place.query:
            self._answer(200, {"type": "MODIFIED", "object": self.api.of("Pod")[-1]})
            return
        name = place.path.rpartition("/")[2]
        found = [r for r in self.api.made if r["metadata"]["name"] == name]
        self._answer(200 if found else 404, found[-1] if found else _status_of_absent(name))

    def _body(self) -> Resource:
        return yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, code: int, resource: Resource) -> None:
        text = json.dumps(resource).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """What is asked is in `made`."""


def _status_of_absent(name: str) -> Resource:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "code": 404,
        "message": name,
    }
