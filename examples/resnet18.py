"""What is wrong with my ResNet? torchvision's ResNet-18 in Lightning, watched and diagnosed.

    python examples/resnet18.py            # as torchvision makes it
    python examples/resnet18.py --sick     # no batch norm, every weight drawn with standard deviation 0.01

It trains on the handwritten digits inside scikit-learn, so that nothing is downloaded. Two lines are gradflow's: the
callback, and `diagnose` at the end.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

import gradflow


class Digits(LightningModule):
    """A classifier like any other; it knows nothing of gradflow."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.network(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def network(sick: bool) -> nn.Module:
    if not sick:
        return resnet18(num_classes=10)
    made = resnet18(num_classes=10, norm_layer=lambda _: nn.Identity())
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
    return made


def batches(size: int) -> DataLoader[Any]:
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    x = nn.functional.interpolate((x - x.mean()) / x.std(), 32).expand(-1, 3, -1, -1)
    return DataLoader(TensorDataset(x, torch.tensor(digits.target)), size, shuffle=True, drop_last=True)


def main(arguments: list[str] | None = None) -> gradflow.Diagnosis:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sick", action="store_true")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args(arguments)
    seed_everything(0, verbose=False)
    watch = gradflow.GradientFlow(every_n_steps=5, instruments="cheap")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=args.steps, accelerator="cpu", callbacks=[watch], enable_model_summary=False, **quiet)
    trainer.fit(Digits(network(args.sick)), batches(args.batch))
    return gradflow.diagnose(watch.flow)


if __name__ == "__main__":
    print(main())
