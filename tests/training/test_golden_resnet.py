"""ResNet-20 on the real CIFAR-10: golden loss curves.

Twenty steps in float64 are the same everywhere but for rounding: any change of model, initialisation, data order,
augmentation or optimiser shows in the sixth digit. Two hundred steps in float32, of which the test takes the first
hundred, are chaotic: rounding errors grow until means over 20 steps differ by 3 % (measured by changing the initial
weights by 3e-7), so that they are compared to 8 %.

    python tests/training/test_golden_resnet.py        # prints the curves anew, after a change that is meant
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.rng import stream
from gradflow.runs.execute import quiet
from gradflow.tasks.cifar10 import cifar10
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd
from gradflow.training.schedulers import step as divided_twice

FILE = Path(__file__).with_name("golden_resnet.json")


def curve(folder: Path, dtype: torch.dtype, batch: int, steps: int, every: int, until: int = -1) -> list[float]:
    """Mean training loss of every `every` steps, by gradflow's own learner on one thread; `until`: of so many."""
    quiet()
    torch.set_num_threads(1)
    task = cifar10(batch_size=batch, augment=True)
    network = resnet(task.input_shape, 10, Parts(9, 16, activations.relu, norms.batch, skips.residual)).to(dtype)
    initialize(network, initializers.he_normal, stream(0, "init"))
    data = task.load(folder, 0, torch.device("cpu"))
    budget = Budget(steps, log_every=every, val_every=steps + 1, checkpoint_every=steps + 1)
    make = partial(sgd, lr=0.1, momentum=0.9, weight_decay=1e-4)
    learner = Learner(network, task, lambda *_: data, make, divided_twice, budget)
    trainer = Trainer(
        max_epochs=-1,
        max_steps=until,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(learner)
    return [figure.values["loss"] for figure in learner.figures if figure.split == "train"]


CURVES = {
    "float64, batch 16, each of 20 steps": partial(curve, dtype=torch.float64, batch=16, steps=20, every=1),
    "float32, batch 32, means of 20 of 200 steps": partial(curve, dtype=torch.float32, batch=32, steps=200, every=20),
}
TOLERANCE = dict(zip(CURVES, (1e-6, 0.08), strict=True))


@pytest.mark.parametrize("name", CURVES)
def test_the_curve_is_the_golden_one(data_dir, name):
    """In float32 of the first hundred steps, before the learning rate is divided; the float64 curve sees that."""
    measured = CURVES[name](Path(data_dir), until=100)
    assert len(measured) == {"float64": 20, "float32": 5}[name[:7]]
    assert measured == pytest.approx(json.loads(FILE.read_text())[name][: len(measured)], rel=TOLERANCE[name])


def test_the_golden_curve_falls():
    means = json.loads(FILE.read_text())["float32, batch 32, means of 20 of 200 steps"]
    assert means[0] > 3, "He's variance in the head makes a confident network, wrong nine times of ten"
    assert means[1] < 2.5
    assert means[-1] < 1.95, "well below chance's ln 10 = 2.30"


if __name__ == "__main__":
    folder = Path(os.environ["GRADFLOW_DATA_DIR"])
    json.dump({name: make(folder) for name, make in CURVES.items()}, sys.stdout, indent=1)
