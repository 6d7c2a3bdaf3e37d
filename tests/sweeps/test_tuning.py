"""Real small searches in one process: budgets, samplers, pruners, and trials that come to no good end."""

import json
import math
from pathlib import Path

import pytest
from searching_here import LR, Here, params, states

from gradflow.runs.identity import run_id
from gradflow.runs.stop import Stop
from gradflow.sweeps.tuning import desk as desks
from gradflow.sweeps.tuning.attempt import Unwritable, attempt
from gradflow.sweeps.tuning.desk import Desk, tallies, trials_of
from gradflow.sweeps.tuning.figures import validations
from gradflow.sweeps.tuning.final import importances, plan_final, rows_of
from gradflow.sweeps.tuning.presence import present


@pytest.fixture
def here(compose, tmp_path):
    return Here(compose, tmp_path)


def test_every_technique_gets_the_same_number_of_trials_and_the_same_luck(here):
    search, folder = here.ask(LR, "activation=relu,tanh", "norm=none,batch", "tune.per=activation,norm",
                              "tune.trials=2", "tune.sampler=random")  # fmt: skip
    desk = here.make(search, folder, value=lambda params: params["optimizer.lr"])
    names = [f"activation={a} norm={n}" for a in ("relu", "tanh") for n in ("none", "batch")]
    assert list(desk.studies) == names
    assert {name: states(desk, name) for name in names} == dict.fromkeys(names, ["COMPLETE"] * 2)
    assert all(params(desk, name) == params(desk, names[0]) for name in names)
    runs = {id_ for study in desk.studies.values() for trial in trials_of(study) for id_ in trial.user_attrs["run_ids"]}
    assert len(runs) == 8


def test_a_value_is_the_best_or_the_last_validation_and_never_the_test_split(here):
    for at, chosen in (("best", min), ("last", lambda values: values[-1])):
        desk = here(LR, "tune.trials=3", f"tune.at={at}", "trainer.max_steps=8", "tune.metric=val/loss")
        for trial in trials_of(desk.studies["all"]):
            path = here.folder / "runs" / trial.user_attrs["run_ids"][0]
            figures = [value for _, value in validations(path, "val/loss")]
            assert len(figures) == 4
            assert trial.values == [chosen(figures)]
            assert trial.intermediate_values == dict(validations(path, "val/loss"))
            assert trial.values[0] != json.loads((path / "result.json").read_text())["metrics"]["test/loss"]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random", "grid", "qmc"])
def test_one_worker_makes_the_same_trials_however_often_it_is_interrupted(compose, tmp_path, sampler):
    """Fifteen: TPE has begun to look at the first, and CMA-ES is in its third generation."""
    space = ["width=range(4,9,2)", "activation=relu,tanh"] if sampler == "grid" else [LR, "width=int(interval(2,8))"]
    heres = []
    for name in "ab":
        (tmp_path / name).mkdir()
        heres.append(Here(compose, tmp_path / name))
    whole, parts = (here.ask(*space, f"tune.sampler={sampler}", "tune.trials=15") for here in heres)

    def value(params):
        return sum(len(name) * float(x) for name, x in params.items() if not isinstance(x, str))

    for _ in range(3):
        heres[1].make(*parts, most=4, value=value)
    seen, others = heres[0].make(*whole, value=value), heres[1].make(*parts, value=value)
    assert params(seen) == params(others)
    assert states(seen) == ["COMPLETE"] * (6 if sampler == "grid" else 15)
    if sampler == "grid":
        points = {(p["width"], p["activation"]) for p in params(seen)}
        assert points == {(width, activation) for width in (4, 6, 8) for activation in ("relu", "tanh")}


def test_a_grid_is_no_larger_than_it_is(here):
    search, _ = here.ask("activation=relu,tanh", "width=2,4", "tune.sampler=grid", "tune.trials=100")
    assert search.trials == 4


def test_a_run_that_diverges_is_told_as_pruned_and_kills_nothing(here):
    desk = here("optimizer.lr=1e30,1e-2", "tune.sampler=grid", "trainer.max_steps=8")
    by_rate = {trial.params["optimizer.lr"]: trial for trial in trials_of(desk.studies["all"])}
    assert by_rate["0.01"].state.name == "COMPLETE"
    assert by_rate["1e+30"].state.name == "PRUNED"
    assert "the loss stopped being finite at step" in by_rate["1e+30"].user_attrs["why"]
    tally = tallies(desk.studies, desk.search)["all"]
    assert (tally.complete, tally.diverged, tally.pruned, tally.failed) == (1, 1, 0, 0)


