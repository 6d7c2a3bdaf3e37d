"""A stand-in of W&B's server on the loopback: as much of its API as `wandb sync` 0.31 speaks to upload a run.

It keeps what it is sent as W&B keeps it: a run's history is a list of lines, and what comes for an offset takes the
place of all from there on.
"""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"


@dataclass
class Kept:
    """One W&B run.

    Attributes:
        project: where it was put.
        history: its rows, in the order in which they are kept.
        exit_code: of its latest attempt, once that was told.
    """

    project: str
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


class StandIn:
    """Listens from `with` on, at `url`. `refuses` makes it answer every request with an error.

    Attributes:
        runs: by id.
        requests: how many there were.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Kept] = {}
        self.requests = 0
        self.refuses = False

    def __enter__(self) -> StandIn:
        kept = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                kept._answer(self)

            def do_PUT(self) -> None:
                kept._answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that goes away is none of the test's business
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        content = _content(request)
        if self.refuses:
            answer, code = {"error": "not now"}, 400
        elif request.path.endswith("/graphql"):
            asked = json.loads(content)
            answer, code = {"data": self._data(asked["query"], asked.get("variables") or {})}, 200
        else:
            if request.path.endswith("/file_stream"):
                self._stream(self.runs[request.path.split("/")[-2]], json.loads(content))
            answer, code = {}, 200
        body = json.dumps(answer).encode()
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _stream(self, run: Kept, sent: dict[str, Any]) -> None:
        history = (sent.get("files") or {}).get("wandb-history.jsonl")
        if history is not None:
            run.history[history["offset"] :] = [json.loads(line) for line in history["content"]]
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    def _data(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": values.get("project"), "entity": {"id": "e", "name": ENTITY}}
        if "upsertBucket" in query:
            self.runs.setdefault(values["name"], Kept(values["project"]))
            bucket = {"id": "b", "name": values["name"], "displayName": values["name"], "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "config": "{}", "historyLineCount": 0}, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in values["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "RunResumeStatus" in query:
            return {"model": {**project, "bucket": self._resumed(values["name"])}}
        if "viewer" in query:
            return {"viewer": {"id": "v", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}
        return {}

    def _resumed(self, name: str) -> dict[str, Any] | None:
        if name not in self.runs:
            return None
        history = self.runs[name].history
        tail = json.dumps([json.dumps(row) for row in history[-1:]])
        counts = {"historyLineCount": len(history), "eventsLineCount": 0, "logLineCount": 0}
        said = {"config": "{}", "summaryMetrics": "{}", "historyTail": tail, "eventsTail": "[]", "tags": []}
        return {"id": "b", "name": name, "displayName": name, **counts, **said, "wandbConfig": '{"t": 1}'}


def _content(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") == "chunked":
        content = b""
        while length := int(request.rfile.readline(), 16):
            content += request.rfile.read(length)
            request.rfile.readline()
        request.rfile.readline()
    else:
        content = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    return gzip.decompress(content) if request.headers.get("Content-Encoding") == "gzip" else content
