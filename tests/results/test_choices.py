"""What tells runs apart: one word for a network, and nothing twice."""

import pytest

from gradflow.results.choices import planned, pooled, varying, with_the_network
from gradflow.results.table import make_table
from gradflow.runs.planfile import collect

CELLS = ("rnn", "irnn", "lstm", None)


def runs_of(records):
    return planned(collect(records.sweep())).values()


def test_one_word_tells_networks_apart_with_all_that_goes_with_each(records, recurrent):
    """Model, cell, activation, recurrent_init, init and their keys all differ; each follows from the network."""
    for length in (100, 50):
        for cell in CELLS:
            recurrent(cell=cell, **{"task.length": length})
    table = make_table(collect(records.sweep()))
    assert table.rows == ["task.length", "network"]
    assert [tuple(line.labels.values()) for line in table.lines] == [
        (length, network) for length in (50, 100) for network in ("rnn", "irnn", "lstm", "esn")
    ]
    assert "differ in" not in "\n".join(table.notes)


def test_what_goes_with_the_network_and_is_no_part_of_it_is_told_below(records, recurrent):
    for cell, rate in zip(CELLS, (1e-3, 1e-4, 1e-3, 1e-3), strict=True):
        recurrent(cell=cell, **{"optimizer.lr": rate})
    assert with_the_network(runs_of(records)) == [
        "width: 8 (rnn, irnn, lstm), 500 (esn)",
        "optimizer.lr: 0.001 (rnn, lstm, esn), 0.0001 (irnn)",
    ]
    notes = make_table(collect(records.sweep())).notes
    assert "optimizer.lr: 0.001 (rnn, lstm, esn), 0.0001 (irnn)" in notes


def test_what_a_network_has_not_is_not_told_of_it(records, recurrent):
    for cell, rate in zip(CELLS, (1e-3, 1e-4, 1e-3, None), strict=True):
        recurrent(cell=cell, **{"optimizer.lr": rate, "optimizer": None if cell is None else "adam"})
    told = [line for line in with_the_network(runs_of(records)) if line.startswith("optimizer")]
    assert told == ["optimizer.lr: 0.001 (rnn, lstm), 0.0001 (irnn)"]


@pytest.mark.parametrize(
    ("varied", "rows"),
    [
        ([{"cell": "rnn"}, {"cell": "lstm", "optimizer.lr": 1}, {"cell": "lstm"}], ["optimizer.lr", "network"]),
        ([{"cell": "rnn"}, {"cell": "rnn", "activation": "relu"}], ["activation"]),
        ([{"cell": "rnn"}, {"cell": "rnn", "activation": "relu"}, {"cell": "lstm"}], ["activation", "network"]),
        ([{"cell": "rnn", "recurrent_init.radius": r} for r in (0.5, 1)], ["recurrent_init.radius"]),
        ([{"cell": "lstm", "cell.forget_bias": b} for b in (0, 1)], ["cell.forget_bias"]),
        ([*({"cell": "lstm", "zoneout": z} for z in (0, 1)), {"cell": "gru", "zoneout": 0}], ["zoneout", "network"]),
        ([{"cell": "lstm"}, {"cell": "lstm", "task.length": 9}], ["task.length"]),
        ([{"cell": "lstm"}, {"cell": "gru", "task": "copying", "depth": 2}], ["task", "network"]),
        ([{"cell": "rnn"}, {"cell": "rnn", "recurrent_init": "identity", "init": "gaussian"}], ["recipe"]),
        ([{"cell": None}, {"cell": None, "model.spectral_radius": 1.2}], ["model.spectral_radius"]),
    ],
    ids=str,
)
def test_rows_of_recurrent_runs(records, recurrent, varied, rows):
    for labels in varied:
        recurrent(**labels)
    assert varying(runs_of(records)) == rows


def test_feed_forward_runs_have_no_network(records):
    """Not even where their labels say the word: the model's tells as much."""
    for model in ("mlp", "convnet"):
        records.add(model=model, network=model)
    assert varying(runs_of(records)) == ["model"]
    records.add(model="mlp")
    assert all("network" not in labels for labels in list(runs_of(records))[2:])


def test_a_network_beside_a_feed_forward_one(records, recurrent):
    recurrent(cell="lstm", task="digits", **{"task.length": None})
    records.add(depth=1)
    assert varying(runs_of(records)) == ["network"]
    assert [labels["network"] for labels in runs_of(records)] == ["lstm", "mlp"]


def test_pooled_networks_are_told_in_one_word(records, recurrent):
    for cell in CELLS:
        recurrent(cell=cell)
    runs = list(runs_of(records))
    assert pooled([runs], runs) == ["network"]
    assert pooled([runs[:1], runs[1:2]], runs) == []
