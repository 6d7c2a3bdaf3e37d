"""Which runs are compared with which, and what a run scores."""

import pytest

from gradflow.errors import ConfigError
from gradflow.results.statistics.compare import Comparison, comparisons
from gradflow.results.statistics.effects import effects, factors
from gradflow.results.statistics.normalise import normalise
from gradflow.results.statistics.runs import default_technique, larger_is_better, scores, techniques
from gradflow.runs.planfile import collect


def found(records):
    return scores(collect(records.sweep()))


def test_a_score_is_a_completed_run_s_and_a_diverged_one_counts_as_chance(records):
    for seed, state in enumerate(("completed", "diverged", "failed", "missing")):
        records.add(seed=seed, state=state, accuracy=0.75)
    seen = [(s.state, s.value, s.counted, s.chance, s.metric, s.larger_is_better) for s in found(records)]
    shared = (0.1, "test/accuracy", True)
    assert seen == [
        ("completed", 0.75, 0.75, *shared),
        ("diverged", None, 0.1, *shared),
        ("failed", None, None, *shared),
        ("missing", None, None, *shared),
    ]


def test_another_figure_has_no_chance(records):
    records.add()
    records.add(state="diverged", seed=1)
    losses = scores(collect(records.sweep()), "val/loss")
    assert [(s.value, s.counted, s.chance, s.larger_is_better) for s in losses] == [
        (1.0, 1.0, None, False),
        (None, None, None, False),
    ]


@pytest.mark.parametrize(
    ("name", "larger"),
    [
        ("metric", True),
        ("val/accuracy", True),
        ("val/loss", False),
        ("cost/train_seconds", False),
        ("cost/steps_per_second", True),
        ("steps", None),
    ],
)
def test_what_is_better_is_known_or_said_not_to_be(name, larger):
    assert larger_is_better(name, {"metric": "test/accuracy"}) is larger


def test_techniques_are_compared_where_all_else_is_equal(records):
    """What belongs to the technique, what follows from another choice, and what is a seed is no setting."""
    for task, width in (("digits", 8), ("mnist", 64)):  # width follows from the task
        for activation, slope in (("relu", None), ("leaky", 0.1)):
            for norm in ("none", "batch"):
                for seed in (0, 1):
                    labels = {"task": task, "width": width, "activation": activation, "norm": norm, "seed": seed}
                    records.add(**labels, **{"activation.slope": slope, "task.split_seed": seed})
    made = techniques(found(records), ["activation"])
    assert (made.names, made.settings, made.with_it) == (["relu", "leaky"], ["task", "norm"], [])
    assert list(made.cells["relu"]) == [("digits", "none"), ("digits", "batch"), ("mnist", "none"), ("mnist", "batch")]
    assert [len(seeds) for seeds in made.cells["leaky"].values()] == [2] * 4
    assert made.setting_words(("mnist", "none")) == "mnist, norm none"
    both = techniques(found(records), ["activation", "norm"])
    assert (both.names, both.settings) == (["relu", "relu · batch", "leaky", "leaky · batch"], ["task"])


def test_a_rate_tuned_for_each_technique_goes_with_it_and_an_init_does_not(records):
    for activation, init, rate in (("relu", "he", 0.1), ("tanh", "glorot", 0.2), ("tanh", "he", 0.3)):
        for depth in (2, 4):
            records.add(activation=activation, init=init, depth=depth, **{"optimizer.lr": rate / depth})
    made = techniques(found(records), ["activation"])
    assert (made.settings, made.with_it) == (["depth", "init"], ["optimizer.lr"])
    recipes = techniques(found(records), ["recipe"])
    assert (recipes.settings, recipes.with_it) == (["depth"], ["optimizer.lr"])
    assert recipes.names == ["relu · he", "tanh · glorot", "tanh · he"]


def test_names_that_would_be_one_are_told_apart(records):
    for norm, skip in (("gate", "none"), ("none", "gate")):
        records.add(norm=norm, skip=skip)
    assert techniques(found(records), ["norm", "skip"]).names == ["gate · skip none", "norm none · gate"]


@pytest.mark.parametrize(
    ("varied", "by"),
    [
        ([{"activation": "relu"}, {"activation": "tanh"}], ["activation"]),
        ([{"activation": "relu", "init": "he"}, {"activation": "tanh", "init": "glorot"}], ["recipe"]),
        ([{"depth": 2, "remedy": "none"}, {"depth": 3, "remedy": "clip"}], ["remedy"]),
        ([{"depth": 2}, {"depth": 3}], ["depth"]),
        ([{"task": "digits"}, {"task": "mnist"}], ["recipe"]),
        ([{"cell": "rnn", "init": "a"}, {"cell": "lstm", "init": "b"}], ["network"]),
    ],
    ids=str,
)
def test_a_technique_where_nobody_says(records, varied, by):
    for labels in varied:
        records.add(**labels)
    assert default_technique([score.labels for score in found(records)]) == by


# --- comparisons and effects ----------------------------------------------------------------------------------------


@pytest.fixture
def compared(records):
    """tanh is 0.1 below relu at depth 2 and 0.2 at depth 4; one tanh run diverged and one failed."""
    for depth in (2, 4):
        for seed in range(3):
            records.add(depth=depth, seed=seed, activation="relu", accuracy=0.8 + 0.01 * seed)
            gone = {(2, 0): "diverged", (4, 2): "failed"}.get((depth, seed), "completed")
            accuracy = 0.8 - depth / 20 + 0.013 * seed
            records.add(depth=depth, seed=seed, activation="tanh", accuracy=accuracy, state=gone)
    return collect(records.sweep())


