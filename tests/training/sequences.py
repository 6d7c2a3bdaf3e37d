"""Small recurrent networks in float64, the same networks in torch.nn, and a learner of a task of sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.recurrence import Recurrence
from gradflow.models.recurrent import recurrent
from gradflow.resources import conf_dir
from gradflow.rng import stream
from gradflow.tasks.task import Task
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd
from gradflow.training.remedy import Remedy
from gradflow.training.schedulers import constant

CELLS = sorted(file.stem for file in (conf_dir() / "cell").glob("*.yaml"))
THEIRS = {"rnn": nn.RNN, "lstm": nn.LSTM}


def network(
    cell: str = "rnn",
    inputs: int = 3,
    outputs: int = 2,
    *,
    depth: int = 1,
    width: int = 5,
    every_step: bool = False,
    activation: Callable[[], nn.Module] = activations.tanh,
    norm: Callable[[int], nn.Module] = norms.none,
    dtype: torch.dtype = torch.float64,
    cell_keys: dict[str, Any] | None = None,
    **keys: Any,
) -> Network:
    """The same whenever it is made; biases are not 0, so that no units are alike."""
    factory = getattr(import_module(f"gradflow.models.cells.{cell}"), cell)
    make = partial(factory, **(cell_keys or {}))
    parts = Parts(depth, width, activation, norm, skips.none, cell=make, every_step=every_step)
    made = recurrent((4, inputs), outputs, parts, **keys)
    generator = stream(0, "weights")
    initialize(made, initializers.glorot_uniform, generator)
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim < 2 or cell == "irnn":  # whose own weights are an identity and nearly 0
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return made.to(dtype)


def layers(net: nn.Module) -> list[Recurrence]:
    return [module for module in net.modules() if isinstance(module, Recurrence)]


def twin(net: Network, cell: str) -> nn.RNNBase:
    """torch's own recurrent layers with the weights of the network's."""
    cells: list[Any] = [layer.cell for layer in layers(net)]
    theirs = THEIRS[cell](cells[0].features, cells[0].width, len(cells), batch_first=True)
    theirs.to(cells[0].bias.dtype)
    with torch.no_grad():
        for index, ours in enumerate(cells):
            getattr(theirs, f"weight_ih_l{index}").copy_(ours.input_weight)
            getattr(theirs, f"weight_hh_l{index}").copy_(ours.recurrent_weight)
            getattr(theirs, f"bias_ih_l{index}").copy_(ours.bias)
            getattr(theirs, f"bias_hh_l{index}").zero_()
    return theirs


def gradients_of(net: Network, theirs: nn.RNNBase, head: Sequence[Tensor]) -> dict[str, Tensor]:
    """The gradients of torch's layers and of the head's copies, by our parameters' names."""
    found = {}
    names = {id(module): name for name, module in net.named_modules()}
    for index, layer in enumerate(layers(net)):
        for ours, other in (("input_weight", "weight_ih"), ("recurrent_weight", "weight_hh"), ("bias", "bias_ih")):
            found[f"{names[id(layer.cell)]}.{ours}"] = getattr(theirs, f"{other}_l{index}").grad
    heads = [name for name, _ in net.named_parameters() if name.startswith("head")]
    return found | {name: p.grad for name, p in zip(heads, head, strict=True)}


def copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.detach().clone().requires_grad_() for p in parameters]


def data(outputs: int, steps: int, batch: int = 3, inputs: int = 3, every_step: bool = False) -> tuple[Tensor, Tensor]:
    """Gaussian x [B, T, inputs] and y, for one output or for outputs at every step."""
    generator = stream(1, "data")
    shape = (batch, steps, outputs) if every_step else (batch, outputs)
    x = torch.randn(batch, steps, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randn(shape, generator=generator, dtype=torch.float64)


def learn(
    net: Network, task: Task, remedies: Sequence[Remedy], folder: Path, steps: int = 1, lr: float = 0.5, **options: Any
) -> Learner:
    """Trained under Lightning by plain gradient descent; one loss per step is in `figures`."""
    callbacks: list[Callback] = options.pop("callbacks", [])
    module = Learner(
        net,
        task,
        lambda device, rank, world: task.load(Path("unused"), 0, device, rank, world),
        partial(sgd, lr=lr),
        constant,
        Budget(steps, 1, 10**6, 10**6),
        remedies=remedies,
    )
    quiet = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger")
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        default_root_dir=folder,
        **dict.fromkeys(quiet, False),
    )
    trainer.fit(module, weights_only=True, **options)
    return module


def losses(module: Learner) -> list[float]:
    """The loss reported of each training step."""
    return [figure.values["loss"] for figure in module.figures if figure.split == "train"]
