"""Views at W&B: made once, updated after that, and an end in a line where W&B does not answer. The client is the real
one; what it speaks to is a stand-in on the loopback (`wandb_graphql_stand_in`)."""

import json
import time
from pathlib import Path

import pytest
import wandb
from wandb_graphql_stand_in import ENTITY, KEY, GraphQLStandIn
from wandb_workspaces.workspaces import interface as ws

from gradflow.cli import main
from gradflow.runs.dashboards.models import REPORT, WORKSPACE, workspace_view
from gradflow.runs.dashboards.server import NoAccount, Refused, Server
from gradflow.runs.dashboards.subject import general
from gradflow.runs.dashboards.workspace import workspace

BOUND = 60  # seconds; with the patience of these tests a refusal takes three


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The server, and a client that has just been started and waits for nothing long."""
    patience = {"HTTP_TIMEOUT": "1", "X_GRAPHQL_RETRY_MAX": "1", "X_GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1"}
    patience |= {"X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1"}
    home = str(tmp_path_factory.mktemp("home"))
    with GraphQLStandIn() as made, pytest.MonkeyPatch.context() as patch:
        for name, value in {**patience, "BASE_URL": made.url, "CACHE_DIR": home, "CONFIG_DIR": home}.items():
            patch.setenv(f"WANDB_{name}", value)
        patch.setenv("HOME", home)
        wandb.teardown()
        made.home = home
        yield made
        wandb.teardown()


@pytest.fixture
def at(stand_in, monkeypatch):
    """The stand-in as it was at first, and a key in the environment."""
    stand_in.views.clear()
    stand_in.asked.clear()
    stand_in.faults.clear()
    stand_in.projects[:] = ["gradflow"]
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return stand_in


@pytest.fixture
def sweep(records):
    for depth in (2, 3):
        records.add(depth=depth)
    return records.sweep()


@pytest.fixture
def typed(capsys):
    """Types a command; its exit code, what it said, and on stderr."""

    def type_(*words):
        with pytest.raises(SystemExit) as caught:
            main(["dashboard", *map(str, words)])
        said = capsys.readouterr()
        assert KEY not in said.out + said.err
        return int(caught.value.code or 0), said.out.splitlines(), said.err.splitlines()

    return type_


def test_a_workspace_and_a_report_are_made_and_then_updated(at, typed, sweep, records):
    code, out, err = typed(sweep, "--project", "gradflow")
    assert (code, err) == (0, [])
    (nw,) = (view["name"] for view in at.of_type(WORKSPACE))
    id_ = next(id_ for id_, view in at.views.items() if view["type"] == REPORT)
    base = f"{at.url}/{ENTITY}/gradflow"
    assert out == [
        f"workspace 'gradflow hand' made: {base}?nw={nw.removeprefix('nw-').removesuffix('-v')}",
        f"report 'gradflow hand' made: {base}/reports/gradflow-hand--{id_.rstrip('=')}",
    ]
    before = json.dumps(at.views)
    records.add(depth=4)
    records.sweep()
    for place in range(5):  # of others: they are told in pages
        at.views[f"other{place}"] = {"name": f"n{place}", "displayName": "x", "type": REPORT, "project": "gradflow"}
    at.views = dict(reversed(at.views.items()))
    code, again, _ = typed(sweep, "--project", "gradflow", "--entity", ENTITY)
    assert (code, again) == (0, [line.replace(" made:", " updated:") for line in out])
    assert (len(at.of_type(WORKSPACE)), len(at.of_type(REPORT))) == (1, 6)
    assert json.dumps({id_: at.views[id_] for id_ in json.loads(before)}) != before


def test_a_view_that_a_person_gave_the_same_name_is_updated_and_keeps_its_address(at):
    at.views["old"] = {"name": "nw-byhand-v", "displayName": "gradflow", "type": WORKSPACE, "project": "gradflow"}
    server = Server(None, "gradflow")
    put = server.put(workspace_view(workspace(general()), server.entity, server.project))
    assert (put.made, put.url) == (False, f"{at.url}/{ENTITY}/gradflow?nw=byhand")
    assert (list(at.views), at.views["old"]["name"]) == (["old"], "nw-byhand-v")


def test_what_is_sent_is_what_the_library_itself_would_send(at):
    view = workspace_view(workspace(general()), ENTITY, "gradflow")
    Server(ENTITY, "gradflow").put(view)
    (ours,) = at.views.values()
    at.views.clear()
    library = ws.Workspace._from_model(view.model)
    library.save()
    (theirs,) = at.views.values()
    assert ours == theirs


@pytest.mark.parametrize("fault", [429, 500, "drop", "hang"])
def test_a_hiccup_is_got_over(at, fault):
    server = Server(ENTITY, "gradflow")
    at.faults = [fault]
    assert server.put(workspace_view(workspace(general()), ENTITY, "gradflow")).made
    assert at.faults == []


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (429, "429"),
        (500, "500"),
        ("drop", "connection reset"),
        ("hang", "no answer in time"),
        ("refuse", "permission denied"),
        (404, "404"),
    ],
)
def test_where_wandb_does_not_answer_there_is_an_end_in_a_line(at, typed, fault, word):
    at.faults = [fault] * 20
    began = time.monotonic()
    code, out, err = typed("--project", "gradflow")
    assert time.monotonic() - began < BOUND
    assert (code, out, len(err)) == (1, [], 1)
    assert err[0].startswith("gradflow: W&B: ")
    assert word in err[0]
    assert at.views == {}


def test_a_project_that_is_not_there_and_a_key_that_is_not_accepted_are_said_in_a_line(at, typed, monkeypatch):
    code, _, err = typed("--project", "nowhere")
    there = "runs that are uploaded make it"
    assert (code, err) == (1, [f"gradflow: W&B: no project {ENTITY}/nowhere, or no access to it; {there}"])
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    code, out, err = typed("--project", "gradflow")
    assert (code, out, len(err)) == (1, [], 1)
    assert "the API key is not accepted" in err[0]
    assert "f" * 40 not in err[0]
    monkeypatch.setenv("WANDB_API_KEY", "no key at all")
    code, out, err = typed("--project", "gradflow")
    assert (code, out, len(err)) == (1, [], 1)
    assert "no key at all" not in err[0]


def test_a_server_that_repeats_the_key_does_not_make_us_show_it(at):
    server = Server(ENTITY, "gradflow")
    at.says = f"what is {KEY}"
    at.faults = [400]
    with pytest.raises(Refused, match=r"what is \*\*\*"):
        server.put(workspace_view(workspace(general()), ENTITY, "gradflow"))


def test_a_key_for_another_server_is_none_for_this_and_nothing_is_asked(at, typed, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("machine api.wandb.example\n login user\n password " + "e" * 40 + "\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    with pytest.raises(NoAccount):
        Server(ENTITY, "gradflow")
    code, out, err = typed("--project", "gradflow")
    assert (code, out, len(err)) == (2, [], 1)
    assert "no W&B API key found" in err[0]


def test_the_key_is_in_no_file(at, typed, sweep, tmp_path):
    typed(sweep, "--project", "gradflow", "--dry-run", "--out", tmp_path / "spec.json")
    typed(sweep, "--project", "gradflow")
    files = [file for folder in (tmp_path, Path(at.home)) for file in folder.rglob("*") if file.is_file()]
    assert (tmp_path / "spec.json") in files
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    assert KEY not in json.dumps(at.views)