def test_a_comparison_pairs_the_same_setting_and_seed(compared):
    (made,) = comparisons(compared, "activation")
    assert isinstance(made, Comparison)
    assert (made.task, made.metric, made.factor, made.a, made.b) == (
        "digits",
        "test/accuracy",
        "activation",
        "relu",
        "tanh",
    )
    expected = [
        ("depth 2, seed 0", 0.8, 0.1),  # diverged: chance
        ("depth 2, seed 1", 0.81, 0.713),
        ("depth 2, seed 2", 0.82, 0.726),
        ("depth 4, seed 0", 0.8, 0.6),
        ("depth 4, seed 1", 0.81, 0.613),
    ]  # and none of the failed run
    assert [(p.setting, p.a, p.b) for p in made.pairs] == [
        (w, pytest.approx(a), pytest.approx(b)) for w, a, b in expected
    ]
    records = compared.found.records
    for pair in made.pairs:
        assert [records[r].labels["activation"] for r in (pair.run_a, pair.run_b)] == ["relu", "tanh"]
    assert made.difference.value == pytest.approx(sum(b - a for _, a, b in expected) / 5)
    assert (made.difference.count, made.test, made.p_holm) == (5, "paired t", made.p)
    assert made.improvement.value == 0.0


def test_of_an_error_less_is_an_improvement(records, recurrent):
    for seed in range(2):
        for cell, error in (("rnn", 0.2), ("lstm", 0.1 + seed / 100)):
            recurrent(curve={1: error}, cell=cell, seed=seed)
    (made,) = comparisons(collect(records.sweep()), "network")
    assert (made.larger_is_better, made.improvement.value) == (False, 1.0)
    assert made.difference.value == pytest.approx(-0.095)
    (effect,) = [e for e in effects(collect(records.sweep())) if e.factor == "network"]
    assert (effect.level, effect.better) == ("lstm", True)


def test_holm_is_over_the_pairs_of_a_task(records):
    for seed in range(4):
        for task in ("digits", "mnist"):
            for activation, accuracy in (("relu", 0.8), ("tanh", 0.7), ("selu", 0.6)):
                noise = 0.01 * ((seed * 7 + ord(activation[0]) + len(task)) ** 2 % 5)
                records.add(task=task, seed=seed, activation=activation, accuracy=accuracy + noise)
    made = comparisons(collect(records.sweep()), "activation")
    assert [(c.task, c.a, c.b) for c in made] == [
        (task, *pair) for task in ("digits", "mnist") for pair in (("relu", "tanh"), ("relu", "selu"), ("tanh", "selu"))
    ]
    for task in ("digits", "mnist"):
        here = [c for c in made if c.task == task]
        smallest = min(here, key=lambda c: c.p)
        assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.p))


def test_effects_change_one_choice_and_the_largest_comes_first(records):
    for seed in range(2):
        for depth in (2, 8):
            for norm, gain in (("none", 0.0), ("batch", 0.2), ("layer", 0.1)):
                records.add(depth=depth, norm=norm, seed=seed, accuracy=0.5 + gain * (depth == 8) - depth / 80)
    made = effects(collect(records.sweep()))
    told = [(e.factor, e.level, e.reference, round(e.difference.value, 9), e.difference.count, e.better) for e in made]
    assert told == [
        ("norm", "batch", "none", 0.1, 4, True),
        ("norm", "layer", "none", 0.05, 4, True),
        ("depth", "8", "2", 0.025, 6, True),
    ]
    assert {(e.task, e.metric) for e in made} == {("digits", "test/accuracy")}


def test_choices_that_always_change_together_have_an_effect_only_together(records):
    for activation, init, accuracy in (("sigmoid", "fan", 0.2), ("relu", "he", 0.7)):
        for seed in range(2):
            records.add(activation=activation, init=init, seed=seed, accuracy=accuracy)
    collection = collect(records.sweep())
    assert factors(list(collection.planned.values())) == ["activation", "init", "recipe"]
    assert [(e.factor, e.level, e.reference) for e in effects(collection)] == [("recipe", "relu · he", "sigmoid · fan")]


def test_tasks_are_never_mixed(records):
    for task, accuracy in (("digits", 0.9), ("mnist", 0.1)):
        records.add(task=task, accuracy=accuracy)
    assert effects(collect(records.sweep())) == []
    assert comparisons(collect(records.sweep()), "task") == []


# --- normalised scores ----------------------------------------------------------------------------------------------


def test_chance_is_0_and_the_reference_1(records, recurrent):
    records.add(accuracy=0.55)
    records.add(accuracy=0.05, seed=1)
    records.add(state="diverged", seed=2)
    records.add(state="failed", seed=3)
    recurrent(curve={1: 1 / 12}, cell="rnn")
    made = normalise(found(records), {"digits": 0.91})
    values = [score.counted for score in made.scores]
    assert values == [pytest.approx(0.45 / 0.81), 0.0, 0.0, None, pytest.approx(0.5)]
    assert (made.references, made.stated, made.below) == ({"digits": 0.91, "adding": 0.0}, ["digits"], 1)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"digist": 1.0}, "--reference digist: unknown task; allowed: digits; did you mean 'digits'?"),
        ({"digits": 0.1}, "--reference digits=0.1: must be better than chance, which is 0.1"),
        ({"digits": 0.05}, "--reference digits=0.05: must be better than chance"),
    ],
    ids=str,
)
def test_a_reference_that_makes_no_sense_is_refused(records, stated, told):
    records.add()
    with pytest.raises(ConfigError) as caught:
        normalise(found(records), stated)
    assert told in str(caught.value)


def test_without_chance_nothing_can_be_normalised(records):
    records.add()
    with pytest.raises(ConfigError, match="val/loss of digits: its score of chance is not known"):
        normalise(scores(collect(records.sweep()), "val/loss"))
