"""Greedy layer-wise pre-training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gradflow.models.features import feature_axis
from gradflow.models.layers import Linear
from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.training.remedy import Pretraining, Remedy, Stage

if TYPE_CHECKING:
    from gradflow.tasks.task import Task

KEY = "remedy.layerwise_pretraining"


class LayerwisePretraining(Remedy):
    """One level after another learns on top of those below, which stay as they are.

    Level 0 is the stem, level l + 1 is block l. While level l learns, the levels below run as they do in training
    (batch statistics, dropout), without gradient, and level l together with a temporary linear map on its output
    minimises its own objective. The head and the levels above are not touched.

    - autoencoder: the map reconstructs the level's input, and the loss is the mean squared error over its elements.
      Images and tokens are mapped position by position; where the level has changed their number, to its nearest.
      A vector that was made of an image or of tokens (an MLP's stem) is mapped back to all of their elements.
    - supervised: the map does the task, from the mean of the output over its positions.

    `share` of the run's steps is spread over the levels, evenly to within a step. The learning rate is the base one;
    schedule and warm-up run over what follows, and so does the optimiser: fine-tuning starts it anew, since momentum
    and second moments that were gathered on another objective say nothing about the task's gradient.

    Args:
        seed: of the temporary maps' weights, N(0, 1/fan_in).
        objective: 'autoencoder' or 'supervised'.
        share: of the run's steps that goes to pre-training.
    """

    def __init__(self, seed: int, objective: str, share: float) -> None:
        self.seed, self.objective, self.share = seed, objective, share

    def prepare(self, network: Network, task: Task, total: int) -> None:
        """Lay out the stages and make the temporary maps.

        Raises:
            ValueError: if a level would get less than one step, or its input cannot be reconstructed from its output.
        """
        stages = self._stages(1 + len(network.blocks), total)
        signals = list(pairwise(_signals(network, task.input_shape)))
        if self.objective == "supervised":
            maps = [Linear(h.shape[feature_axis(h)], task.outputs) for _, h in signals]
            self.pretraining = _Supervised(stages, maps, task)
        else:
            maps = [_decoder(level, x, h) for level, (x, h) in enumerate(signals)]
            self.pretraining = _Autoencoder(stages, maps)
        for level, each in enumerate(maps):
            with torch.no_grad():
                each.weight.normal_(
                    0, 1 / math.sqrt(each.in_features), generator=stream(self.seed, "pretraining", level)
                )

    def _stages(self, levels: int, total: int) -> list[Stage]:
        steps = min(round(self.share * total), total - 1)  # fine-tuning gets one at least, whatever is rounded
        if steps < levels:
            raise ValueError(
                f"{KEY}.share={self.share}: {steps} of {total} steps are too few for {levels} levels, which need one "
                "each: raise it or trainer.max_steps, or lower depth"
            )
        cuts = pairwise(level * steps // levels for level in range(levels + 1))
        return [Stage(f"pretraining level {level}", start, stop) for level, (start, stop) in enumerate(cuts)]


class _Levels(Pretraining):
    """Runs a network up to the level that learns."""

    def __init__(self, stages: Sequence[Stage], maps: Sequence[Linear]) -> None:
        super().__init__(stages)
        self.maps = nn.ModuleList(maps)

    def loss(self, network: Network, stage: int, x: Tensor, y: Tensor) -> Tensor:
        levels = [network.stem, *network.blocks]
        with torch.no_grad():
            for below in levels[:stage]:
                x = below(x)
        return self.objective(self.maps[stage], x, levels[stage](x), y)

    def objective(self, to: nn.Module, x: Tensor, h: Tensor, y: Tensor) -> Tensor:
        """What a level with input `x` and output `h` [batch, …] minimises together with its map `to`."""
        raise NotImplementedError


class _Autoencoder(_Levels):
    def objective(self, to: nn.Module, x: Tensor, h: Tensor, y: Tensor) -> Tensor:
        made = to(h.movedim(feature_axis(h), -1)).movedim(-1, 1)
        wanted = x.flatten(1) if h.ndim == 2 else x.movedim(feature_axis(x), 1)
        if made.shape != wanted.shape:
            # after the map, not before: the two commute, and there are fewer positions to map here where a level pools
            made = nn.functional.interpolate(made, wanted.shape[2:])
        return nn.functional.mse_loss(made, wanted)


class _Supervised(_Levels):
    def __init__(self, stages: Sequence[Stage], maps: Sequence[Linear], task: Task) -> None:
        super().__init__(stages, maps)
        self.task = task

    def objective(self, to: nn.Module, x: Tensor, h: Tensor, y: Tensor) -> Tensor:
        features = h.movedim(feature_axis(h), 1)
        return self.task.loss(to(features.flatten(2).mean(2) if h.ndim > 2 else features), y)


def _decoder(level: int, x: Tensor, h: Tensor) -> Linear:
    """The map from a level's output back to its input, given an example of each."""
    if h.ndim == 2:
        return Linear(h.shape[1], x[0].numel())
    if h.ndim != x.ndim:
        raise ValueError(
            f"{KEY}.objective=autoencoder: no linear map leads from the output of level {level}, of shape "
            f"{list(h.shape[1:])}, back to its input, of shape {list(x.shape[1:])}: use {KEY}.objective=supervised"
        )
    return Linear(h.shape[feature_axis(h)], x.shape[feature_axis(x)])


def _signals(network: Network, input_shape: Sequence[int]) -> Iterator[Tensor]:
    """The input and each level's output for two examples, without memory, without effect on the network."""
    with torch.device("meta"), torch.no_grad():
        ghost = copy.deepcopy(network).to("meta")
        x = torch.empty(2, *input_shape, dtype=next(network.parameters()).dtype)
        yield x
        for level in (ghost.stem, *ghost.blocks):
            x = level(x)
            yield x
