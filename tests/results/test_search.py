"""Tables and pictures of a search, from trials made by hand."""

import csv

import pytest
from matplotlib.figure import Figure

from gradflow.results.pictures import search as search_pictures
from gradflow.results.search import Found, Key, Trial, Tuned, best, front, publish, so_far, to_rich

LOSS, ACCURACY, COST = ("val/loss", False), ("val/accuracy", True), ("cost/parameters", False)
KEYS = [Key("optimizer.lr", log=True), Key("optimizer", ("sgd", "adam"))]


def trial(number, *values, state="complete", rate=0.1, word="sgd"):
    params = {"optimizer.lr": rate, "optimizer": word}
    return Trial(number, state, list(values) or None, params, f"run{number}")


def found(*techniques, metrics=(LOSS,), keys=KEYS, trials=8):
    return Found("hand", list(metrics), list(keys), list(techniques), trials)


def tuned(*trials, name="activation=relu", slug="relu", **importance):
    return Tuned(name, slug, list(trials), {key.replace("_", "."): share for key, share in importance.items()})


MIXED = tuned(
    trial(0, 2.0, rate=0.01),
    trial(1, state="diverged", rate=9.0),
    trial(2, 0.1, state="pruned"),
    trial(3, 1.0, word="adam"),
    trial(4, 1.0),
    trial(5, state="failed"),
    trial(6, 1.5),
)


@pytest.mark.parametrize(("metric", "number"), [(LOSS, 3), (ACCURACY, 0)])
def test_the_best_is_the_first_of_equals_and_never_one_that_was_pruned(metric, number):
    assert best(found(MIXED, metrics=[metric]), MIXED).number == number
    assert best(found(MIXED, metrics=[metric]), tuned(trial(0, state="diverged"))) is None


def test_the_history_is_of_bests():
    assert so_far(found(MIXED), MIXED) == [(0, 2.0), (3, 1.0)]
    assert so_far(found(MIXED, metrics=[ACCURACY]), MIXED) == [(0, 2.0)]


def test_a_front_is_what_nothing_beats():
    trials = [
        trial(0, 0.9, 10), trial(1, 0.8, 5), trial(2, 0.8, 7), trial(3, 0.95, 10), trial(4, 0.1, 1), trial(5, 0.1, 1),
        trial(6, 0.99, 0, state="pruned"), trial(7, state="diverged"),
    ]  # fmt: skip
    two = found(metrics=[ACCURACY, COST])
    assert [each.number for each in front(two, trials)] == [3, 1, 4]
    assert [each.number for each in front(found(metrics=[LOSS, COST]), trials)] == [4]


def test_tables_say_the_same_in_every_format(tmp_path):
    none = tuned(trial(0, state="diverged"), name="activation=tanh", slug="tanh")
    files = publish(found(MIXED, none), tmp_path)
    header, first, second = csv.reader((tmp_path / "best.csv").read_text().splitlines())
    assert header == ["technique", "val/loss", "optimizer.lr", "optimizer", "trial", "run", "complete", "pruned",
                      "diverged", "failed"]  # fmt: skip
    assert first == ["activation=relu", "1.0", "0.1", "adam", "3", "run3", "4", "1", "1", "1"]
    assert second == ["activation=tanh", "", "", "", "", "", "0", "0", "1", "0"]
    markdown = (tmp_path / "best.md").read_text().splitlines()
    assert markdown[2] == "| activation=relu | 1 | 0.1 | adam | 3 | run3 | 4 | 1 | 1 | 1 |"
    assert markdown[3].startswith("| activation=tanh | – | – |")
    shown = to_rich(found(MIXED, none))
    assert [column.header.plain for column in shown.columns] == header
    assert [cell.plain for cell in shown.columns[1].cells] == ["1", "–"]
    assert {file.name for file in files} == {"best.csv", "best.md", "history.png", "history.svg"}
    assert all(file.stat().st_size > 100 for file in files)


def test_of_several_metrics_every_compromise_is_shown(tmp_path):
    technique = tuned(trial(0, 0.9, 10.0), trial(1, 0.8, 5.0), trial(2, 0.7, 7.0))
    files = publish(found(technique, metrics=[ACCURACY, COST]), tmp_path)
    rows = list(csv.reader((tmp_path / "best.csv").read_text().splitlines()))
    assert [row[1:3] for row in rows[1:]] == [["0.9", "10.0"], ["0.8", "5.0"]]
    assert {"pareto.png", "pareto.svg"} <= {file.name for file in files}


