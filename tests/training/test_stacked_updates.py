"""K members updated at once are K optimisers of torch."""

import pytest
import torch

from gradflow.training.stacked_updates import UPDATES, Group

SHAPES = {"weight": (4, 3), "bias": (4,), "scale": ()}
CASES = [
    (torch.optim.SGD, [{"lr": 0.1}, {"lr": 0.01, "weight_decay": 0.1}, {"lr": 1.0}]),
    (torch.optim.SGD, [{"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.3}]),
    (torch.optim.SGD, [{"lr": 0.1, "momentum": m, "nesterov": True} for m in (0.9, 0.3, 0.99)]),
    (torch.optim.Adam, [{"lr": 0.1}, {"lr": 0.01, "betas": (0.5, 0.9)}, {"lr": 0.1, "eps": 0.1, "weight_decay": 0.2}]),
    (torch.optim.AdamW, [{"lr": 0.1}, {"lr": 0.01, "weight_decay": 0.5}, {"lr": 0.2, "weight_decay": 0.0}]),
    (torch.optim.RMSprop, [{"lr": 0.1}, {"lr": 0.01, "alpha": 0.5, "weight_decay": 0.1}, {"lr": 0.1, "eps": 0.1}]),
    (torch.optim.RMSprop, [{"lr": 0.1, "centered": True, "momentum": m} for m in (0.9, 0.1)]),
    (torch.optim.Adagrad, [{"lr": 0.1}, {"lr": 1.0, "initial_accumulator_value": 0.5}, {"lr": 0.1, "eps": 0.1}]),
]


def stacked(states):
    return {key: torch.stack([torch.as_tensor(state[key]) for state in states]) for key in states[0]}


@pytest.mark.parametrize(("kind", "numbers"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_each_member_is_updated_as_by_its_own_optimiser(kind, numbers):
    """From the second step on, since optimisers begin their states at the first; learning rates change on the way."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        return [
            {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in SHAPES.items()} for _ in numbers
        ]

    members = [{name: p.requires_grad_() for name, p in each.items()} for each in draw()]
    optimizers = [kind(list(each.values()), **own) for each, own in zip(members, numbers, strict=True)]

    def step_alone(gradients):
        for each, own, optimizer in zip(members, gradients, optimizers, strict=True):
            for name, p in each.items():
                p.grad = own[name].clone()
            optimizer.step()

    step_alone(draw())
    groups = [dict(optimizer.param_groups[0]) for optimizer in optimizers]
    of_name = {name: [o.state[each[name]] for o, each in zip(optimizers, members, strict=True)] for name in SHAPES}
    kept = {n: [{k: v for k, v in s.items() if v is not None} for s in states] for n, states in of_name.items()}
    group = Group(groups, {name: stacked(states) if states[0] else {} for name, states in kept.items()})
    together = {name: torch.stack([each[name].detach() for each in members]) for name in SHAPES}
    for step in range(4):
        for place, own in enumerate(groups):
            own["lr"] = optimizers[place].param_groups[0]["lr"] = numbers[place]["lr"] / (1 + step)
        gradients = draw()
        step_alone(gradients)
        for name, p in together.items():
            UPDATES[kind](group, p, torch.stack([each[name] for each in gradients]), group.states[name])
    for name, p in together.items():
        torch.testing.assert_close(p, torch.stack([each[name].detach() for each in members]), rtol=1e-12, atol=1e-14)
