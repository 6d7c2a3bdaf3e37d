"""Which rows, charts and pictures W&B is given, from numbers made by hand."""

import numpy as np
import pytest

from gradflow.runs import time_watch, wandb_history
from gradflow.runs import wandb_keys as keys
from gradflow.runs.wandb_history import History
from gradflow.runs.wandb_images import ABSENT, BROKEN, HEIGHT, LEFT, TOP, WIDTH, ZERO, caption, draw


def fill(history: History, step: int, blocks: int, quantities=("grad_norm",), value=lambda block: 10.0**-block) -> None:
    for quantity in quantities:
        for block in range(blocks):
            history.measured(step, (f"blocks.{block:02d}", block, quantity), value(block))


def test_a_step_has_one_row_once_nothing_more_can_come_to_it():
    history = History(0)
    history.figure(10, {"train/loss": 1.0})
    fill(history, 10, 2)
    assert history.rows(10, 0.2) == []
    history.figure(10, {"val/accuracy": 0.5})
    history.figure(20, {"train/loss": 0.9})
    ((step, row),) = history.rows(20, 0.4)
    norms = {"gradflow/grad_norm/00": 1.0, "gradflow/grad_norm/01": 0.1, "gradflow/gradient_ratio": 10.0}
    assert (step, row) == (10, {"train/loss": 1.0, "val/accuracy": 0.5, **norms})
    assert [step for step, _ in history.rows(float("inf"), 1.0)] == [20]


def test_beyond_so_many_blocks_there_are_quantiles_and_both_ends():
    history = History(0)
    fill(history, 0, 33, value=lambda block: float(block))
    fill(history, 0, 33, ["update_ratio"], value=lambda block: float("nan") if block else 3.0)
    ((_, row),) = history.rows(1, 0.0)
    levels = np.quantile(np.arange(33.0), [0, 0.1, 0.5, 0.9, 1])
    words = ["min", "q10", "median", "q90", "max"]
    expected = {f"gradflow/grad_norm/{w}": level for w, level in zip(words, levels, strict=True)}
    expected |= {"gradflow/grad_norm/00": 0.0, "gradflow/grad_norm/32": 32.0, "gradflow/gradient_ratio": 0.0}
    assert {key: value for key, value in row.items() if "update" not in key} == pytest.approx(expected)
    assert row["gradflow/update_ratio/max"] == 3.0
    assert set(keys.over_blocks("grad_norm", 33)) == set(expected) - {keys.GRADIENT_RATIO}


@pytest.mark.parametrize("blocks", [1, 8, 9, 32, 33, 1000])
def test_there_are_at_most_a_few_hundred_keys_however_deep(blocks):
    from gradflow.instruments.names import NAMES

    history = History(4)
    others = [f"quantity_{i}" for i in range(2 * len(NAMES))]  # an instrument has about two quantities
    quantities = [*keys.MAIN, *others, "grad_rms", "grad_max", "group.weights/x"]
    fill(history, 0, blocks, quantities)
    for block in range(blocks):
        for exponent in range(-60, -20):
            history.measured(0, (f"blocks.{block}", block, f"grad_histogram/{exponent}"), 3.0)
    for_each = {"memory_horizon_1%", "memory_horizon_0.1%", "time_decay", "jacobian_decay", "forget_leak"}
    of_time = [*for_each, *(f"lyapunov_{i}" for i in range(1, 5))]
    history.through_time(
        {"step": 0, "block": block, "name": f"blocks.{block}.{way}", "time": None, "quantity": each, "value": block}
        for block in range(blocks)
        for way in ("forward", "backward")
        for each in of_time
    )
    ((_, row),) = history.rows(1, 1.0)
    assert len(row) < 600
    assert len([key for key in row if "/time_decay/" in key]) == 2 * (blocks if blocks <= keys.FEW_BLOCKS else 7)
    if blocks > keys.FEW_BLOCKS:
        median = keys.quantity_key("time_decay", "median_backward")
        assert row[median] == (blocks - 1) / 2
    assert keys.quantity_key("lyapunov_4", keys.block(blocks - 1, blocks, ".forward")) in row
    assert not any(word in key for key in row for word in ("grad_rms", "grad_max", "weights"))
    for quantity in [*keys.MAIN, *others]:
        assert set(keys.over_blocks(quantity, blocks)) <= set(row)
    assert sorted(key for key in row if "/grad_norm/" in key) == sorted(keys.over_blocks("grad_norm", blocks))


def test_pictures_come_at_equal_shares_of_a_run_and_at_its_end():
    history, shown = History(4), []
    for step in range(0, 100, 5):
        fill(history, step, 3)
        shown += [(at, row) for at, row in history.rows(step, step / 100) if keys.HEAT_MAP in row]
    shown += [(at, row) for at, row in history.rows(float("inf"), 1.0) if keys.HEAT_MAP in row]
    assert [at for at, _ in shown] == [20, 45, 70, 95]
    last = shown[-1][1][keys.HEAT_MAP]
    assert last.steps.tolist() == list(range(0, 100, 5))
    assert last.values.shape == (3, 20)
    np.testing.assert_allclose(last.values[:, 7], [1, 0.1, 0.01], rtol=1e-6)
    assert shown[-1][1][keys.BLOCK_NORMS].counts.sum() == 3
    never = History(0)
    fill(never, 0, 3)
    assert keys.HEAT_MAP not in never.rows(1, 1.0)[0][1]


