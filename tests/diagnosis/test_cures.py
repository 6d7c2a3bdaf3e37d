"""What would help: the sweep's neighbours, theory, and the literature."""

import pytest

from gradflow.diagnosis.advice import ADVICE, THROUGH_TIME, advice
from gradflow.diagnosis.cures import Neighbour, cures
from gradflow.diagnosis.verdicts import VERDICTS

BASE = {
    "task": "digits", "model": "mlp", "model.norm_position": None, "activation": "relu", "init": "glorot_uniform",
    "norm": "none", "skip": "none", "remedy": "none", "optimizer": "sgd", "optimizer.lr": 0.1, "depth": 30, "seed": 0,
    "recipe": "relu · glorot_uniform",
}  # fmt: skip
PREDICTION = {
    "applies": True,
    "cures": [{"key": "init", "value": "he_normal", "instead": "glorot_uniform", "chi": 1.0, "chi_instead": 0.5}],
}


def run(verdict="healthy", figure=0.94, **labels):
    return Neighbour({**BASE, **{key.replace("__", "."): value for key, value in labels.items()}}, verdict, figure)


OWN = run("vanishing", 0.11)


def said(others, own=OWN, prediction=None, **more):
    return [str(cure) for cure in cures(own, others, prediction, metric="test/accuracy", **more)]


def test_the_sentence_of_theory_and_sweep_together():
    (cure,) = cures(OWN, [run(init="he_normal")], PREDICTION, metric="test/accuracy")
    assert str(cure) == (
        "he_normal instead of glorot_uniform: χ₁ 1.00 instead of 0.50; "
        "in this sweep it raised accuracy from 0.11 to 0.94"
    )
    assert (cure.overrides, cure.source, cure.figure) == (("init=he_normal",), "sweep and theory", 0.94)


def test_theory_alone_and_none_where_it_does_not_apply():
    assert said([], prediction=PREDICTION) == ["he_normal instead of glorot_uniform: χ₁ 1.00 instead of 0.50"]
    (first, *_) = cures(OWN, [], PREDICTION | {"applies": False})
    assert first.source == "advice"


def test_only_runs_that_differ_in_one_choice_are_better_and_healthy():
    others = [
        run(init="he_normal", figure=0.8),
        run(norm="batch", model__norm_position="pre", figure=0.9),  # the position of a norm is none without one
        run(skip="residual", figure=0.95, verdict="vanishing"),
        run(activation="tanh", figure=0.10),
        run(init="orthogonal", norm="layer", figure=0.99),
        run(depth=2, figure=0.99),
        run(task="mnist", figure=0.99),
        run(seed=1, init="lecun_normal", figure=0.99),  # its like with this seed is not there
    ]
    assert said(others) == [
        "norm batch instead of none: in this sweep it raised accuracy from 0.11 to 0.90",
        "he_normal instead of glorot_uniform: in this sweep it raised accuracy from 0.11 to 0.80",
    ]


def test_the_best_value_of_each_choice_is_told():
    others = [run(init=name, figure=figure) for name, figure in (("he_normal", 0.8), ("orthogonal", 0.9))]
    assert said(others) == ["orthogonal instead of glorot_uniform: in this sweep it raised accuracy from 0.11 to 0.90"]


def test_figures_are_means_over_the_seeds_that_both_have():
    others = [
        *(run("vanishing", 0.13, seed=1), run("vanishing", 0.5, seed=7)),
        *(run(init="he_normal", figure=f, seed=s) for s, f in ((0, 0.9), (1, 0.8), (2, 0.1))),
    ]
    assert said(others) == [
        "he_normal instead of glorot_uniform: in this sweep it raised accuracy from 0.12 to 0.85 (mean of 2 seeds)"
    ]
    unreliable = [
        run("vanishing", 0.13, seed=1),
        run(init="he_normal"),
        run("vanishing", 0.9, init="he_normal", seed=1),
    ]
    assert cures(OWN, unreliable)[0].source == "advice"


def test_smaller_is_better_and_a_diverged_run_has_no_figure():
    (cure,) = cures(
        run("stagnant", 1.0), [run(figure=0.02, optimizer__lr=0.01)], metric="test/mse", larger_is_better=False
    )
    assert str(cure) == "optimizer.lr 0.01 instead of 0.1: in this sweep it lowered mse from 1.00 to 0.02"
    assert cure.overrides == ("optimizer.lr=0.01",)
    (cure,) = cures(
        run("diverged", None), [run(remedy="clip_norm + warmup", remedy__warmup__steps=50)], metric="test/accuracy"
    )
    assert str(cure) == (
        "remedy clip_norm + warmup instead of none: in this sweep it reached accuracy 0.94, where this diverged"
    )
    assert cure.overrides == ("remedy=[clip_norm,warmup]",)


def test_where_a_sweep_varies_choices_together_the_fewest_changes_are_told():
    others = [
        run(activation="tanh", init="lecun_normal", norm="layer"),
        run(activation="tanh", init="orthogonal", figure=0.9),
    ]
    assert said(others, place="this folder of runs") == [
        "tanh instead of relu and orthogonal instead of glorot_uniform: "
        "in this folder of runs it raised accuracy from 0.11 to 0.90"
    ]


@pytest.mark.parametrize("verdict", ["healthy", "gradient-free", "unwatched"])
def test_nothing_is_cured_that_is_not_ill(verdict):
    assert cures(run(verdict, 0.5), [run(init="he_normal")], PREDICTION) == ()


def test_every_ill_has_advice_with_a_source_and_none_that_is_followed_already():
    ill = set(VERDICTS) - {"healthy", "gradient-free", "unwatched"}
    assert set(ADVICE) == ill
    assert set(THROUGH_TIME) <= ill
    for verdict in ill:
        assert all(cure.source == "advice" and "20" in cure.why for cure in advice(verdict, {}))
    changes = [cure.change for cure in advice("vanishing", {"skip": "preact_residual", "norm": "batch"})]
    assert changes == [
        "an activation whose slope is not below 1/4 everywhere, such as tanh or relu",
        "an initialisation that fits the activation: he_normal for relu, glorot or orthogonal for tanh",
    ]
    assert "clipping" not in str(advice("exploding", {"remedy": "warmup + clip_norm"}))


def test_what_is_lost_over_time_is_cured_by_other_means():
    (first, *_) = cures(OWN, through_time=True)
    assert first.overrides == ("cell=lstm",)
