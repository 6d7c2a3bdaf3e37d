"""What is wrong with my transformer? Twelve layers of attention in a plain PyTorch loop, watched and diagnosed.

    python examples/small_transformer.py            # with skip connections
    python examples/small_transformer.py --sick     # without: attention alone (Dong, Cordonnier & Loukas 2021)

Each of the eight rows of a handwritten digit is a token. Two lines are gradflow's: `watch` and `diagnose`.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import gradflow


class Layer(nn.Module):
    """Pre-LN: x + attention(LN x), then x + MLP(LN x); without `skip` the sums are left out."""

    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.maps = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_1(x)
        y, _ = self.attention(y, y, y, need_weights=False)
        x = x + y if self.skip else y
        y = self.maps(self.norm_2(x))
        return x + y if self.skip else y


class SmallTransformer(nn.Module):
    def __init__(self, layers: int, width: int, skip: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        self.layers = nn.Sequential(*(Layer(width, skip) for _ in range(layers)))
        self.read = nn.Linear(width, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.read(self.layers(self.embed(rows) + self.position).mean(1))


def main(arguments: list[str] | None = None) -> gradflow.Diagnosis:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sick", action="store_true")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--layers", type=int, default=12)
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1, torch.tensor(digits.target)
    model = SmallTransformer(args.layers, 32, skip=not args.sick)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with gradflow.watch(model, every_n_steps=10, blocks=["layers.*"], instruments="full") as flow:
        for _ in range(args.steps):
            chosen = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            flow.loss(loss)  # so that the loss curve is looked at too
            loss.backward()
            optimizer.step()
    return gradflow.diagnose(flow)


if __name__ == "__main__":
    print(main())
