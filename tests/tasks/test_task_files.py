"""conf/task: every file names a task and holds its parameters with their defaults."""

from __future__ import annotations

import inspect
from pathlib import Path
from pydoc import locate
from typing import get_type_hints

import pytest
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model

FOLDER = Path(__file__).parents[2] / "conf" / "task"
FILES = sorted(FOLDER.glob("*.yaml"))


def parameters(file: Path) -> dict[str, inspect.Parameter]:
    made = locate(yaml.safe_load(file.read_text())["_target_"])
    assert callable(made)
    return dict(inspect.signature(made).parameters)


def model(file: Path):
    """What the plan checks a file's values against: the types of the signature."""
    made = locate(yaml.safe_load(file.read_text())["_target_"])
    fields = {name: (hint, ...) for name, hint in get_type_hints(made, include_extras=True).items() if name != "return"}
    return create_model("Keys", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def test_the_tasks():
    vectors_and_images = {"digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "gaussian_teacher"}
    classics = {"adding", "multiplication", "copying", "temporal_order", "latch", "two_sequence", "parity"}
    series = {"mackey_glass", "narma10", "memory_capacity", "delayed_xor"}
    images_in_time = {
        "sequential_mnist",
        "permuted_mnist",
        "sequential_cifar10",
        "noise_padded_cifar10",
        "rotated_mnist_columns",
    }
    assert vectors_and_images | classics | series | images_in_time <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_holds_every_parameter_and_its_default(file):
    keys = yaml.safe_load(file.read_text())
    target = keys.pop("_target_")
    assert target.rpartition(".")[2] == file.stem
    assert keys == {name: parameter.default for name, parameter in parameters(file).items()}
    model(file).model_validate(keys)


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("digits", "view", "pixels"),
        ("digits", "augment", 1),
        ("cifar100", "standardize", "no"),
        ("fashion_mnist", "batch_size", 0),
        ("gaussian_teacher", "noise", -0.1),
        ("gaussian_teacher", "noise", float("inf")),
        ("gaussian_teacher", "teacher_depth", 0),
        ("gaussian_teacher", "inputs", 0),
        ("gaussian_teacher", "view", "flat"),
        ("adding", "convention", "hochreiter"),
        ("adding", "length", 0),
        ("adding", "train_size", 0),
        ("adding", "data_seed", -1),
        ("multiplication", "train_size", 100),
        ("copying", "variable", 1),
        ("temporal_order", "symbols", 4),
        ("latch", "noise", -0.1),
        ("two_sequence", "noise", True),
        ("parity", "test_size", 0),
        ("mackey_glass", "delay", 18),
        ("mackey_glass", "horizon", 0),
        ("narma10", "washout", -1),
        ("memory_capacity", "delays", 0),
        ("delayed_xor", "delay", 0),
        ("rotated_mnist_columns", "rotations", [400.0]),
        ("permuted_mnist", "permutation_seed", None),
        ("sequential_cifar10", "by", "column"),
        ("noise_padded_cifar10", "length", 0),
    ],
)
def test_impossible_values_are_told_by_the_types(task, key, value):
    file = FOLDER / f"{task}.yaml"
    keys = {k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "_target_"}
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model(file)).validate_python({**keys, key: value})
    assert {finding["loc"][0] for finding in caught.value.errors()} == {key}
