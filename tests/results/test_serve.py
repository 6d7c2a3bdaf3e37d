"""The server: what it answers, what it refuses, and that it reads nothing by a name that comes from outside."""

import gzip
import http.client
import json
import socket
import threading

import pytest

from gradflow.errors import ConfigError
from gradflow.results.serve import Server

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def served(records):
    """A server of three runs, in a thread."""
    records.add(norms={0: [1.0, 10.0]})
    records.add(activation="tanh", state="running")
    records.add(activation=HOSTILE, state="missing")
    with Server(records.sweep("<b>bold</b>"), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", **headers):
    """(the answer, its body), with the headers given and no others."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{server.server_port}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_the_page_its_boot_and_its_parts(served):
    answer, page = ask(served, "/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'id="boot"' in page
    assert b'"live":true' in page
    assert b'id="part:' not in page
    assert HOSTILE.encode() not in page
    answer, boot = ask(served, "/boot")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    boot = json.loads(boot)
    assert boot["title"] == "<b>bold</b>"
    for name in boot["parts"]:
        answer, body = ask(served, f"/part/{name}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        json.loads(body)
    answer, code = ask(served, "/part/plotly")
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert b"plotly.js" in code[:300]


def test_what_has_not_changed_is_not_sent_again(served):
    for path in ("/", "/boot", "/part/table", "/part/plotly"):
        answer, body = ask(served, path)
        tag = answer.headers["ETag"]
        for asked in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
            again, nothing = ask(served, path, If_None_Match=asked)
            assert (again.status, nothing, again.headers["ETag"]) == (304, b"", tag)
        assert ask(served, path, If_None_Match='W/"other"')[1] == body


def test_answers_are_packed_for_those_who_say_so(served):
    plain, body = ask(served, "/part/details-0")
    assert "Content-Encoding" not in plain.headers
    for accepted in ("gzip", "br, gzip;q=0.5"):
        answer, packed = ask(served, "/part/details-0", Accept_Encoding=accepted)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert (gzip.decompress(packed), answer.headers["ETag"]) == (body, plain.headers["ETag"])
    assert ask(served, "/part/details-0", Accept_Encoding="br, gzip;q=0")[1] == body


def test_head_says_what_get_would(served):
    for path in ("/", "/boot", "/part/runs", "/nothing"):
        get, body = ask(served, path)
        head, nothing = ask(served, path, "HEAD")
        assert (head.status, nothing) == (get.status, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "192.168.0.1"]
)
def test_another_hosts_name_is_refused(served, host):
    for path in ("/", "/boot", "/part/runs"):
        answer, body = ask(served, path, Host=host)
        assert (answer.status, body) == (421, b"not the name of this server\n")


def test_the_names_of_this_machine_are_taken_at_any_port_of_a_tunnel(served):
    for host in ("localhost:9999", "127.0.0.1", f"LOCALHOST:{served.server_port}"):
        assert ask(served, "/boot", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/plan.json", "/../plan.json", "/part/../boot", "/part/..%2f..%2fplan.json", "/part/%2e%2e/plan.json"),
        *(
            "/part/details-99",
            "/part/details--1",
            "/part/",
            "/part/runs/",
            "/part/comparisons-%00",
            "/etc/passwd",
        ),
        *("/runs", "/report.html", "/%", f"/{HOSTILE.replace(' ', '')}"),
    ],
)
def test_nothing_else_is_there(served, path):
    answer, body = ask(served, path)
    assert (answer.status, body) == (404, b"no such page\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_nothing_can_be_changed(served, method):
    answer, _ = ask(served, "/boot", method, Content_Length="0")
    assert answer.status == 501
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_answers_are_for_this_page_alone(served):
    for path in ("/", "/boot", "/nothing"):
        headers = ask(served, path)[0].headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-cache"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Python" not in (headers["Server"] or "")


def test_it_listens_on_this_machine_alone(served):
    assert served.server_address[0] == "127.0.0.1"
    assert served.url == f"http://127.0.0.1:{served.server_port}/"


def test_one_who_breaks_off_or_talks_nonsense_disturbs_nobody(served):
    for said in (
        b"",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"GET /boot HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", served.server_port)) as connection:
            connection.sendall(said)
    assert ask(served, "/boot")[0].status == 200


def test_a_fault_of_ours_is_not_kept_quiet(served, monkeypatch, capfd):
    monkeypatch.setattr(served.live, "boot", lambda: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(served, "/boot")
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert ask(served, "/part/plotly")[0].status == 200


def test_many_ask_at_once(served):
    answers = []
    paths = ["/boot", "/part/runs", "/part/details-0", "/part/table"] * 5
    threads = [threading.Thread(target=lambda path=path: answers.append(ask(served, path)[0].status)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * len(paths)


def test_a_port_that_is_taken_is_told_in_a_line(served, records):
    with pytest.raises(ConfigError, match=f"--port {served.server_port}: another program has it; give another, or 0"):
        Server(records.sweep(), served.server_port)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds neither"):
        Server(tmp_path, 0)
