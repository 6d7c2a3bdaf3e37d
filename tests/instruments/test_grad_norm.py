"""The gradient's norm against plain autograd, and no false zeros."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gradflow.instruments.blocks import Block, find_blocks
from gradflow.instruments.grad_norm import GradNorm, Norms
from gradflow.instruments.instrument import ABSENT, Part, Update
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.rng import stream
from gradflow.training.optimizers import parameter_groups


def network(depth: int = 4, width: int = 8, activation: str = "tanh", init: str = "he_normal") -> Network:
    made = mlp((5,), 3, Parts(depth, width, getattr(activations, activation), norms.layer, skips.none))
    initialize(made, getattr(initializers, init), stream(0, "init"))
    return made


def backward(model: nn.Module, dtype: torch.dtype, shape: tuple[int, ...] = (16, 5)) -> None:
    x = torch.randn(shape, generator=stream(0, "x"), dtype=torch.float64).to(dtype)
    model(x).square().mean().backward()


def of(*gradients: Tensor | None) -> list[float]:
    """What GradNorm reads of parameters with these gradients, one block each; the last number is that of 'all'."""
    blocks = []
    for i, gradient in enumerate(gradients):
        parameter = nn.Parameter(torch.zeros(3) if gradient is None else torch.zeros_like(gradient))
        parameter.grad = gradient
        blocks.append(Block(str(i), i, (parameter,)))
    return Norms(blocks)().tolist()


def read(norm: Norms) -> dict[tuple[str, str], float]:
    return {(row.name, row.quantity): v for row, v in zip(norm.rows, norm().tolist(), strict=True)}


# --- against torch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_blocks_groups_and_all_against_torch(dtype, rel):
    """Every row is the norm of the concatenated gradients it is about."""
    model = network().to(dtype)
    backward(model, dtype)
    groups = parameter_groups(model)
    found = read(Norms(find_blocks(model), groups))

    def expected(parameters) -> float:
        return torch.cat([p.grad.flatten() for p in parameters]).double().norm().item()

    parts = {"stem": model.stem, "head": model.head, **{f"blocks.0{i}": block for i, block in enumerate(model.blocks)}}
    wanted = {("all", "grad_norm"): expected(model.parameters())}
    for name, part in parts.items():
        wanted[name, "grad_norm"] = expected(part.parameters())
        wanted[name, "grad_norm/weights"] = expected(p for p in part.parameters() if p.ndim == 2)
        wanted[name, "grad_norm/vectors"] = expected(p for p in part.parameters() if p.ndim == 1)
    for group in groups:
        wanted[f"group.{group['name']}", "grad_norm"] = expected(group["params"])
    assert found == pytest.approx(wanted, rel=rel)


def test_one_group_or_none_has_no_rows_of_its_own():
    model = network()
    for groups in ([], [{"params": list(model.parameters())}]):
        assert {row.quantity for row in Norms(find_blocks(model), groups).rows} == {"grad_norm"}


def test_groups_without_a_name_are_numbered_and_empty_rows_left_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    rows = Norms(find_blocks(model), [{"params": list(m.parameters())} for m in model]).rows
    assert [(row.name, row.block, row.quantity) for row in rows] == [
        ("0", 0, "grad_norm"),
        ("1", 1, "grad_norm"),
        ("all", None, "grad_norm"),
        ("0", 0, "grad_norm/0"),
        ("group.0", None, "grad_norm"),
        ("1", 1, "grad_norm/1"),
        ("group.1", None, "grad_norm"),
    ]


def test_the_gradients_are_left_as_they_were():
    model = network()
    backward(model, torch.float32)
    before = [p.grad.clone() for p in model.parameters()]
    Norms(find_blocks(model))()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_gradients_given_instead_of_the_parameters_own():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    norm = Norms([Block("a", 0, (a, b))])
    assert norm([torch.tensor([3.0, 0.0]), torch.tensor([4.0])]).tolist() == [5.0, 5.0]


# --- honest zeros ---------------------------------------------------------------------------------------------


def test_fifty_sigmoid_blocks_in_float32():
    """Naive float32 norms read zero in many blocks where gradients are not; this one reads none, and reads right.

    The reference sums float32's own gradients in Python's integers, where nothing underflows.
    """
    model = mlp((64,), 10, Parts(50, 64, activations.sigmoid, norms.none, skips.none))
    initialize(model, initializers.fan_in_uniform, stream(0, "init"))
    x, y = torch.randn(64, 64, generator=stream(0, "x")), torch.arange(64) % 10
    nn.functional.cross_entropy(model(x), y).backward()
    naive = [nn.utils.get_total_norm([p.grad for p in block.parameters()]).item() for block in model.blocks]
    apart = [max(p.grad.norm().item() for p in block.parameters()) for block in model.blocks]
    assert naive.count(0.0) > 10
    assert apart.count(0.0) > 10
    found = [value for (name, _), value in read(Norms(find_blocks(model))).items() if name.startswith("blocks.")]
    unit = 2.0**-149  # every float32 is a whole number of these
    for block, value in zip(model.blocks, found, strict=True):
        squares = sum(int(g / unit) ** 2 for p in block.parameters() for g in p.grad.flatten().double().tolist())
        assert squares > 0
        assert value == pytest.approx(math.sqrt(squares) * unit, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("dtype", "element"),
    [
        (torch.float32, 1e-22),  # its square is the smallest float32 that is lost
        (torch.float32, 2.0**-149),  # the smallest subnormal
        (torch.float32, 3e38),
        (torch.float16, 2.0**-24),
        (torch.float16, 65504.0),
        (torch.bfloat16, 1e-38),
        (torch.float64, 1e-200),
        (torch.float64, 5e-324),
        (torch.float64, 1e300),
    ],
    ids=str,
)
def test_no_square_underflows_or_overflows(dtype, element):
    """Four equal elements have twice the norm of one; two such parameters √2 times that."""
    gradient = torch.full((4,), element, dtype=dtype)
    element = gradient[0].item()
    one, other, both = of(gradient, gradient.clone())
    assert one == other == 2 * element
    # 2√2 units of the smallest subnormal can only be written as 3
    assert both == pytest.approx(2 * math.sqrt(2) * element, rel=1e-12 if element > 1e-300 else 0.1, abs=0)


@pytest.mark.parametrize("element", [2.0**-149, 65504.0])
def test_a_float64_parameter_elsewhere_does_not_cost_the_others_their_range(element):
    dtype = torch.float16 if element > 1 else torch.float32
    found = of(torch.full((3,), element, dtype=dtype), torch.full((4,), 1e-320, dtype=torch.float64))
    assert found[0] == pytest.approx(math.sqrt(3) * element, rel=1e-3, abs=0)
    assert found[1] == 2 * 1e-320


def test_zero_is_read_only_where_every_element_is_zero():
    for dtype in (torch.float32, torch.float64, torch.float16):
        zeros = torch.zeros(1000, dtype=dtype)
        one = zeros.clone()
        one[517] = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # the smallest subnormal
        assert of(zeros)[0] == 0
        assert of(one)[0] == one[517].item() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("bad", "expected"), [(math.nan, math.nan), (math.inf, math.inf), (-math.inf, math.inf)])
def test_nan_and_inf_propagate(dtype, bad, expected):
    """To their own row and to that of all, and nowhere else."""
    found = of(torch.tensor([1.0, bad, 2.0], dtype=dtype), torch.tensor([3.0, 4.0], dtype=dtype))
    assert found == pytest.approx([expected, 5.0, expected], nan_ok=True)


def test_nan_wins_over_inf():
    assert math.isnan(of(torch.tensor([math.inf]), torch.tensor([math.nan]))[-1])


# --- gradients of other kinds ---------------------------------------------------------------------------------


def test_absent_gradients():
    """An absent gradient adds nothing to a sum; a row of absent ones is absent."""
    assert of(None, torch.tensor([3.0, 4.0])) == [ABSENT, 5.0, 5.0]
    assert of(None, None) == [ABSENT, ABSENT, ABSENT]
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    a.grad = torch.tensor([2.0])
    assert Norms([Block("half", 0, (a, b))])().tolist() == [2.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sparse_gradients(dtype):
    """A stranger's `nn.Embedding(sparse=True)`; rows looked up twice count with their sum."""
    table = nn.Embedding(5, 3, sparse=True, dtype=dtype)
    (table(torch.tensor([1, 1, 2])) * torch.tensor([[1.0], [2.0], [4.0]], dtype=dtype)).sum().backward()
    assert table.weight.grad.is_sparse
    assert Norms(find_blocks(table))().tolist() == pytest.approx([math.sqrt(3 * (9 + 16))] * 2)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_gradients(dtype):
    assert of(torch.tensor([3 + 4j, 12j], dtype=dtype))[0] == pytest.approx(13.0)


