"""How often the verdict is right: short runs built on purpose, labelled by construction, half of them healthy.

    python benchmarks/diagnosis.py [--held-out] [-j N] [--runs DIR]

Trains every case through gradflow's own machinery with `instruments=full` and prints, as Markdown, precision and recall
per verdict, the confusion table, and every case that was judged otherwise than it was built. `--held-out` takes the
same constructions with another seed and another width, which no threshold has seen.

A label is what a case must be whatever its figures turn out to be; `why` says so. Nothing here looks at a verdict.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = (
    *("hardware=cpu", "logger.mode=disabled", "instruments=full", "instruments.every_n_steps=50", "seed={seed}"),
    *("trainer.max_steps=300", "trainer.val_every_n_steps=150", "trainer.log_every_n_steps=10"),
)
# What the quickstart trains with, and what any healthy network here learns digits with in 300 steps.
TAMED = "optimizer.lr=0.1 scheduler=cosine remedy=[clip_norm,warmup] remedy.warmup.steps=30 width={w}"
# As little training as keeps a network what it was built to be.
SLOW = "optimizer.lr=0.01 remedy=clip_norm width={w}"
PLAIN = "remedy=none width={w}"
STILL = "optimizer.lr=1e-7 width={w}"


def shift(activation: str, widths: str, *, bias: float, lr: float, gain: float = 1.0) -> str:
    """An MLP whose block of 40 units, the only one of that size, has another gain and bias; see `shifted`."""
    return (
        f"activation={activation} init=fan_in_uniform init._target_=diagnosis.shifted +init.rows=40 +init.bias={bias} "
        f"+init.gain={gain} width=[{widths}] depth={widths.count(',') + 1} optimizer.lr={lr}"
    )


HEALTHY_WHY = "critical, normalised or carried by skips: gradients of one order, and digits are easy"
HEALTHY = [
    f"activation=tanh init=glorot_uniform depth=3 {TAMED}",
    f"activation=tanh init=glorot_uniform depth=10 {TAMED}",
    f"activation=tanh init=glorot_normal depth=5 {TAMED}",
    f"activation=tanh init=orthogonal depth=20 {TAMED}",
    f"activation=tanh init=mean_field init.sigma_w2=1.0 depth=15 {TAMED}",
    f"activation=tanh init=lecun_normal depth=1 {TAMED}",
    f"activation=tanh init=glorot_uniform norm=layer depth=10 {TAMED}",
    f"activation=tanh init=glorot_uniform skip=highway depth=10 {TAMED}",
    f"activation=softsign init=glorot_uniform depth=5 {TAMED}",
    f"activation=linear init=orthogonal depth=5 {TAMED}",
    f"activation=relu init=he_normal depth=1 {TAMED}",
    f"activation=relu init=he_normal depth=3 {TAMED}",
    f"activation=relu init=he_normal depth=10 {TAMED}",
    f"activation=relu init=he_uniform depth=6 {TAMED}",
    f"activation=relu init=he_normal norm=batch depth=5 {TAMED}",
    f"activation=relu init=he_normal norm=batch depth=10 {TAMED}",
    f"activation=relu init=he_normal norm=layer depth=8 {TAMED}",
    f"activation=relu init=he_normal norm=rms depth=8 {TAMED}",
    f"activation=relu init=he_normal skip=preact_residual depth=10 {TAMED}",
    f"activation=relu init=he_normal skip=preact_residual norm=batch depth=20 {TAMED}",
    f"activation=relu init=he_normal skip=residual norm=batch depth=10 {TAMED}",
    f"activation=relu init=he_normal skip=rezero depth=20 {TAMED}",
    f"activation=relu init=he_normal skip=skipinit depth=10 {TAMED}",
    f"activation=relu init=fixup skip=fixup_scalar depth=10 {TAMED}",
    f"activation=relu init=zero_last skip=preact_residual depth=10 {TAMED}",
    f"activation=relu init=he_normal skip=scaled_residual depth=20 {TAMED}",
    f"activation=gelu init=he_normal depth=5 {TAMED}",
    f"activation=silu init=he_normal norm=layer depth=6 {TAMED}",
    f"activation=elu init=he_normal depth=8 {TAMED}",
    f"activation=selu init=lecun_normal depth=10 {TAMED}",
    f"activation=leaky_relu init=he_normal depth=10 {TAMED}",
    f"activation=prelu init=he_normal depth=5 {TAMED}",
    f"activation=sigmoid init=glorot_uniform norm=batch depth=4 {TAMED}",
    "activation=relu init=he_normal depth=5 optimizer=adam width={w}",
    "model=convnet activation=relu init=he_normal depth=3 width=16 optimizer=adam",
    "model=transformer_encoder activation=gelu init=glorot_uniform skip=preact_residual norm=layer depth=2 width=32 "
    "model.patch=2 optimizer=adam",
    "model=recurrent cell=lstm task.view=rows width={w} optimizer=adam optimizer.lr=0.005",
    f"task=gaussian_teacher activation=relu init=he_normal depth=2 {PLAIN} optimizer.lr=0.05",
]
# (label, overrides, why it must be that)
CASES: list[tuple[str, str, str]] = [
    *(("healthy", overrides, HEALTHY_WHY) for overrides in HEALTHY),
    # vanishing: a factor well below 1 per block, to the power of the depth
    ("vanishing", f"activation=sigmoid init=fan_in_uniform depth=10 {TAMED}", "0.14 per block: 3e-9"),
    ("vanishing", f"activation=sigmoid init=fan_in_uniform depth=30 {TAMED}", "0.14 per block: 2e-26"),
    ("vanishing", f"activation=sigmoid init=glorot_uniform depth=20 {TAMED}", "at most 1/4 per block: 1e-12"),
    ("vanishing", f"activation=sigmoid init=fan_in_uniform depth=60 {TAMED}", "1e-51: below float32, reads 0"),
    ("vanishing", f"activation=hard_sigmoid init=glorot_uniform depth=20 {TAMED}", "1/6 per block: 3e-16"),
    ("vanishing", f"activation=tanh init=mean_field init.sigma_w2=0.5 depth=30 {TAMED}", "sqrt(0.5) per block: 3e-5"),
    ("vanishing", f"activation=relu init=mean_field init.sigma_w2=1.0 depth=40 {TAMED}", "sqrt(0.5) per block: 1e-6"),
    ("vanishing", f"activation=tanh init=gaussian init.std=0.01 depth=10 {TAMED}", "0.08 per block: 1e-11"),
    (
        "vanishing",
        "task=adding task.length=60 model=recurrent cell=rnn recurrent_init=spectral_radius recurrent_init.radius=0.3 "
        "optimizer.lr=0.01 remedy=clip_norm width=32 trainer.max_steps=150",
        "at most 0.3 per time step: 1e-30 after sixty",
    ),
    # exploding: a factor well above 1 per block; clipped and slow, so that it neither diverges nor is trained away
    ("exploding", f"activation=relu init=mean_field init.sigma_w2=8.0 depth=30 {SLOW}", "2 per block: 1e9"),
    ("exploding", f"activation=leaky_relu init=mean_field init.sigma_w2=8.0 depth=24 {SLOW}", "2 per block: 2e7"),
    ("exploding", f"activation=linear init=mean_field init.sigma_w2=4.0 depth=30 {SLOW}", "2 per block: 1e9"),
    ("exploding", f"activation=tanh init=mean_field init.sigma_w2=16.0 depth=30 {SLOW}", "chaos: 1.46 per block: 8e4"),
    ("exploding", f"activation=tanh init=mean_field init.sigma_w2=9.0 depth=40 {SLOW}", "chaos: 1.26 per block: 1e4"),
    (
        "exploding",
        "activation=relu init=he_normal norm=batch depth=80 optimizer.lr=0.001 remedy=clip_norm width={w}",
        "batch norm's 1.21 per block (Yang et al. 2019): 4e6",
    ),
    # dead: ReLUs that no example can wake
    ("dead", shift("relu", "{w},40,{w}", bias=-20, lr=0.05), "block 1 gives zeros"),
    ("dead", shift("relu", "{w},40", bias=-20, lr=0.05), "block 1 gives zeros"),
    ("dead", shift("relu", "40,{w},{w},{w}", bias=-20, lr=0.01), "block 0 gives zeros"),
    ("dead", shift("relu6", "{w},40,{w}", bias=-20, lr=0.01), "block 1 gives zeros"),
    ("dead", "activation=relu init=he_normal width=2 depth=40 optimizer.lr=0.05", "born dead (Lu et al. 2020)"),
    ("dead", "activation=relu init=he_normal width=2 depth=60 optimizer.lr=0.05", "born dead: 1 - (3/4)^59"),
    # saturated: the last block's units at their bound for every example; slopes of 2e-4 and 2e-5, which scale the
    # gradients of all blocks alike, and features that differ by as little
    ("saturated", shift("tanh", "{w},{w},40", bias=5, lr=0.05), "tanh'(5) = 2e-4"),
    ("saturated", shift("tanh", "40", bias=5, lr=0.05), "one block"),
    ("saturated", shift("sigmoid", "40", bias=11, lr=0.05), "one block"),
    ("saturated", shift("sigmoid", "{w},40", bias=11, lr=0.05), "a slope of 2e-5"),
    # stagnant: nothing wrong but a step size at which weights move by 1e-5 in 300 steps
    ("stagnant", f"activation=relu init=he_normal depth=5 {STILL}", "does not move"),
    ("stagnant", f"activation=tanh init=glorot_uniform depth=3 {STILL}", "does not move"),
    ("stagnant", f"activation=relu init=he_normal skip=preact_residual norm=layer depth=6 {STILL}", "does not move"),
    ("stagnant", f"activation=selu init=lecun_normal depth=6 {STILL}", "does not move"),
    # diverged: products of matrices that each grow a thousandfold, or a function that squares
    ("diverged", f"activation=linear init=orthogonal depth=5 optimizer.lr=1000 {PLAIN}", "nothing can saturate or die"),
    ("diverged", f"activation=leaky_relu init=he_normal depth=10 optimizer.lr=1000 {PLAIN}", "as before"),
    ("diverged", f"activation=elu init=he_normal depth=10 optimizer.lr=1000 {PLAIN}", "unbounded"),
    (
        "diverged",
        f"activation=squared_relu init=mean_field init.sigma_w2=16.0 depth=12 {PLAIN}",
        "squares twelve times",
    ),
    (
        "diverged",
        f"task=gaussian_teacher activation=linear init=orthogonal depth=3 optimizer.lr=10 {PLAIN}",
        "a step of more than 2 ÷ curvature",
    ),
    # rank collapse: the last block gives 10 + 0.01 signal, one direction, and a step small enough for so large outputs
    ("rank_collapse", shift("relu", "{w},{w},40", bias=10, gain=0.01, lr=0.001), "10 + 0.01 signal"),
    ("rank_collapse", shift("relu", "{w},40", bias=10, gain=0.01, lr=0.001), "10 + 0.01 signal"),
    ("rank_collapse", shift("leaky_relu", "{w},{w},{w},{w},40", bias=10, gain=0.01, lr=0.001), "10 + 0.01 signal"),
    ("rank_collapse", shift("elu", "{w},{w},40", bias=10, gain=0.01, lr=0.001), "10 + 0.01 signal"),
]


def shifted(weight, generator, /, *, rows: int = 0, bias: float = 0.0, gain: float = 1.0) -> None:
    """N(0, c/fan_in), c = 1; of the block with `rows` units gain² c, and `bias`."""
    here = weight.role == "block" and weight.tensor.shape[0] == rows
    weight.tensor.normal_(0, (gain if here else 1.0) / weight.fan_in**0.5, generator=generator)
    if here:
        weight.bias.fill_(bias)


def judge(case: tuple[int, str, int, int, str]) -> tuple[int, str, str]:
    """(number, verdict, what decided) of one case, trained here."""
    number, overrides, width, seed, runs = case
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(HERE))
    import torch

    torch.set_num_threads(1)
    from gradflow.runs.compose import composer
    from gradflow.runs.execute import execute
    from gradflow.runs.record import read
    from gradflow.runs.stop import Stop

    words = [word.format(w=width, seed=seed) for word in (*SHARED, *overrides.split())] + [f"paths.runs={runs}"]
    try:
        with composer() as compose:
            config = compose.config(words)
        outcome = execute(config, words, Stop())
    except ValueError as error:
        return number, "refused", str(error)
    record = read(Path(runs) / outcome.run_id)
    if record is None or record.result is None:
        return number, "failed", str(outcome.error)
    figure = record.result["metrics"].get(record.result["metric"])
    signs = record.result["signs"]
    first = f"{signs[0]['name']} {signs[0]['value']:.3g} {signs[0]['where'] or ''}" if signs else "no sign"
    others = ", ".join(sorted({f"{sign['name']}" for sign in signs[1:]}))
    return (
        number,
        record.result["verdict"],
        f"{first}; figure {figure if figure is None else f'{figure:.3g}'}; also {others}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true", help="another seed and width")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--runs", help="where records are kept; a temporary folder unless given")
    parser.add_argument("--all", action="store_true", help="tell every case, not only those judged otherwise")
    options = parser.parse_args()
    width, seed = (48, 7) if options.held_out else (64, 0)
    runs = options.runs or tempfile.mkdtemp(prefix="gradflow-diagnosis-")
    began = time.monotonic()
    cases = [(i, overrides, width, seed, runs) for i, (_, overrides, _) in enumerate(CASES)]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        found = {number: (verdict, told) for number, verdict, told in pool.map(judge, cases)}
    print(report([(CASES[i][0], found[i][0]) for i in sorted(found)]))
    for i, (label, overrides, why) in enumerate(CASES):
        if options.all or found[i][0] != label:
            print(f"- {label} judged {found[i][0]}: `{overrides.format(w=width)}` ({why}): {found[i][1]}")
    print(
        f"\n{len(CASES)} runs, seed {seed}, width {width}, {time.monotonic() - began:.0f} s, {options.jobs} processes"
    )


def report(pairs: list[tuple[str, str]]) -> str:
    """Precision and recall per verdict, and the confusion table, as Markdown."""
    said = Counter(pairs)
    labels = list(dict.fromkeys(label for label, _ in pairs))
    verdicts = [*labels, *sorted({verdict for _, verdict in pairs} - set(labels))]
    lines = ["| verdict | runs | precision | recall |", "| --- | ---: | ---: | ---: |"]
    for label in labels:
        right, built = said[label, label], sum(n for (a, _), n in said.items() if a == label)
        judged = sum(n for (_, b), n in said.items() if b == label)
        precision = f"{right / judged:.2f} ({right}/{judged})" if judged else "–"
        lines.append(f"| {label} | {built} | {precision} | {right / built:.2f} ({right}/{built}) |")
    right = sum(n for (a, b), n in said.items() if a == b)
    lines.append(f"| all | {len(pairs)} | | {right / len(pairs):.2f} ({right}/{len(pairs)}) |")
    lines += ["", "| built ↓ judged → | " + " | ".join(verdicts) + " |", "| --- |" + " ---: |" * len(verdicts)]
    lines += [f"| {a} | " + " | ".join(str(said[a, b] or "·") for b in verdicts) + " |" for a in labels]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
