"""The live page over HTTP, on this machine alone: it reads records and changes nothing.

    GET /            the page
    GET /boot        what it needs at once, asked for every other second
    GET /part/NAME   the rest, when it is needed

and HEAD; other methods are not implemented.

Whoever can reach the port on this machine can read the page. A web site that a person has open in another tab cannot:
a request for another host's name, by which DNS rebinding would reach it, is refused, and no other origin is allowed.
"""

from __future__ import annotations

import errno
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gradflow.errors import ConfigError
from gradflow.results.page.document import PLOTLY
from gradflow.results.page.live import Live
from gradflow.results.page.pack import stamp, zipped

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # by which a browser may call it; the port may be another, behind an ssh tunnel
PORT = 8765
IDLE = 30.0  # seconds after which a connection on which nothing is asked is closed
JSON, HTML, SCRIPT = "application/json", "text/html; charset=utf-8", "text/javascript; charset=utf-8"


class Server(ThreadingHTTPServer):
    """Serves a folder's page until `shutdown`.

    Args:
        port: 0 for one that the system chooses.

    Raises:
        ConfigError: if the folder holds no runs, or the port cannot be had.
    """

    daemon_threads = True  # a browser's open connection keeps nobody from leaving

    def __init__(self, folder: Path, port: int = PORT) -> None:
        self.live = Live(folder)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ConfigError(f"--port {port}: {_why(error)}; give another, or 0 for any that is free") from None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error; anything else is told with its traceback."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _why(error: OSError) -> str:
    taken = {errno.EADDRINUSE: "another program has it", errno.EACCES: "the system keeps it for root"}
    return taken.get(error.errno or 0, error.strerror or str(error))


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gradflow", ""
    timeout = IDLE

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page that asks every other second would fill the terminal."""

    def _answer(self, with_body: bool) -> None:
        if not _is_ours(self.headers.get("Host")):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"not the name of this server\n", with_body=with_body)
            return
        found = self._find(urlsplit(self.path).path)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, b"no such page\n", with_body=with_body)
            return
        tag, kind, content = found
        if _matches(self.headers.get("If-None-Match"), tag):
            self._send(HTTPStatus.NOT_MODIFIED, b"", more={"ETag": f'W/"{tag}"'}, with_body=False)
            return
        more = {"ETag": f'W/"{tag}"', "Vary": "Accept-Encoding"}
        if _takes_gzip(self.headers.get("Accept-Encoding")):
            content = zipped(content)
            more["Content-Encoding"] = "gzip"
        self._send(HTTPStatus.OK, content, kind, more, with_body)

    def _find(self, path: str) -> tuple[str, str, bytes] | None:
        """(stamp, content type, content): three kinds of addresses, and no file is opened by its name."""
        live = self.server.live
        if path == "/":
            page = live.page()
            return stamp(page), HTML, page
        if path == "/boot":
            boot = live.boot()
            return stamp(boot), JSON, boot
        if path.startswith("/part/"):
            name = unquote(path.removeprefix("/part/"))
            part = live.part(name)
            return None if part is None else (part[0], SCRIPT if name == PLOTLY else JSON, part[1])
        return None

    def _send(
        self,
        status: HTTPStatus,
        content: bytes,
        kind: str = "text/plain; charset=utf-8",
        more: dict[str, str] | None = None,
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Frame-Options", "DENY")
        for name, value in (more or {}).items():
            self.send_header(name, value)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)


def _is_ours(host: str | None) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in NAMES
    except ValueError:
        return False


def _matches(asked: str | None, tag: str) -> bool:
    """Whether the browser has it already."""
    if asked is None:
        return False
    return asked.strip() == "*" or tag in {each.strip().removeprefix("W/").strip('"') for each in asked.split(",")}


def _takes_gzip(accepted: str | None) -> bool:
    words = [word.strip().replace(" ", "") for word in (accepted or "").lower().split(",")]
    return any(word == "gzip" or (word.startswith("gzip;q=") and word != "gzip;q=0") for word in words)