# --- pictures ----------------------------------------------------------------------------------------------------


def points(axis):
    """(x, y, marker) of all that is not a line."""
    return [(*line.get_xydata()[0], line.get_marker()) for line in axis.lines if line.get_marker() not in ("None", "")]


def test_the_history_shows_every_trial_and_what_has_no_value_at_the_worst_end():
    figure = search_pictures.history(found(MIXED, tuned(trial(0, 3.0), name="b", slug="b")))
    left, right = figure.axes
    assert [axis.get_title() for axis in (left, right)] == ["activation=relu", "b"]
    assert left.get_ylim() == right.get_ylim()
    worst = left.get_ylim()[1]
    assert points(left) == [
        (0, 2.0, "o"), (1, worst, "x"), (2, 0.1, "^"), (3, 1.0, "o"), (4, 1.0, "o"), (5, worst, "+"), (6, 1.5, "o")
    ]  # fmt: skip
    (line,) = [line for line in left.lines if line.get_marker() in ("None", "")]
    assert [tuple(xy) for xy in line.get_xydata()] == [(0, 2.0), (3, 1.0), (6, 1.0)]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["best so far", "complete", "pruned (last value)", "diverged (no value)", "failed (no value)"]


def test_a_larger_metric_has_its_worst_end_below():
    figure = search_pictures.history(found(tuned(trial(0, 0.5), trial(1, 0.9), trial(2, state="diverged")),
                                           metrics=[ACCURACY]))  # fmt: skip
    (axis,) = figure.axes
    assert points(axis)[2] == (2, axis.get_ylim()[0], "x")
    assert axis.get_ylabel() == "validation accuracy"


def test_one_value_far_off_does_not_squeeze_the_others():
    values = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1e28]
    figure = search_pictures.history(found(tuned(*(trial(i, value) for i, value in enumerate(values)))))
    (axis,) = figure.axes
    assert 1.5 < axis.get_ylim()[1] < 4
    assert points(axis)[-1][1] == axis.get_ylim()[1]
    assert axis.lines[len(values) - 1].get_markerfacecolor() == "white"
    assert "beyond the scale" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_what_matters_comes_first_and_a_choice_has_its_words():
    figure = search_pictures.importance(found(MIXED), tuned(*MIXED.trials, optimizer=0.8, optimizer_lr=0.2))
    bars, by_word, by_rate = figure.axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["optimizer", "optimizer.lr"]
    assert [bar.get_width() for bar in bars.patches] == [0.8, 0.2]
    assert [text.get_text() for text in bars.texts] == ["0.80", "0.20"]
    assert (by_word.get_xlabel(), by_rate.get_xlabel()) == ("optimizer", "optimizer.lr")
    assert by_rate.get_xscale() == "log"
    assert [x for x, *_ in points(by_word)] == [0, 0, 0, 1, 0, 0, 0]
    figure.canvas.draw()
    assert [label.get_text() for label in by_word.get_xticklabels()] == ["sgd", "adam"]


def test_pictures_that_would_say_nothing_are_left_out():
    assert search_pictures.importance(found(MIXED), MIXED) is None  # too few to tell
    assert search_pictures.history(found(tuned(trial(0, state="failed")))) is None
    assert search_pictures.pareto(found(tuned(), metrics=[ACCURACY, COST])) is None
    one = search_pictures.importance(found(MIXED, keys=KEYS[:1]), MIXED)
    assert isinstance(one, Figure)
    assert len(one.axes) == 1


def test_compromises_are_joined_and_the_rest_is_pale():
    technique = tuned(trial(0, 0.9, 100.0), trial(1, 0.8, 1.0), trial(2, 0.7, 50.0))
    figure = search_pictures.pareto(found(technique, metrics=[ACCURACY, COST]))
    (axis,) = figure.axes
    pale = [line for line in axis.lines if line.get_alpha() == 0.3]
    assert [tuple(xy) for line in pale for xy in line.get_xydata()] == [(0.7, 50.0)]
    (steps,) = [line for line in axis.lines if line.get_marker() in ("None", "")]
    assert [tuple(xy) for xy in steps.get_xydata()] == [(0.9, 100.0), (0.8, 1.0)]
    assert axis.get_xlabel() == "validation accuracy (larger is better)"
    assert axis.get_ylabel() == "cost: parameters"
    assert axis.get_yscale() == "log"
    assert len(figure.legends[0].get_texts()) == 2