def test_tpe_learns_where_runs_diverge(here):
    search, folder = here.ask("optimizer.lr=tag(log,interval(1e-3,1e6))", "tune.trials=30")
    desk = here.make(search, folder, value=lambda p: None if p["optimizer.lr"] > 1 else p["optimizer.lr"])
    diverged = [state == "PRUNED" for state in states(desk)]
    assert sum(diverged[:10]) >= 5  # at random, two in three would
    assert sum(diverged[10:]) <= 4


def test_a_run_that_fails_counts_and_the_search_goes_on(compose, tmp_path, own, importable):
    here = Here(compose, tmp_path)
    desk = here(LR, "activation._target_=own_activations.Broken", "tune.trials=2")
    assert states(desk) == ["FAIL", "FAIL"]
    assert {trial.user_attrs["why"] for trial in trials_of(desk.studies["all"])} == {"RuntimeError: no such neuron"}
    assert desk.is_over()
    assert "own_activations.py" in next((tmp_path / "runs").glob("*/log.txt")).read_text()


@pytest.mark.parametrize("pruner", ["median", "hyperband", "asha"])
def test_a_pruner_ends_trials_that_lag_behind(here, pruner):
    """Of two learning rates, one of which does not learn."""
    desk = here("optimizer.lr=1e-9,0.05", "width=2,4,6,8", f"tune.pruner={pruner}", "tune.trials=8",
                "trainer.max_steps=18", "tune.sampler=grid")  # fmt: skip
    trials = trials_of(desk.studies["all"])
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert {trial.params["optimizer.lr"] for trial in pruned} >= {"1e-09"}
    assert not any("why" in trial.user_attrs for trial in pruned)
    for trial in pruned:
        status = json.loads((here.folder / "runs" / trial.user_attrs["run_ids"][0] / "status.json").read_text())
        assert status["state"] == "pruned"
        assert max(trial.intermediate_values) < 18
        assert trial.value == trial.intermediate_values[max(trial.intermediate_values)]
    assert desk.search.trials == len(trials)


def test_several_seeds_make_one_value_and_several_metrics_a_front(here):
    desk = here(LR, "tune.seeds=[3,5]", "tune.trials=2", "tune.metric=val/loss,cost/parameters", "width=2,8")
    for trial in trials_of(desk.studies["all"]):
        folders = [here.folder / "runs" / id_ for id_ in trial.user_attrs["run_ids"]]
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        assert [result["labels"]["seed"] for result in results] == [3, 5]
        losses = [min(value for _, value in validations(folder, "val/loss")) for folder in folders]
        assert trial.values == [pytest.approx(sum(losses) / 2), results[0]["cost"]["parameters"]]
        assert not trial.intermediate_values


def test_what_was_trained_before_costs_nothing(here):
    """A sweep's run, and a trial's that happens to be the same."""
    words = "activation=relu,tanh", "tune.sampler=random", "tune.trials=8"
    desk = here(*words)
    runs = sorted((here.folder / "runs").iterdir())
    assert len(runs) == 2
    again = here(*words, "tune.name=again")
    assert [t.values for t in trials_of(again.studies["all"])] == [t.values for t in trials_of(desk.studies["all"])]
    assert [json.loads((run / "status.json").read_text())["attempt"] for run in runs] == [1, 1]
    assert all(t.intermediate_values for t in trials_of(again.studies["all"]))


def test_a_budget_can_be_raised_later(here):
    search, folder = here.ask(LR, "tune.trials=2")
    first = params(here.make(search, folder))
    more, same = here.ask(LR, "tune.trials=3")
    assert same == folder
    assert params(here.make(more, folder))[:2] == first
    assert len(params(here.make(more, folder))) == 3


def test_what_matters_is_told_from_ten_complete_trials_on(here):
    search, folder = here.ask(LR, "width=int(interval(2,64))", "tune.trials=30", "tune.sampler=random")
    study = here.make(search, folder, most=9, value=lambda p: abs(math.log(p["optimizer.lr"]) + 3)).studies["all"]
    assert importances(study, search) == {}
    here.make(search, folder, value=lambda p: abs(math.log(p["optimizer.lr"]) + 3))
    shares = importances(study, search)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["optimizer.lr"] > 0.7