# --- nothing is copied to the host ----------------------------------------------------------------------------


class Copies(TorchDispatchMode):
    """Counts tensors that leave their device for the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        to = (kwargs or {}).get("device")
        if function is torch.ops.aten._to_copy.default and to is not None and torch.device(to).type == "cpu":
            self.count += 1
        return function(*args, **(kwargs or {}))


def test_measuring_never_waits_for_the_device():
    """On tensors of a pretended GPU, which have no values: reading one is an error, and copies can be counted."""
    with FakeTensorMode():
        parameters = [nn.Parameter(torch.empty(3, 4, device="cuda")) for _ in range(4)]
        for parameter in parameters[:3]:
            parameter.grad = torch.empty_like(parameter)
        blocks = [Block("a", 0, tuple(parameters[:2])), Block("b", 1, tuple(parameters[2:]))]
        norm = Norms(blocks, [{"params": parameters[:1]}, {"params": parameters[1:]}])
        with Copies() as copies:
            values = norm()
            assert copies.count == 0
            values.cpu()
            assert copies.count == 1
        with pytest.raises(DataDependentOutputException):
            values[0].item()
    assert values.device.type == "cuda"
    assert len(values) == len(norm.rows)


# --- root mean square and largest element ---------------------------------------------------------------------


def test_root_mean_square_and_largest_element():
    """Of every block and of all together, beside the norms; a scale is taken off all three."""
    torch.manual_seed(0)
    a, b, c = (nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), (2,)))
    for p in (a, b):
        p.grad = torch.randn_like(p)
    part = Part([Block("x", 0, (a, b)), Block("y", 1, (c,))])
    reading = GradNorm().before_clipping(Update(0, part, scale=8.0))
    found = {(r.name, r.quantity): v for r, v in zip(reading.rows, reading.values.tolist(), strict=True)}
    whole = torch.cat([a.grad.flatten(), b.grad]).double() / 8
    for name, size in (("x", 17), ("all", 19)):  # a parameter without a gradient has elements all the same
        assert found[name, "grad_norm"] == pytest.approx(whole.norm().item(), rel=1e-7)
        assert found[name, "grad_rms"] == pytest.approx(whole.norm().item() / math.sqrt(size), rel=1e-7)
        assert found[name, "grad_max"] == pytest.approx(whole.abs().max().item(), rel=1e-7)
    assert [found["y", q] for q in ("grad_norm", "grad_rms", "grad_max")] == [ABSENT] * 3


def test_a_root_mean_square_below_float32_is_told():
    a = nn.Parameter(torch.zeros(100))
    a.grad = torch.full((100,), 1e-44)
    reading = GradNorm().before_clipping(Update(0, Part([Block("x", 0, (a,))])))
    found = {(r.name, r.quantity): v for r, v in zip(reading.rows, reading.values.tolist(), strict=True)}
    assert found["x", "grad_rms"] == found["x", "grad_max"] == pytest.approx(a.grad[0].item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.0, 1e-30, 1e-40])
def test_members_at_once_have_the_numbers_of_each_by_itself(dtype, factor):
    """Also of a parameter that is one number, and of one without a gradient; small numbers do not read zero."""
    models = [network(3, 6) for _ in range(3)]
    instruments = [GradNorm() for _ in models]
    parts = [Part(find_blocks(model)) for model in models]
    shapes = [p.shape for p in parts[0].parameters]
    draws = stream(0, "gradients")
    gradients = [(factor * torch.randn(3, *s, generator=draws, dtype=torch.float64)).to(dtype) for s in shapes]
    gradients[1][2] = math.nan
    for k, part in enumerate(parts):
        for i, parameter in enumerate(part.parameters):
            parameter.data = parameter.data.to(dtype)
            parameter.grad = gradients[i][k] if i != 3 else None
    given = {id(p): g for i, (p, g) in enumerate(zip(parts[0].parameters, gradients, strict=True)) if i != 3}
    together = instruments[0].of_members(parts[0], given)
    for k, (instrument, part) in enumerate(zip(instruments, parts, strict=True)):
        alone = instrument.before_clipping(Update(0, part))
        assert alone.rows == instrument.rows(part)
        torch.testing.assert_close(together[k], alone.values, rtol=1e-12, atol=0, equal_nan=True)
        assert (together[k].nan_to_num(1.0) != 0).all()


def test_a_member_s_parameter_may_be_a_single_number():
    model = nn.Sequential(nn.Linear(2, 1), nn.PReLU())
    model[1].weight = nn.Parameter(torch.tensor(0.25))
    part = Part(find_blocks(model, ["0", "1"]))
    gradients = {id(p): torch.full((4, *p.shape), float(i + 1)) for i, p in enumerate(part.parameters)}
    found = GradNorm(by_element=False).of_members(part, gradients)
    assert found.tolist() == [pytest.approx([math.sqrt(2 + 4), 3.0, math.sqrt(6 + 9)])] * 4
