"""Conditions on cells: what they hold for, and what is refused before anything is composed."""

import pytest

from gradflow.errors import ConfigError
from gradflow.sweeps.way_out import way_out
from gradflow.sweeps.where import Wanted, Where

CELL = {
    **{"norm": "none", "depth": 60, "optimizer.lr": 0.1, "activation": "relu", "remedy": "clip_norm + warmup"},
    **{"width": "8,4", "task.augment": False, "trainer.max_epochs": None},
}

HOLDS = [
    ("norm=='none'", True),
    ("not (norm=='none' and depth>50)", False),
    ("norm=='none' and depth<=50 or optimizer.lr==0.1", True),
    ("10 < depth <= 60", True),
    ("10 < depth < 60", False),
    ("activation in ['tanh', 'relu'] and norm not in ('batch',)", True),
    ("'warmup' in remedy", True),
    ("depth % 7 == 4 and depth // 7 == 8", True),
    ("2**3 * depth - 1 == 479 and depth / 4 == 15.0", True),
    ("max(depth, 100) == 100 and min(depth, 2) == 2 and abs(-depth) == 60", True),
    ("task.augment", False),
    ("task.augment == false and not task.augment", True),
    ("trainer.max_epochs == null", True),
    ("trainer.max_epochs > 3 or trainer.max_epochs <= 3", False),  # null is neither above nor below
    ("width == '8,4' and norm != 3", True),
    ('  norm == "none"\t', True),
]


@pytest.mark.parametrize(("text", "holds"), HOLDS)
def test_a_condition_holds_or_does_not(text, holds):
    assert Where(text)(CELL.__getitem__) is holds


NO_CONDITIONS = [
    ("norm=='none' and", "cannot be read"),
    ("norm='none'", "cannot be read"),
    ("", "cannot be read"),
    ("__import__('os').system('true')", "has no meaning here"),
    ("norm.__class__ == 1 and (lambda: 1)()", "has no meaning here"),
    ("[d for d in depth] == []", "has no meaning here"),
    ("open('x')", "'open('x')' has no meaning here; allowed: names, numbers"),
    ("max(depth, key=abs)", "has no meaning here"),
    ("f'{norm}' == 'none'", "has no meaning here"),
    ("(norm := 'x') == 'x'", "has no meaning here"),
    ("depth if norm else 3", "has no meaning here"),
    ("depth & 3 == 1", "has no meaning here"),
    ("b'x' == norm", "has no meaning here"),
]


@pytest.mark.parametrize(("text", "told"), NO_CONDITIONS)
def test_what_is_no_expression_or_more_than_one_is_refused_unseen(text, told):
    with pytest.raises(ConfigError) as caught:
        Where(text)
    assert str(caught.value).startswith(f"sweep.where={text}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value).replace(text, "")


WRONG = [
    ("norm > 3", "'norm > 3': a word ('none') cannot be compared with a number (3)"),
    ("depth", "gives 60, not true or false"),
    ("norm and depth > 3", "'norm': 'none' is neither true nor false"),
    ("not depth", "'not depth': 60 is neither true nor false"),
    ("depth / 0 > 1", "'depth / 0': division by zero"),
    ("norm - 1 == 3", "'norm - 1': unsupported operand"),
    ("depth in 3", "'depth in 3'"),
    ("2 ** 10000 > depth", "largest power is 64"),
    ("abs(norm) > 3", "'abs(norm)': bad operand"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_values_that_cannot_be_compared_or_computed_with_are_told_in_one_line(text, told):
    with pytest.raises(ConfigError) as caught:
        Where(text)(CELL.__getitem__)
    assert told in str(caught.value)
    assert len(caught.value.lines) == 1


def key(name):
    return {"trainer.max_steps": 500}[name]


def test_a_name_that_no_cell_has_is_refused_and_one_that_few_have_is_not():
    wanted, where = Wanted(), [Where("cell != 'lstm' and trainer.max_steps > 3")]
    assert wanted.keeps(where, {"depth": 2}, key)
    assert not wanted.keeps(where, {"depth": 2, "cell": "lstm"}, key)
    wanted.finish()
    wanted = Wanted()
    assert not wanted.keeps([Where("depth > 9 and nrom == 'none'")], {"depth": 2, "norm": "none"}, key)
    with pytest.raises(ConfigError, match="'nrom' is a name in no cell; allowed: depth, norm; did you mean 'norm'"):
        wanted.finish()


GRID = [{"norm": n, "batch": b, "lr": r} for n in ("none", "batch") for b in (1, 8) for r in (0.1, 0.2)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([lambda c: c["norm"] == "batch" and c["batch"] == 1], "not (norm=='batch' and batch==1)"),
        ([lambda c: c["norm"] == "batch"], "not (norm=='batch')"),
        ([lambda c: c["lr"] == 0.2 and c["batch"] == 8], "not (batch==8 and lr==0.2)"),
        (
            [lambda c: c["norm"] == "batch" and c["lr"] == 0.1, lambda c: c["batch"] == 8 and c["lr"] == 0.2],
            "not (norm=='batch' and lr==0.1) and not (batch==8 and lr==0.2)",
        ),
        ([lambda c: c["norm"] == "batch" or c["batch"] == 1], None),  # no values in common
        ([lambda _: True], None),
    ],
)
def test_the_way_out_drops_the_impossible_cells_and_no_other(bad, said):
    faulty = [[place for place, cell in enumerate(GRID) if is_bad(cell)] for is_bad in bad]
    assert way_out(GRID, faulty) == said
    if said is not None:
        left = [place for place, cell in enumerate(GRID) if Where(said)(cell.__getitem__)]
        assert left == [place for place in range(len(GRID)) if all(place not in places for places in faulty)]
