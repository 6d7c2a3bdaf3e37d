"""`gradflow.diagnose` on a model that gradflow did not build."""

import subprocess
import sys

import pytest
import torch

import gradflow


def trained(*layers, steps=20, lr=0.01):
    torch.manual_seed(0)
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
    with gradflow.watch(model) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return flow, losses


def deep(activation, depth):
    layers = [layer for _ in range(depth) for layer in (torch.nn.Linear(16, 16), activation())]
    return *layers, torch.nn.Linear(16, 4)


def test_a_deep_sigmoid_network_vanishes_and_is_told_where_and_what_helps():
    flow, losses = trained(*deep(torch.nn.Sigmoid, 12))
    found = gradflow.diagnose(flow, losses=losses)
    assert found.verdict == "vanishing"
    assert found.decisive.value == pytest.approx(flow.ratio().value)
    assert found.decisive.where == "0 ÷ 24"
    assert found.cures[0].change == "residual connections"
    assert str(found).startswith("verdict: vanishing\n")
    assert repr(found) == str(found)


def test_a_shallow_one_is_healthy_and_a_broken_loss_is_diverged():
    flow, losses = trained(*deep(torch.nn.Tanh, 2), lr=0.5, steps=60)
    found = gradflow.diagnose(flow, losses=losses)
    assert (found.verdict, found.cures) == ("healthy", ())
    assert gradflow.diagnose(flow, losses=[*losses, float("nan")]).verdict == "diverged"


def test_figures_are_judged_where_they_are_given():
    flow, _ = trained(*deep(torch.nn.Tanh, 2))
    known = {"chance": 0.25, "chance_error": 0.02, "metric": "accuracy"}
    assert gradflow.diagnose(flow, figure=0.26, **known).verdict == "stagnant"
    assert gradflow.diagnose(flow, figure=0.9, **known).verdict == "healthy"


def test_the_callback_itself_rows_and_a_flow_are_all_taken():
    flow, _ = trained(*deep(torch.nn.Sigmoid, 12))

    class Callback:
        pass

    callback = Callback()
    callback.flow = flow
    assert gradflow.diagnose(callback) == gradflow.diagnose(flow) == gradflow.diagnose(list(flow.rows()))
    with pytest.raises(TypeError, match="needs a Flow or rows, not int"):
        gradflow.diagnose(3)


def test_own_thresholds(tmp_path):
    flow, _ = trained(*deep(torch.nn.Sigmoid, 12))
    (tmp_path / "mine.yaml").write_text("gradient_ratio_low: 1.0e-20\n")
    assert gradflow.diagnose(flow, thresholds=tmp_path / "mine.yaml").verdict != "vanishing"


def test_it_needs_no_torch():
    code = "import sys, gradflow; gradflow.diagnose([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