def test_a_heat_map_of_many_steps_and_blocks_is_thinned_out_evenly():
    history = History(1)
    for step in range(1100):
        fill(history, step, 260, value=lambda block, step=step: float(block + step))
        history.rows(step, 0.0)
    ((_, row),) = history.rows(float("inf"), 1.0)
    shown = row[keys.HEAT_MAP]
    assert shown.values.shape[0] == 256
    assert 256 < len(shown.steps) <= 513
    assert len(set(np.diff(shown.steps))) == 1
    np.testing.assert_array_equal(shown.values, shown.rows[:, None] + shown.steps[None])


def test_histograms_of_the_gradient_hold_its_elements_by_octave():
    history = History(1)
    for block in range(20):
        for label, count in (("-3", 5), ("-1", 2), ("zero", 100), ("nonfinite", 1)):
            history.measured(0, (f"blocks.{block:02d}", block, f"grad_histogram/{label}"), count)
    fill(history, 0, 20)
    ((_, row),) = history.rows(1, 1.0)
    shown = {key: value for key, value in row.items() if key.startswith("histogram/gradient")}
    assert list(shown) == [f"histogram/gradient/{block:02d}" for block in (0, 3, 5, 8, 11, 14, 16, 19)]
    counts, edges = shown["histogram/gradient/00"].counts, shown["histogram/gradient/00"].edges
    assert (counts.tolist(), edges.tolist()) == ([5, 0, 2], [-3, -2, -1, 0])


def test_of_the_time_axis_there_are_summaries_and_a_heat_map():
    history = History(1)
    rows = [
        {"step": 0, "block": 0, "name": "blocks.00", "time": t, "quantity": "time_grad_h", "value": 2.0**t}
        for t in range(5)
    ]
    rows += [{"step": 0, "block": 0, "name": "blocks.00", "time": None, "quantity": "memory_horizon_1%", "value": 3.0}]
    rows += [
        {"step": 0, "block": 0, "name": "blocks.00.backward", "time": t, "quantity": "forget_leak", "value": t + 0.5}
        for t in range(5)
    ]
    # a training step between the probes, of which only the ends of segments are known
    rows += [{**rows[0], "step": 10, "time": t} for t in (1, 3)]
    history.through_time(rows)
    ((_, row),) = history.rows(1, 1.0)
    shown = row.pop(keys.TIME_HEAT_MAP)
    assert shown.steps.tolist() == [0]
    assert row == {"gradflow/memory_horizon_1_percent/00": 3.0, "gradflow/forget_leak/00_backward": 0.5}
    assert shown.values[:, 0].tolist() == [1, 2, 4, 8, 16]
    assert wandb_history.SUMMARIES == time_watch.SUMMARIES

    ends = History(1)  # without probes, they are what there is
    ends.through_time(rows[-2:])
    ends.figure(10, {"train/loss": 1.0})
    ((_, row),) = ends.rows(11, 1.0)
    assert (row[keys.TIME_HEAT_MAP].rows.tolist(), row[keys.TIME_HEAT_MAP].steps.tolist()) == ([1, 3], [10])


def test_rows_of_a_record_give_what_the_run_gave():
    first, second = History(1), History(1)
    gradflow = [
        {"step": s, "block": b, "name": f"blocks.0{b}", "time": None, "quantity": "grad_norm", "value": s + b + 1.0}
        for s in (0, 10)
        for b in range(3)
    ]
    for row in gradflow:
        first.measured(row["step"], (row["name"], row["block"], row["quantity"]), row["value"])
    first.figure(10, {"train/loss": 0.5})
    second.recorded([{"step": 10, "epoch": 0, "split": "train", "name": "loss", "value": 0.5}], gradflow)
    ours, theirs = first.rows(11, 1.0), second.rows(11, 1.0)
    assert [step for step, _ in ours] == [step for step, _ in theirs] == [0, 10]
    np.testing.assert_array_equal(ours[1][1].pop(keys.HEAT_MAP).values, theirs[1][1].pop(keys.HEAT_MAP).values)
    for _, row in (ours[1], theirs[1]):
        row.pop(keys.BLOCK_NORMS)
    assert ours == theirs


def test_an_image_has_the_colours_of_its_numbers():
    values = np.array([[1e-4, 1e-2, 1.0], [0.0, np.inf, np.nan]], dtype=np.float32)
    shown = wandb_history.HeatMap(values, np.arange(2), np.array([0, 10, 20]), "block", "gradient norm")
    picture = draw(shown)
    at = lambda row, column: picture.getpixel(  # noqa: E731
        (LEFT + int((column + 0.5) * WIDTH / 3), TOP + int((row + 0.5) * HEIGHT / 2))
    )
    assert [at(1, column) for column in range(3)] == [ZERO, BROKEN, ABSENT]
    assert [at(0, column) for column in range(3)] == [(0x44, 1, 0x54), (0x21, 0x91, 0x8C), (0xFD, 0xE7, 0x25)]
    for word in ("exactly zero", "infinite", "not a number", "block 0 at the top"):
        assert word in caption(shown)
    assert draw(wandb_history.HeatMap(np.zeros((2, 1)), np.arange(2), np.array([0]), "block", "gradient norm")).size
