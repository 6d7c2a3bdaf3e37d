"""Many configs are checked together as each is alone, on the CPU as on the meta device."""

import itertools

import pytest
import torch

from gradflow.runs import preflight as module
from gradflow.runs.preflight import Preflight, preflight

# Networks, and numbers and parts that change none; several of each cannot be.
NETWORKS = [
    "depth=2 width=8",
    "depth=2 width=8 norm=batch",
    "depth=2 width=[8,4] skip=residual",
    "depth=3 width=8 model=convnet",
    "depth=3 width=4 model=resnet norm=batch skip=residual",
    "depth=2 width=6 model=transformer_encoder",  # 4 heads
    "depth=1 width=8 model=transformer_encoder skip=residual norm=layer",
    "depth=2 width=8 model=recurrent task=adding task.length=12 remedy=[tbptt]",
    "depth=2 width=8 model=recurrent cell=s4d task=adding task.length=12",
    "depth=1 width=8 model=esn task=adding task.length=12",
    "depth=2 width=8 model=tcn task=adding task.length=12 skip=residual norm=weight_norm",
    "depth=2 width=8 task=adding",
]
OTHERS = [
    "seed=1",
    "optimizer.nesterov=true optimizer.momentum=0.0",
    "optimizer=adam optimizer.betas=[0.9]",
    "init=fixup",
    "remedy=[warmup] trainer.max_steps=50",
    "remedy=[layerwise_pretraining] trainer.max_steps=2",
    "recurrent_init=sparse",
    "task.batch_size=1",
    "trainer.max_epochs=2",
    "dropout=0.5 input_noise=0.1",
    "hardware.precision=16-mixed",
    "instruments.measure=[mine.Missing]",
]


@pytest.fixture(scope="module")
def configs(compose):
    """Every network with each of the others' nodes in place of its own."""
    base = compose.config(["hardware.device=cpu"])
    networks = {words: compose.config(["hardware.device=cpu", *words.split()]) for words in NETWORKS}
    found = {}
    for words in OTHERS:
        other = compose.config(["hardware.device=cpu", *words.split()])
        changed = {key: value for key, value in other if value != getattr(base, key)}
        for network, config in networks.items():
            mixed = changed
            if "task" in changed:
                mixed = {**changed, "task": {**config.task, "batch_size": other.task["batch_size"]}}
            found[network, words] = config.model_copy(update=mixed)
    return found


def test_what_is_wrong_with_one_of_many_is_what_is_wrong_with_it_alone(configs):
    assert len(configs) > 100
    together = Preflight()
    found = {words: together.check(config) for words, config in configs.items()}
    assert found == {words: preflight(config) for words, config in configs.items()}
    assert 40 < sum(map(bool, found.values())) < len(found) - 20
    backwards = Preflight()  # networks come and go
    assert found == dict(reversed([(words, backwards.check(config)) for words, config in reversed(configs.items())]))


def test_the_cpu_finds_what_the_meta_device_finds(configs, monkeypatch):
    on_cpu = Preflight()
    found = {words: on_cpu.check(config) for words, config in configs.items()}
    sizes = {words: on_cpu.sizes(config) for words, config in configs.items()}
    monkeypatch.setattr(module, "where", lambda *_: "meta")
    on_meta = Preflight()
    for words, config in configs.items():
        assert bool(on_meta.check(config)) == bool(found[words]), words
        other = on_meta.sizes(config)
        assert (other is None) == (sizes[words] is None)
        if other is not None:
            assert other.sizes.parameters == sizes[words].sizes.parameters
        if other is not None and "esn" not in words[0]:  # a reservoir has no numbers to go through there
            assert other.sizes.operations == sizes[words].sizes.operations, words


def test_one_network_is_put_together_for_all_that_share_it(compose, monkeypatch):
    made = []
    make = module.make_network
    monkeypatch.setattr(module, "make_network", lambda *given: made.append(given) or make(*given))
    together = Preflight()
    for words in itertools.product(
        ("init=he_normal", "init=orthogonal"),
        ("optimizer.lr=0.1", "optimizer.lr=0.2"),
        ("seed=0", "seed=1"),
        ("remedy=[clip_norm]", "remedy=[clip_norm,warmup]"),
        ("dropout=0.1", "dropout=0.2"),
    ):
        assert together.check(compose.config(["depth=2", "width=8", *words])) == []
    assert len(made) == 1


def test_nothing_is_left_behind_in_torch(compose):
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    words = ["depth=2", "width=8", "dropout=0.5", "input_noise=0.5", "skip=stochastic_depth", "hardware.threads=3"]
    assert preflight(compose.config(words)) == []
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert torch.empty(1).device.type == "cpu"
    assert torch._C._get_mkldnn_enabled()


def test_what_a_machine_lacks_is_no_fault_of_runs_that_are_trained_elsewhere(compose):
    config = compose.config(["hardware.precision=16-mixed", "hardware.device=cpu"])
    assert len(Preflight().check(config)) == 1
    assert Preflight(here=False).check(config) == []
