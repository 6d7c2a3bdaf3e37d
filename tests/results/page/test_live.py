"""A sweep under way: what has changed is read again, and nothing else; stamps tell it."""

import json
import time

import pytest

from gradflow.results.page import live as module
from gradflow.results.page.live import Live
from gradflow.runs.planfile import Plan, write_plan
from gradflow.runs.record import read, write_json


@pytest.fixture
def look(monkeypatch):
    """Looks at once, however short ago the last look was."""
    monkeypatch.setattr(module, "EVERY", -1.0)
    monkeypatch.setattr(module, "REST", -1.0)
    return lambda live: json.loads(live.boot())


def part(live, name):
    return json.loads(live.part(name)[1])


def column(live, key):
    found = next(column for column in part(live, "runs")["columns"] if column["key"] == key)
    return found.get("data") or [None if code < 0 else found["values"][code] for code in found["codes"]]


def ends(records, path, accuracy):
    """A run that was under way is done, as gradflow writes it: the status, then the result."""
    other = records.runs / "other"
    made = records.add(accuracy=accuracy)
    records.planned.pop()
    made.rename(other)
    status, result = (json.loads((other / f"{name}.json").read_text()) for name in ("status", "result"))
    labels = json.loads((path / "status.json").read_text())["labels"]
    write_json(path / "result.json", {**result, "run_id": path.name, "labels": labels})
    write_json(path / "status.json", {**status, "run_id": path.name, "labels": labels})


def test_the_stamps_tell_what_has_changed(records, look):
    done, running = records.add(norms={0: [1.0, 2.0]}), records.add(state="running", seed=1)
    records.add(state="missing", seed=2)
    live = Live(records.sweep())
    first = look(live)
    assert (first["live"], first["sweep_over"], first["runs"]) == (True, False, 3)
    assert first["states"] == {"completed": 1, "running": 1, "missing": 1}
    assert look(live) == first
    assert column(live, "state") == ["completed", "running", "missing"]
    assert column(live, "steps") == [100, 7, None]

    status = json.loads((running / "status.json").read_text())
    write_json(running / "status.json", {**status, "step": 8, "heartbeat": time.time()})
    second = look(live)
    changed = {name for name, stamp in second["parts"].items() if stamp != first["parts"][name]}
    assert changed == {"runs", "details-1"}
    assert column(live, "steps") == [100, 8, None]

    ends(records, running, 0.75)
    third = look(live)
    changed = {name for name, stamp in third["parts"].items() if stamp != second["parts"][name]}
    assert changed == {"runs", "table", "factors", "effects", "details-1"}
    assert third["stamp"] != second["stamp"] != first["stamp"]
    assert column(live, "metric") == [0.5, 0.75, None]
    assert part(live, "details-1")[running.name]["state"] == "completed"
    assert part(live, "details-0")[done.name]["heat"][0]["log10"] == [[0], [0.301]]
    assert part(live, "details-2")["0" * 11 + "2"]["state"] == "missing"


def test_what_is_done_is_read_once(records, look, monkeypatch):
    for seed in range(5):
        records.add(seed=seed)
    records.add(seed=5, state="running")
    live = Live(records.sweep())
    asked = []
    monkeypatch.setattr(module, "read", lambda path: asked.append(path.name) or read(path))
    for _ in range(3):
        look(live)
    assert asked == []
    ends(records, records.runs / f"{5:012x}", 0.5)
    for _ in range(3):
        look(live)
    assert asked == [f"{5:012x}"]


def test_a_part_is_made_once_while_nothing_changes(records, look, monkeypatch):
    records.add()
    live = Live(records.sweep())
    first = live.part("details-0")
    monkeypatch.setattr(module, "details", lambda *_: pytest.fail("made again"))
    assert live.part("details-0") == first
    assert live.part("details-1") is live.part("nothing") is live.part("../plan.json") is None


def test_a_run_that_was_trained_anew_is_read_anew(records, look):
    path = records.add(accuracy=0.25)
    live = Live(records.sweep())
    assert column(live, "metric") == [0.25]
    before = look(live)["parts"]
    path.rename(records.runs / ".aside")
    assert look(live)["states"] == {"missing": 1}
    again = records.add(accuracy=0.75)
    again.rename(path)
    status, result = (json.loads((path / f"{name}.json").read_text()) for name in ("status", "result"))
    write_json(path / "status.json", {**status, "run_id": path.name})
    write_json(path / "result.json", {**result, "run_id": path.name})
    after = look(live)["parts"]
    assert column(live, "metric") == [0.75]
    assert before["details-0"] != after["details-0"]


def test_a_plan_that_grows_is_seen(records, look):
    records.add()
    folder = records.sweep()
    live = Live(folder)
    records.add(seed=1)
    records.sweep()
    assert look(live)["runs"] == 2
    (folder / "plan.json").write_text("{")  # being written by something else than gradflow
    assert look(live)["runs"] == 2


def test_a_record_that_cannot_be_read_is_a_problem_of_the_page(records, look):
    records.add()
    broken = records.add(seed=1)
    live = Live(records.sweep())
    (broken / "status.json").write_text("{")
    (broken / "result.json").unlink()
    records.runs.joinpath(broken.name).rename(records.runs / "x")
    (records.runs / "x").rename(broken)
    live._seen.places.clear()  # as if it were new
    assert str(broken / "status.json") in look(live)["problems"][0]


@pytest.mark.parametrize("what", ["a folder of runs", "one run"])
def test_a_folder_without_a_plan_is_served_too(records, look, what):
    path = records.add()
    live = Live(records.runs if what == "a folder of runs" else path)
    assert look(live)["runs"] == 1
    records.add(seed=1)
    assert look(live)["runs"] == (2 if what == "a folder of runs" else 1)
    assert part(live, "details-0")[path.name]["state"] == "completed"


def test_many_runs_share_a_part(records, look, monkeypatch):
    monkeypatch.setattr(module, "MOST_CHUNKS", 2)
    for seed in range(5):
        records.add(seed=seed)
    live = Live(records.sweep())
    assert part(live, "runs")["chunk"] == [0, 0, 0, 1, 1]
    assert list(part(live, "details-1")) == [f"{i:012x}" for i in (3, 4)]


def test_a_plan_without_any_run_yet_is_a_page(records, look):
    records.add(state="missing")
    folder = records.sweeps / "early"
    write_plan(folder, Plan("early", "gradflow sweep", records.runs / "not" / "yet", records.planned))
    assert look(Live(folder))["states"] == {"missing": 1}
    assert b'"live": true' in Live(folder).page().replace(b'"live":', b'"live": ')
