"""The names that a run has at W&B: of its history, its summary and its config. Whoever shows them takes them from here.

History, under keys whose first part is the section of W&B's page that they appear in:

| key | what |
| --- | --- |
| `train/loss`, `val/accuracy`, `test/loss`, `pretrain/loss` … | losses and metrics, `<split>/<name>` |
| `gradflow/<quantity>/<block>` | of each block, e.g. `gradflow/grad_norm/07`; block 0 is nearest the input |
| `gradflow/<quantity>/stem`, `…/head`, `…/all` | of what is not a block, and of the whole network |
| `gradflow/<quantity>/min`, `…/q10`, `…/median`, `…/q90`, `…/max` | over the blocks, where they are too many |
| `gradflow/gradient_ratio` | grad_norm of the first block ÷ of the last, at one step |
| `gradflow/<summary>/<layer>` | of a recurrent layer's time axis, e.g. `gradflow/time_decay/00` |
| `heat_map/grad_norm`, `heat_map/time_grad` | images: block × step, and time step × step |
| `histogram/gradient/<block>`, `histogram/block_norms` | log2 of a gradient's elements; log10 of the blocks' norms |

W&B's page draws a chart per key, and freezes at thousands. So there are at most a few hundred, however deep a network
is: `MAIN` quantities have a chart per block up to `MOST_BLOCKS` blocks, all others, those of the time axis too, up to
`FEW_BLOCKS`; beyond that the five quantiles with the first and the last block, of each direction of recurrent layers.

W&B asks for no dots in names ("use dashes or underscores instead of periods"): it reads a dot as a step into a nested
mapping, so that a filter, a grouping or an axis on a flat `optimizer.lr` looks for `lr` inside `optimizer` and finds
nothing. Labels, which have dots, thus become config keys with dashes, `optimizer-lr`, and can be read back.
Needs no wandb.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

STEP = "_step"  # W&B's own, which is the training step; every chart has it as its x-axis

MAIN = ("grad_norm", "grad_norm_clipped", "delta_norm", "update_ratio", "activation_dead")
MOST_BLOCKS, FEW_BLOCKS = 32, 8
QUANTILES = {"min": 0.0, "q10": 0.1, "median": 0.5, "q90": 0.9, "max": 1.0}
WHOLE = ("stem", "head", "all")  # what has a chart of a main quantity beside the blocks

GRADIENT_RATIO = "gradflow/gradient_ratio"
HEAT_MAP = "heat_map/grad_norm"
TIME_HEAT_MAP = "heat_map/time_grad"
BLOCK_NORMS = "histogram/block_norms"

# --- the summary ------------------------------------------------------------------------------------------------

STATE = "state"  # running, completed, diverged, preempted, failed
VERDICT = "verdict"
VERDICT_IS = "verdict_is/"  # 1 for the run's verdict and 0 for each other: W&B's bars count numbers, not words
STEPS = "steps"
DIVERGED_AT = "diverged_at"
FINAL_RATIO = "gradient/ratio"
SOLVED_AT = "solved_at_step"
MEMORY_HORIZON = "time/memory_horizon_1_percent"  # in time steps, of the last probe; absent where it is longer
TRAIN_SECONDS = "cost/train_seconds"
STEPS_PER_SECOND = "cost/steps_per_second"
PARAMETERS = "cost/parameters"
PEAK_MEMORY = "cost/peak_memory_bytes"
CHANCE = "chance"
RECORD = "record"  # result.json as one line, from which `gradflow import-wandb` makes the record again
FINAL = "final/"
SIGN = "diagnosis/"
ENVIRONMENT = "environment/"


def final(metric: str) -> str:
    """The summary's key of a final metric.

    >>> final("test/accuracy")
    'final/test/accuracy'
    """
    return FINAL + metric


def verdict_is(word: str) -> str:
    """The summary's key of whether that is the verdict.

    >>> verdict_is("healthy")
    'verdict_is/healthy'
    """
    return VERDICT_IS + word


def sign(name: str, part: str) -> str:
    """The summary's key of a sign of the diagnosis; `part` is 'value', 'threshold' or 'where'.

    >>> sign("gradient_ratio", "value")
    'diagnosis/gradient_ratio/value'
    """
    return f"{SIGN}{name}/{part}"


def environment(name: str) -> str:
    """The summary's key of a fact of the environment, e.g. 'environment/torch'."""
    return ENVIRONMENT + name


# --- the config -------------------------------------------------------------------------------------------------


def config_key(label: str) -> str:
    """The config key of a label; a dash of its own is doubled.

    >>> config_key("optimizer.lr"), config_key("depth")
    ('optimizer-lr', 'depth')
    """
    return label.replace("-", "--").replace(".", "-")


def label_of(key: str) -> str:
    """The label of a config key.

    >>> label_of("optimizer-lr"), label_of(config_key("my-task.length"))
    ('optimizer.lr', 'my-task.length')
    """
    return re.sub("--?", lambda dash: "." if dash[0] == "-" else "-", key)


# --- the history ------------------------------------------------------------------------------------------------


@cache
def quantity_key(quantity: str, where: str) -> str:
    """The history's key of a quantity of a block ('07'), of what is no block ('head') or over the blocks ('median').

    >>> quantity_key("grad_norm", "07"), quantity_key("memory_horizon_1%", "00")
    ('gradflow/grad_norm/07', 'gradflow/memory_horizon_1_percent/00')
    """
    return f"gradflow/{plain(quantity)}/{where}"


@cache
def block(index: int, blocks: int, name: str = "") -> str:
    """A block's place in a key, zero-padded so that charts stand in the blocks' order.

    Args:
        index: 0 is nearest the input.
        blocks: how many there are.
        name: of which the direction of a bidirectional layer is kept.

    >>> block(7, 10), block(7, 1000), block(0, 1, "blocks.00.forward")
    ('07', '007', '00_forward')
    """
    return directed(f"{index:0{max(2, len(str(blocks - 1)))}d}", direction(name))


def direction(name: str) -> str:
    """'forward' or 'backward', where that is the end of a layer's name; else ''."""
    return next((word for word in ("forward", "backward") if name.rpartition(".")[2] == word), "")


def directed(place: str, direction: str) -> str:
    """A place in a key, of one direction of bidirectional layers; '' is that of others."""
    return f"{place}_{direction}" if direction else place


def histogram(where: str) -> str:
    """The key of the histogram of a block's gradient."""
    return f"histogram/gradient/{where}"


def per_block(quantity: str, blocks: int) -> bool:
    """Whether each block of a quantity has a key of its own; else `over_blocks` says which there are."""
    return blocks <= (MOST_BLOCKS if quantity in MAIN else FEW_BLOCKS)


def over_blocks(quantity: str, blocks: int) -> list[str]:
    """All keys that a quantity has of its blocks.

    >>> over_blocks("grad_norm", 100)[:2], over_blocks("grad_norm", 100)[-2:]
    (['gradflow/grad_norm/min', 'gradflow/grad_norm/q10'], ['gradflow/grad_norm/00', 'gradflow/grad_norm/99'])
    """
    places: Iterable[str] = (block(i, blocks) for i in range(blocks))
    if not per_block(quantity, blocks):
        places = (*QUANTILES, block(0, blocks), block(blocks - 1, blocks))
    return [quantity_key(quantity, place) for place in places]


def plain(word: str) -> str:
    """A word without what W&B or a terminal might take for something else."""
    return re.sub(r"[^\w/-]", "_", word.replace("%", "_percent"))
