"""Ridge regression from a stream: equal to reservoirpy's, to numpy's least squares, and to itself in other chunks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from reservoirpy.nodes import Ridge as Reference

from gradflow.models.ridge import PANELS, ReadOut, Ridge
from gradflow.rng import stream


def data(examples: int = 300, features: int = 20, outputs: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = stream(0, "data")
    x = torch.randn(examples, features, generator=generator, dtype=torch.float64) + 3.0  # far from centred
    y = torch.randn(examples, outputs, generator=generator, dtype=torch.float64) + x[:, :outputs].sin() - 5.0
    return x, y


def fitted(x: torch.Tensor, y: torch.Tensor, chunk: int = 10**6) -> Ridge:
    ridge = Ridge(x.shape[1], y.shape[1])
    for a, b in zip(x.split(chunk), y.split(chunk), strict=True):
        ridge.add(a, b)
    return ridge


@pytest.mark.parametrize("regularization", [1e-8, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("features", [20, 700])  # one panel of the Gram matrix, and several
def test_it_is_reservoirpy_s(regularization: float, features: int) -> None:
    x, y = data(1000, features)
    weight, bias = fitted(x, y, 77).solve(regularization)
    reference = Reference(ridge=regularization).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(weight.numpy(), reference.Wout.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(bias.numpy(), reference.bias, rtol=1e-8)
    assert features == 20 or features // 64 >= PANELS


def test_the_bias_is_not_penalised() -> None:
    x, y = data()
    weight, bias = fitted(x, y).solve(1e14)
    assert weight.abs().max() < 1e-8
    torch.testing.assert_close(bias, y.mean(0), rtol=1e-6, atol=0)


def test_without_regularization_it_is_least_squares() -> None:
    x, y = data()
    weight, bias = fitted(x, y, 50).solve(0.0)
    ones = np.ones((len(x), 1))
    exact = np.linalg.lstsq(np.hstack([x.numpy(), ones]), y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(weight.numpy(), exact[:-1].T, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(bias.numpy(), exact[-1], rtol=1e-9)


def test_of_equal_fits_it_takes_the_shortest() -> None:
    """Fewer examples than features, and a feature twice: numpy's minimum-norm solution of the centred problem."""
    x, y = data(15)
    x = torch.cat([x, x[:, :4]], dim=1)
    weight, bias = fitted(x, y).solve(0.0)
    centred = (x - x.mean(0)).numpy(), (y - y.mean(0)).numpy()
    np.testing.assert_allclose(weight.numpy().T, np.linalg.lstsq(*centred, rcond=1e-10)[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(x @ weight.T + bias, y, rtol=1e-7, atol=1e-7)


def test_chunks_do_not_matter() -> None:
    x, y = data()
    whole = fitted(x, y)
    for chunk in (1, 7, 299):
        parts = fitted(x, y, chunk)
        assert float(parts.count) == len(x)
        for a, b in zip(parts.solve(1e-6), whole.solve(1e-6), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_large_mean_costs_no_precision() -> None:
    """Sums of squares of 10⁶ ± 1 have no digits left for the ± 1; centred ones have all of them."""
    x, y = data()
    weight, _ = fitted(x, y, 10).solve(1e-3)
    shifted, _ = fitted(x + 1e6, y - 1e6, 10).solve(1e-3)
    torch.testing.assert_close(shifted, weight, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("regularization", [0.0, 1e-2, 50.0])
def test_the_error_is_that_of_the_examples(regularization: float) -> None:
    x, y = data()
    ridge = fitted(x, y, 64)
    weight, bias = ridge.solve(regularization)
    wanted = (x @ weight.T + bias - y).square().mean(0)
    torch.testing.assert_close(ridge.error(weight), wanted, rtol=1e-9, atol=0)
    other = torch.randn(weight.shape, generator=stream(1), dtype=torch.float64)
    best = (y - x @ other.T).mean(0)
    torch.testing.assert_close(ridge.error(other), (x @ other.T + best - y).square().mean(0), rtol=1e-9, atol=0)


def test_a_checkpoint_goes_on_bit_for_bit() -> None:
    x, y = data()
    whole, half = fitted(x, y, 100), fitted(x[:200], y[:200], 100)
    resumed = Ridge(20, 3)
    resumed.load_state_dict(copy.deepcopy(half.state_dict()))
    resumed.add(x[200:], y[200:])
    for a, b in zip(resumed.solve(1e-6), whole.solve(1e-6), strict=True):
        assert torch.equal(a, b)


def test_it_stays_in_float64_and_forgets_when_told() -> None:
    x, y = data()
    ridge, read_out = Ridge(20, 3), ReadOut(20, 3)
    for module in (ridge, read_out):
        for cast in (module.float(), module.half(), module.to(torch.bfloat16), module.double()):
            assert {t.dtype for t in [*cast.parameters(), *cast.buffers()]} == {torch.float64}
        assert {t.device.type for t in module.to("meta").state_dict().values()} == {"meta"}
    ridge = fitted(x.float(), y.float())
    assert torch.equal(ridge.mean_y, y.float().double().mean(0))
    ridge.reset()
    assert not any(buffer.any() for buffer in ridge.buffers())


def test_states_that_overflowed_give_no_numbers_rather_than_a_crash() -> None:
    x, y = data()
    x[5, 3] = torch.inf
    for regularization in (0.0, 1e-3):
        assert not fitted(x, y).solve(regularization)[0].isfinite().any()


def test_the_read_out_computes_in_float64_and_answers_in_the_input_s_type() -> None:
    read_out = ReadOut(2, 1)
    with torch.no_grad():
        read_out.weight.copy_(torch.tensor([[1e8, -1e8]]))
        read_out.bias.fill_(1.0)
    x = torch.tensor([[1.0, 1.0 + 2**-23]])
    out = read_out(x)
    assert out.dtype == torch.float32
    assert out.item() == pytest.approx(1 - 1e8 * 2**-23, rel=1e-7)
    out.sum().backward()
    assert read_out.weight.grad is not None
