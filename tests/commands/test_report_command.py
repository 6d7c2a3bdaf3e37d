"""`gradflow report` as it is typed: the page, and the server beside a sweep that is really running."""

import gzip
import json
import signal
import urllib.request

import pytest

from gradflow.cli import main


@pytest.fixture
def refused(capsys):
    """What is said when a command is a mistake."""

    def run(*words):
        with pytest.raises(SystemExit) as left:
            main(list(map(str, words)))
        assert left.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.fixture
def asked():
    """Asks a server of this machine, past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(url, path=""):
        request = urllib.request.Request(url + path, headers={"Accept-Encoding": "gzip"})
        with opener.open(request, timeout=30) as answer:
            return json.loads(gzip.decompress(answer.read()))

    return ask


def test_mistakes_are_told_in_a_line(records, refused, tmp_path):
    records.add()
    folder = records.sweep()
    assert "--out: --serve writes nothing" in refused("report", folder, "--serve", "--out", tmp_path)
    assert "'page.html': is a folder for several files; name one, e.g. page" in refused(
        "report", folder, "--out", "page.html"
    )
    assert "--port: says where to --serve" in refused("report", folder, "--port", "8000")
    assert "must be a whole number from 0 to 65535" in refused("report", folder, "--serve", "--port", "70000")
    assert "holds neither a plan.json nor runs" in refused("report", tmp_path / "sweeps", "--serve")


def test_a_port_that_is_taken_is_told_in_a_line(records, refused, new_shell):
    records.add()
    shell, folder = new_shell(), records.sweep()
    first = shell.start("report", folder, "--serve", "--port", "0")
    port = first.stdout.readline().split()[0].rstrip("/").rpartition(":")[2]
    assert f"--port {port}: another program has it" in refused("report", folder, "--serve", "--port", port)
    first.send_signal(signal.SIGTERM)
    left = shell.end(first)
    assert (left.returncode, left.stderr) == (143, "")


def test_a_sweep_is_watched_while_it_runs(new_shell, grid, asked, wait_until):
    """Real runs in another process: what the server tells goes from running to done, and ends with Ctrl-C."""
    shell = new_shell()
    sweep = shell.start("sweep", *grid, "-j", "1")
    folder = shell.sweeps / "four"
    wait_until(lambda: (folder / "plan.json").exists())
    server = shell.start("report", folder, "--serve", "--port", "0")
    url = server.stdout.readline().split()[0]

    def running():
        assert server.poll() is None, f"the server ended with {server.returncode}: {server.stderr.read()}"
        boot = asked(url, "boot")
        return boot if boot["states"].get("running") else None

    boot = wait_until(running)
    assert (boot["live"], boot["runs"], boot["sweep_over"]) == (True, 4, False)
    first = json.loads((folder / "plan.json").read_text())["ids"][0]
    # Its series are written with its checkpoints, the first after 20 of 60 slow steps.
    seen = wait_until(lambda: asked(url, "part/details-0")[first]["curves"] or shell.gate.exists())
    assert [curve["name"] for curve in seen][:1] == ["train/loss"]
    details = asked(url, "part/details-0")[first]
    assert details["state"] in ("running", "completed")
    assert details["command"].startswith("gradflow train ")
    shell.gate.touch()
    over = wait_until(lambda: (now := asked(url, "boot"))["sweep_over"] and now)
    assert over["states"] == {"completed": 4}
    assert over["stamp"] != boot["stamp"]
    assert shell.end(sweep).returncode == 0
    results = {path.parent.name: json.loads(path.read_text()) for path in shell.runs.glob("*/result.json")}
    runs = asked(url, "part/runs")
    metric = next(column for column in runs["columns"] if column["key"] == "metric")["data"]
    assert dict(zip(runs["id"], metric, strict=True)) == pytest.approx(
        {run_id: result["metrics"]["test/accuracy"] for run_id, result in results.items()}, rel=1e-5
    )
    server.send_signal(signal.SIGINT)
    left = shell.end(server)
    assert (left.returncode, left.stderr) == (0, "")