def test_in_the_end_each_technique_s_best_is_planned_and_one_without_a_value_is_named(here):
    search, folder = here.ask(LR, "activation=relu,tanh", "tune.per=activation", "tune.trials=3", "tune.final_seeds=2")
    relu = search.techniques[0]
    with present(folder) as name:
        desk = Desk(folder, search, name, 3)
        values = iter([0.4, 0.2, 0.3])
        while (task := desk.take()) is not None:
            if task.technique == relu:
                desk.complete(task, [next(values)])
            else:
                desk.diverge(task, "so it is said")
    final = plan_final(search, desk.studies, None, here=True)
    assert final.lacking == ["activation=tanh"]
    rate = search.dimensions[0].value(params(desk, relu.name)[1]["optimizer.lr"])
    seen = [(run.labels["activation"], run.labels["optimizer.lr"], run.labels["seed"]) for run in final.plan.runs]
    assert seen == [("relu", rate, 1000), ("relu", rate, 1001)]
    assert all(run.estimate["steps"] == 4 for run in final.plan.runs)
    assert plan_final(search, desk.studies, final.plan, here=True) == final
    assert rows_of(search, [run.labels for run in final.plan.runs]) == ["activation", "optimizer.lr"]


# --- workers that leave ------------------------------------------------------------------------------------------


def test_a_trial_that_was_put_back_goes_on_in_its_place(here):
    search, folder = here.ask(LR, "tune.trials=2")
    stop = Stop()
    stop.request()
    with present(folder) as name:
        desk = Desk(folder, search, name, 3)
        task = desk.take()
        assert attempt(desk, task, stop, lambda *_: None) == "preempted"
    assert states(desk) == ["RUNNING"]
    desk = here.make(search, folder)
    assert states(desk) == ["COMPLETE", "COMPLETE"]
    assert trials_of(desk.studies["all"])[0].params == task.params
    assert trials_of(desk.studies["all"])[0].user_attrs["attempts"] == 1


def test_a_trial_whose_worker_is_gone_is_another_s_and_one_at_work_is_let_alone(here):
    search, folder = here.ask(LR, "tune.trials=1")
    with present(folder) as name:
        taken = Desk(folder, search, name, 3).take()
        with present(folder) as other:
            assert Desk(folder, search, other, 3).take() is None  # the budget is taken, and its worker at it
    with present(folder) as other:
        desk = Desk(folder, search, other, 3)
        task = desk.take()
        assert (task.trial.number, task.params) == (0, taken.params)
        assert task.trial.user_attrs["attempts"] == 2


def test_a_trial_that_kills_every_worker_counts_as_failed(here):
    search, folder = here.ask(LR, "tune.trials=1")
    for _ in range(2):
        with present(folder) as name:
            Desk(folder, search, name, 2).take()
    with present(folder) as name:
        desk = Desk(folder, search, name, 2)
        assert desk.take() is None
    assert states(desk) == ["FAIL"]
    assert "died, attempt 2 of 2" in trials_of(desk.studies["all"])[0].user_attrs["why"]
    assert desk.is_over()


def test_a_worker_that_dies_while_it_asks_leaves_a_trial_that_the_next_one_completes(here, monkeypatch):
    search, folder = here.ask(LR, "width=2,4", "tune.trials=1")

    def dies(trial, _):
        trial.suggest_float("optimizer.lr", 1e-3, 1, log=True)
        raise KeyboardInterrupt

    with present(folder) as name, monkeypatch.context() as patched:
        patched.setattr(desks, "suggest", dies)
        with pytest.raises(KeyboardInterrupt):
            Desk(folder, search, name, 3).take()
    desk = here.make(search, folder)
    (trial,) = trials_of(desk.studies["all"])
    assert trial.state.name == "COMPLETE"
    assert set(trial.params) == {"optimizer.lr", "width"}
    assert trial.user_attrs["run_ids"] == [run_id(search.config(search.techniques[0], trial.params, 0))]


def test_a_record_that_cannot_be_written_stops_the_worker_and_loses_no_trial(here):
    search, folder = here.ask(LR, "tune.trials=1")
    (here.folder / "runs").rmdir()
    (here.folder / "runs").write_text("in the way")
    with present(folder) as name:
        desk = Desk(folder, search, name, 3)
        task = desk.take()
        with pytest.raises(Unwritable, match=r"Not a directory|File exists"):
            attempt(desk, task, Stop(), lambda *_: None)
    (here.folder / "runs").unlink()
    assert states(here.make(search, folder)) == ["COMPLETE"]


def test_a_journal_cut_off_in_the_middle_of_an_entry_is_mended(here):
    search, folder = here.ask(LR, "tune.trials=3")
    here.make(search, folder, most=2)
    journal = Path(folder / "tune" / "journal.log")
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:20])
    desk = here.make(search, folder)
    assert states(desk) == ["COMPLETE"] * 3
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
