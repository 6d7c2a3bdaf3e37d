"""A stand-in of W&B's server on the loopback: as much of its API as wandb 0.31 speaks to log a run, to upload one by
`wandb sync`, and to read runs by `wandb.Api`.

It keeps what it is sent as W&B keeps it: a run's history is a list of lines, and what comes for an offset takes the
place of all from there on.
"""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

ENTITY = "somebody"


@dataclass
class Kept:
    """One W&B run.

    Attributes:
        project: where it was put.
        history: its rows, in the order in which they are kept.
        exit_code: of its latest attempt, once that was told.
        config: key → {"value": …}.
        files: names of those that were uploaded.
    """

    project: str
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    title: str | None = None
    files: list[str] = field(default_factory=list)


class StandIn:
    """Listens from `with` on, at `url`. `refuses` makes it answer every request with an error.

    Attributes:
        runs: by id.
        requests: how many there were.
        fault: what goes wrong with every request while it is set: an HTTP status, a connection that is closed without
            an answer, or one that stays open and silent.
        faults: how many requests it went wrong with.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Kept] = {}
        self.requests = 0
        self.refuses = False
        self.fault: int | Literal["drop", "hang"] | None = None
        self.faults = 0
        self._quiet = threading.Event()

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
        self._quiet.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        content = _content(request)
        answer: dict[str, Any]
        if self.fault is not None:
            self.faults += 1
        if self.fault in ("drop", "hang"):
            if self.fault == "hang":
                self._quiet.wait(60)
            request.close_connection = True
            request.connection.close()
            return
        if isinstance(self.fault, int):
            answer, code = {"error": "not now"}, self.fault
        elif self.refuses:
            answer, code = {"error": "not now"}, 400
        elif request.path.endswith("/graphql"):
            asked = json.loads(content)
            answer, code = {"data": self._data(asked["query"], asked.get("variables") or {})}, 200
        else:
            if request.path.endswith("/file_stream"):
                self._stream(self.runs[request.path.split("/")[-2]], json.loads(content))
            elif "/upload/" in request.path:
                _, _, place = request.path.partition("/upload/")
                run, _, name = place.partition("/")
                self.runs[run].files.append(name)
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
        summary = (sent.get("files") or {}).get("wandb-summary.json")
        if summary is not None:
            run.summary = json.loads(summary["content"][-1])
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    def _data(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": values.get("project"), "entity": {"id": "e", "name": ENTITY}}
        if "upsertBucket" in query:
            run = self.runs.setdefault(values["name"], Kept(values["project"]))
            run.config |= json.loads(values.get("config") or "{}")
            run.group, run.title = values.get("groupName") or run.group, values.get("displayName") or run.title
            bucket = {"id": "b", "name": values["name"], "displayName": values["name"], "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "config": "{}", "historyLineCount": 0}, "inserted": True}}
        if "createRunFiles" in query:
            place = f"{self.url}/upload/{values['run']}"
            files = [{"name": name, "uploadUrl": f"{place}/{name}"} for name in values["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "RunResumeStatus" in query:
            return {"model": {**project, "bucket": self._resumed(values["name"])}}
        if "Runs(" in query:
            wanted = json.loads(values.get("filters") or "{}")
            found = [name for name, run in self.runs.items() if run.project == values["project"] and _fits(run, wanted)]
            edges = [{"node": self._told(name), "cursor": name} for name in found]
            page = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
            if not any(run.project == values["project"] for run in self.runs.values()):
                return {"project": None}
            return {"project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": page}}
        if "parquetHistory" in query:  # of a run that has ended lately, all of it is 'live'
            live = [{"_step": row["_step"]} for row in self.runs[values["runName"]].history]
            return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}
        if "HistoryPage" in query:
            rows = [r for r in self.runs[values["run"]].history if values["minStep"] <= r["_step"] < values["maxStep"]]
            return {"project": {"run": {"history": [json.dumps(row) for row in rows]}}}
        if "RunFragment" in query or "historyKeys" in query:
            return {"project": {"internalId": "1", "run": self._told(values["name"])}}
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

    def _told(self, name: str) -> dict[str, Any] | None:
        """A run as `wandb.Api` is told of it."""
        if name not in self.runs:
            return None
        run = self.runs[name]
        last = max((row["_step"] for row in run.history), default=-1)
        return {
            **{"id": f"id-{name}", "projectId": "1", "name": name, "displayName": run.title, "group": run.group},
            "state": {0: "finished", None: "running"}.get(run.exit_code, "failed"),
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
            "historyLineCount": len(run.history),
            "historyKeys": {"lastStep": last, "keys": {}},
            "user": {"name": ENTITY, "username": ENTITY},
            **{"tags": [], "sweepName": None, "jobType": None, "commit": None, "readOnly": False, "notes": None},
            **{"createdAt": "2026-01-01T00:00:00Z", "heartbeatAt": "2026-01-01T00:00:00Z", "description": None},
        }


def _fits(run: Kept, wanted: dict[str, Any]) -> bool:
    """As much of W&B's filters as equality."""
    values = {f"config.{name}.value": each.get("value") for name, each in run.config.items() if isinstance(each, dict)}
    return all({"group": run.group, **values}.get(name) == value for name, value in wanted.items())


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
