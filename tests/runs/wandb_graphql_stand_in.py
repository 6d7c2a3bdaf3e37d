"""A stand-in of W&B's GraphQL API on the loopback: as much of it as saved views and reports need.

It keeps views as W&B keeps them, by id, each of one type ('project-view' for a workspace, 'runs' for a report) in a
project of an account. What it is told to do wrong (`faults`), it does to the next requests, one each.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

ENTITY = "somebody"
KEY = "5ec2e7" * 6 + "abcd"  # the only key that it accepts; W&B's have forty digits as well

# An HTTP status; a connection that ends in the middle of the answer; one that stays open and silent; an answer of
# GraphQL's that says what is wrong.
Fault = int | Literal["drop", "hang", "refuse"]


class GraphQLStandIn:
    """Listens from `with` on, at `url`.

    Attributes:
        projects: names of those that `ENTITY` has.
        views: by id; of each its name, displayName, type, project and spec.
        asked: the name of every operation that was answered, in order.
        faults: what goes wrong with the next requests.
        says: what it says of an HTTP status among them.
        page: how many views are told at a time.
    """

    def __init__(self) -> None:
        self.projects = ["gradflow"]
        self.views: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.faults: list[Fault] = []
        self.says = "not now"
        self.page = 2
        self._quiet = threading.Event()

    def __enter__(self) -> GraphQLStandIn:
        kept = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
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

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        return [view for view in self.views.values() if view["type"] == type_]

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        fault = self.faults.pop(0) if self.faults else None
        if fault == "hang":
            self._quiet.wait()
        if fault in ("hang", "drop"):
            linger = struct.pack("ii", 1, 0)  # the connection is reset, not closed
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.close_connection = True
            request.connection.close()
            return
        if request.headers.get("Authorization") != "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode():
            _say(request, 401, {"errors": [{"message": "user is not logged in"}]})
        elif isinstance(fault, int):
            _say(request, fault, {"errors": [{"message": self.says}]})
        elif fault == "refuse":
            _say(request, 200, {"data": None, "errors": [{"message": "permission denied", "path": ["upsertView"]}]})
        else:
            name = re.match(r"\s*(?:query|mutation)\s+(\w+)", asked["query"])
            assert name is not None, asked["query"]
            self.asked.append(name[1])
            _say(request, 200, {"data": self._data(name[1], asked.get("variables") or {})})

    def _data(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        if operation.lower() == "projectinternalid":
            known = values["entityName"] == ENTITY and values["projectName"] in self.projects
            number = self.projects.index(values["projectName"]) + 7 if known else None
            return {"project": {"id": f"project-{number}", "internalId": str(number)} if known else None}
        if operation.lower().startswith("upsertview"):
            return {"upsertView": self._upsert(values)}
        if operation == "Views":
            return {"project": {"allViews": self._list(values)} if values["project"] in self.projects else None}
        viewer = {"id": "v", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": None, "admin": False}
        return {"viewer": {**viewer, "deletedAt": None, "apiKeys": None, "teams": None, "flags": "{}"}}

    def _upsert(self, values: dict[str, Any]) -> dict[str, Any]:
        known = values.get("id")
        assert known is None or known in self.views, "an id that was never given"
        id_ = known or base64.b64encode(f"View:{len(self.views) + 1}".encode()).decode()
        names = ("name", "displayName", "description", "type")
        spec = json.loads(values["spec"])
        self.views[id_] = {**{n: values[n] for n in names}, "project": values["projectName"], "spec": spec}
        project = {"id": "p", "name": values["projectName"], "entityName": values["entityName"]}
        view = {"id": id_, **{n: values[n] for n in names}, "project": project, "spec": values["spec"]}
        return {"view": {**view, "updatedAt": "2026-11-25T00:00:00Z"}, "inserted": known is None}

    def _list(self, values: dict[str, Any]) -> dict[str, Any]:
        here = [
            {"id": id_, "name": view["name"], "displayName": view["displayName"]}
            for id_, view in self.views.items()
            if (view["type"], view["project"]) == (values["type"], values["project"])
        ]
        first = int(values["after"] or 0)
        last = min(first + self.page, len(here))
        edges = [{"node": node} for node in here[first:last]]
        return {"edges": edges, "pageInfo": {"endCursor": str(last), "hasNextPage": last < len(here)}}


def _say(request: BaseHTTPRequestHandler, code: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    request.send_response(code)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
