"""What looking costs: training steps that are watched beside those that are not.

    python benchmarks/instruments.py [--depth 50 --width 256 --batch 256 --steps 80 --repeats 5 --threads 1]
    python benchmarks/instruments.py --device cuda

Every contender trains the same network on the same batches with gradflow's own loop, and looks at every fifth step.
What a look costs is the median of the steps at which it looks (with the step before, which puts hooks on), less the
median of the steps around them in the same run, as a share of the latter: whatever else the machine does falls on both.
That is the ratio to the run with instruments off, but for what is done once; at every n-th step it is the n-th part.
`off` is that difference where nothing looks: the noise. `cheap` looks at updates at every second look and at weights
at every fourth; the mean of four looks is given. Contenders take turns; figures are medians over the turns, with the
smallest and the largest. Time is CPU time, on a GPU the clock's when it is done with a step; W&B's own watching is left
out where W&B is not installed. `--each` lists every instrument by itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.instruments.names import NAMES, PRESETS
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts
from gradflow.rng import stream
from gradflow.runs.execute import quiet
from gradflow.tasks.digits import digits
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd
from gradflow.training.schedulers import constant

try:
    import wandb
except ImportError:  # on a machine lent without it
    wandb = None  # type: ignore[assignment]

EVERY = 5  # steps between two looks
OPTIONS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Naive(Callback):
    """What one would write first: one number at a time."""

    def __init__(self, every: int) -> None:
        self.every, self.kept = every, []  # type: ignore[var-annotated]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.global_step % self.every == 0:
            self.kept.append({n: p.grad.norm().item() for n, p in pl_module.named_parameters() if p.grad is not None})


class WandbWatch(Callback):
    """`wandb.watch(log="gradients")`, W&B offline; a log call at each step that it watches sends what it collected."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert wandb.run is not None
        self.network: torch.nn.Module = pl_module.network  # type: ignore[assignment]
        wandb.watch(self.network, log="gradients", log_freq=self.every)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.global_step % self.every == 0:
            wandb.log({"step": trainer.global_step})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wandb.unwatch(self.network)


def flow(choice: Mapping[str, int]) -> GradientFlow:
    return GradientFlow(clipped=False, instruments=choice)


def intervals(preset: str) -> dict[str, int]:
    return {name: EVERY * times for name, times in PRESETS[preset].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("depth", 50), ("width", 256), ("batch", 256), ("steps", 80), ("repeats", 5), ("threads", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--each", action="store_true", help="every instrument by itself, due at every step")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    contenders: dict[str, Callable[[], Callback | None]] = {"off": lambda: None}
    if args.each:
        contenders |= {name: partial(flow, {name: EVERY}) for name in NAMES}
    else:
        contenders |= {
            "grad_norm": partial(flow, {"grad_norm": EVERY}),
            "cheap": partial(flow, intervals("cheap")),
            "full": partial(flow, intervals("full")),
            "`.item()` per parameter": partial(Naive, EVERY),
        }
        if wandb is not None:
            contenders['wandb.watch(log="gradients")'] = partial(WandbWatch, EVERY)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WANDB_SILENT"] = "true"
        if wandb is not None:
            wandb.init(mode="offline", dir=folder, settings=wandb.Settings(console="off", disable_git=True))
        seconds = measure(args, contenders)
        if wandb is not None:
            wandb.finish()
    print(
        f"depth {args.depth}, width {args.width}, batch {args.batch}, {args.steps} steps, {args.repeats} repeats, "
        f"{args.threads} thread(s); torch {torch.__version__}, lightning {lightning.__version__}, "
        f"{f'wandb {wandb.__version__}' if wandb else 'no wandb'}, "
        f"Python {platform.python_version()}{card(args.device)}"
    )
    print("\n| what looks | a step without, ms | one look: share of a step (min–max) | at every 10th | at every 50th |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, found in seconds.items():
        share = statistics.median(cost for _, cost in found)
        spread = f"{min(c for _, c in found):.0%} to {max(c for _, c in found):.0%}"
        step = 1000 * statistics.median(base for base, _ in found)
        print(f"| {name} | {step:.1f} | {share:+.1%} ({spread}) | {share / 10:+.2%} | {share / 50:+.2%} |")


def measure(
    args: argparse.Namespace, contenders: dict[str, Callable[[], Callback | None]]
) -> dict[str, list[tuple[float, float]]]:
    """(seconds of an unwatched step, cost of a look as a share of it) of every contender in every turn."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(args.repeats + 1):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            took = train(args, contenders[name]())
            due = [i for i in range(len(took)) if i % EVERY == 0 and i >= 2 * EVERY]  # what is done once comes first
            other = statistics.median(t for i, t in enumerate(took) if i > EVERY and i % EVERY not in (0, EVERY - 1))
            looks = [[took[i] + took[i - 1] for i in due if i // EVERY % 4 == k] for k in range(4)]
            look = statistics.mean(statistics.median(each) for each in looks) - 2 * other
            if turn:  # the first turn warms up
                found[name].append((other, look / other))
    return found


def train(args: argparse.Namespace, callback: Callback | None) -> list[float]:
    """Seconds of each step."""
    task = digits(batch_size=args.batch)
    net = mlp((1, 8, 8), 10, Parts(args.depth, args.width, activations.tanh, norms.none, skips.none))
    initialize(net, initializers.glorot_uniform, stream(0, "init"))
    budget = Budget(args.steps, log_every=10, val_every=args.steps + 1, checkpoint_every=args.steps + 1)
    learner = Learner(
        net,
        task,
        lambda device, rank, world: task.load(Path(), 0, device, rank, world),
        partial(sgd, lr=0.01, momentum=0.9),  # type: ignore[arg-type]
        constant,
        budget,
    )
    trainer = Trainer(
        max_epochs=-1,
        callbacks=[callback] if callback else [],
        limit_val_batches=0,
        accelerator=args.device.type,
        **OPTIONS,
    )
    began: list[float] = []
    learner.watchers.append(lambda _: began.append(now(args.device)))
    trainer.fit(learner)
    return [after - before for before, after in pairwise(began)]


def now(device: torch.device) -> float:
    """CPU seconds, or the clock's seconds once a GPU is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def card(device: torch.device) -> str:
    return f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""


if __name__ == "__main__":
    main()
