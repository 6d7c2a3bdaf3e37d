"""Loss, score, chance, sizes, views and augmentation of the task that all labelled images share."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gradflow.tasks.binary_mnist import binary_mnist
from gradflow.tasks.cifar10 import cifar10
from gradflow.tasks.cifar100 import cifar100
from gradflow.tasks.classification import Classification
from gradflow.tasks.digits import digits
from gradflow.tasks.fashion_mnist import fashion_mnist
from gradflow.tasks.mnist import mnist
from gradflow.tasks.resident import Split, Standardization
from gradflow.tasks.task import Task

# name → task, training examples, batch, classes, image
ONES = {"mnist": 0.1135, "binary_mnist": 0.1135}  # the share of the most frequent class where they are not alike
TASKS = {
    "digits": (digits, 1077, 64, 10, (1, 8, 8)),
    "mnist": (mnist, 55_000, 128, 10, (1, 28, 28)),
    "binary_mnist": (binary_mnist, 55_000, 128, 10, (1, 28, 28)),
    "fashion_mnist": (fashion_mnist, 55_000, 128, 10, (1, 28, 28)),
    "cifar10": (cifar10, 45_000, 128, 10, (3, 32, 32)),
    "cifar100": (cifar100, 45_000, 128, 100, (3, 32, 32)),
}
NOWHERE, CPU = Path("unused"), torch.device("cpu")


def small(count: int = 24, **more: object) -> Classification:
    """Random images [2, 3, 5] of 3 classes, none alike, with a task's own options."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 2, 3, 5), dtype=torch.uint8, generator=generator)
    split = Split(x, torch.arange(count) % 3)
    splits = dict.fromkeys(("train", "val", "test"), split)
    return Classification(
        name="small",
        image_shape=(2, 3, 5),
        outputs=3,
        train_size=count,
        batch_size=8,
        prepare=lambda _: None,
        read=lambda _: (splits, Standardization(255, (0.4, 0.5), (0.2, 0.3))),
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", TASKS)
def test_facts_known_before_any_data_is_read(name):
    make, size, batch, classes, image = TASKS[name]
    task: Task = make()
    assert (task.name, task.outputs, task.chance) == (name, classes, ONES.get(name, 1 / classes))
    assert (task.metric, task.larger_is_better) == ("accuracy", True)
    assert (task.train_size, task.batch_size, task.input_shape) == (size, batch, image)
    assert task.steps_per_epoch == size // batch
    assert make(batch_size=size).steps_per_epoch == 1


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_larger_than_the_data_is_refused(name):
    make, size, *_ = TASKS[name]
    with pytest.raises(ValueError, match=f"task.batch_size={size + 1} exceeds the {size} training examples"):
        make(batch_size=size + 1)


# --- loss and score -------------------------------------------------------------------------------------------

LOGITS = [[2.0, 0.0, -1.0], [0.5, 0.5, 1.0], [0.0, 3.0, 0.0]]
LABELS = [0, 1, 1]
# −log softmax of every class
SURPRISE = [[math.log(sum(map(math.exp, row))) - logit for logit in row] for row in LOGITS]
NATS = [row[label] for row, label in zip(SURPRISE, LABELS, strict=True)]


def test_loss_and_score_by_hand():
    """Mean of −log softmax; the score sums it and counts right answers, so that batches can be added up."""
    task, outputs, y = digits(), torch.tensor(LOGITS), torch.tensor(LABELS)
    assert task.loss(outputs.double(), y).item() == pytest.approx(sum(NATS) / 3, rel=1e-12)
    score = task.score(outputs, y)
    assert score["loss"].item() == pytest.approx(sum(NATS), rel=1e-12)
    assert score["accuracy"].item() == 2
    assert all(value.dtype == torch.float64 for value in score.values())


def test_regression_targets_are_one_hot():
    assert small().regression_targets(torch.tensor([2, 0])).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_the_error_of_a_guess_is_that_of_a_share():
    """Over 20,000 splits of 60 examples whose labels are drawn, always answering the first class."""
    right = torch.randint(3, (20_000, 60), generator=torch.Generator().manual_seed(0)) == 0
    measured = right.double().mean(1).std().item()
    assert measured == pytest.approx(small().chance_error(60), rel=0.03)


@pytest.mark.parametrize("most", [5, 24, 500])
def test_slices_cut_a_split_in_order(most):
    data = small().load(NOWHERE, 0, CPU)
    slices = data.slices("val", most)
    assert data.size("val") == 24
    assert [k for start, stop in slices for k in range(start, stop)] == list(range(24))
    assert all(0 < stop - start <= most for start, stop in slices)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_label_smoothing_is_of_the_training_loss_alone(share):
    """(1 − ε) CE + ε · mean over classes of −log p (Szegedy et al. 2016, section 7)."""
    task, outputs, y = digits().with_label_smoothing(share), torch.tensor(LOGITS).double(), torch.tensor(LABELS)
    smoothed = [(1 - share) * hit + share * sum(row) / 3 for hit, row in zip(NATS, SURPRISE, strict=True)]
    assert task.loss(outputs, y).item() == pytest.approx(sum(smoothed) / 3, rel=1e-12)
    assert task.score(outputs, y)["loss"].item() == pytest.approx(sum(NATS), rel=1e-12)


def test_label_smoothing_makes_a_new_task_that_is_otherwise_the_same():
    task = digits(view="flat", augment=True, batch_size=32)
    smoothed = task.with_label_smoothing(0.2)
    assert (task.label_smoothing, smoothed.label_smoothing) == (0.0, 0.2)
    assert smoothed.with_label_smoothing(0.0) == task


# --- augmentation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "pad", "flip"),
    [(digits, 1, False), (mnist, 2, False), (fashion_mnist, 2, True), (cifar10, 4, True), (cifar100, 4, True)],
)
def test_augmentation_is_off_unless_asked_for_and_mirrors_only_what_keeps_its_class(make, pad, flip):
    assert (make().pad, make().flip) == (0, False)
    assert (make(augment=True).pad, make(augment=True).flip) == (pad, flip)


def test_augmented_digits_are_shifted_by_at_most_one_pixel_and_never_mirrored():
    """Every training image is one of the nine shifts of an image of the split with its label; no mirror image is."""
    data = digits(augment=True, standardize=False).load(NOWHERE, 0, CPU)
    train = data.splits["train"]
    padded = torch.nn.functional.pad(train.x, (1, 1, 1, 1))
    shifts = {
        (padded[n, :, i : i + 8, j : j + 8].numpy().tobytes(), int(train.y[n]))
        for n in range(len(train))
        for i in range(3)
        for j in range(3)
    }
    for step in range(data.train.steps_per_epoch):
        x, y = data.train(step)
        pixels = (x * 16).round().to(torch.uint8)
        seen = {(image.numpy().tobytes(), int(k)) for image, k in zip(pixels, y, strict=True)}
        mirrored = {(image.numpy().tobytes(), int(k)) for image, k in zip(pixels.flip(-1), y, strict=True)}
        assert seen <= shifts
        assert not mirrored <= shifts


def test_evaluation_is_never_augmented():
    plain, augmented = (digits(augment=augment).load(NOWHERE, 0, CPU) for augment in (False, True))
    for split in ("train", "val", "test"):
        parts = (data.evaluation(split, 0, 360, torch.float32)[0] for data in (plain, augmented))
        assert torch.equal(*parts)
    assert not torch.equal(plain.train(0)[0], augmented.train(0)[0])


# --- views ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("view", ["image", "flat", "sequence", "rows"])
def test_the_input_shape_is_that_of_the_view(name, view):
    make, *_, (channels, height, width) = TASKS[name]
    shapes = {
        "image": (channels, height, width),
        "flat": (channels * height * width,),
        "sequence": (height * width, channels),
        "rows": (height, channels * width),
    }
    assert make(view=view).input_shape == shapes[view]


@pytest.mark.parametrize("options", [{}, {"pad": 1, "flip": True}], ids=["plain", "augmented"])
def test_views_are_the_permutations_they_claim(options):
    """Pixel (c, h, w) is entry c·H·W + h·W + w of 'flat', channel c of time step h·W + w of 'sequence' and entry
    c·W + w of time step h of 'rows', in training after augmentation and in evaluation, and nothing else changes."""
    image, *others = (
        small(view=view, **options).load(NOWHERE, 0, CPU) for view in ("image", "flat", "sequence", "rows")
    )
    views = [(data.train(4, torch.float64), data.evaluation("val", 3, 9, torch.float64)) for data in others]
    for kind, (x, y) in enumerate((image.train(4, torch.float64), image.evaluation("val", 3, 9, torch.float64))):
        (as_flat, flat_y), (as_sequence, sequence_y), (as_rows, rows_y) = (view[kind] for view in views)
        assert torch.equal(flat_y, y)
        assert torch.equal(sequence_y, y)
        assert torch.equal(rows_y, y)
        assert (as_flat.shape, as_sequence.shape) == ((len(x), 30), (len(x), 15, 2))
        assert as_rows.shape == (len(x), 3, 10)
        for c in range(2):
            for h in range(3):
                for w in range(5):
                    assert torch.equal(as_flat[:, c * 15 + h * 5 + w], x[:, c, h, w])
                    assert torch.equal(as_sequence[:, h * 5 + w, c], x[:, c, h, w])
                    assert torch.equal(as_rows[:, h, c * 5 + w], x[:, c, h, w])


def test_an_mlp_cannot_tell_the_flat_view_from_the_image():
    """What `nn.Flatten` makes of the image is the flat view, bit for bit."""
    image, flat = (digits(view=view, augment=True).load(NOWHERE, 0, CPU) for view in ("image", "flat"))
    for step in (0, 7, 40):
        assert torch.equal(torch.nn.Flatten()(image.train(step)[0]), flat.train(step)[0])


# --- standardisation ------------------------------------------------------------------------------------------


def test_without_standardisation_pixels_are_shades_between_0_and_1():
    x = digits(standardize=False).load(NOWHERE, 0, CPU).evaluation("train", 0, 1077, torch.float64)[0]
    assert (x.min().item(), x.max().item()) == (0, 1)
    assert torch.equal(x, (x * 16).round() / 16)
    standardised = digits().load(NOWHERE, 0, CPU).evaluation("train", 0, 1077, torch.float64)[0]
    torch.testing.assert_close(standardised, (x - x.mean()) / x.std(), rtol=0, atol=1e-12)


def test_without_standardisation_every_channel_is_divided_by_its_largest_value():
    data = small(standardize=False).load(NOWHERE, 0, CPU)
    x, _ = data.evaluation("test", 0, 24, torch.float64)
    torch.testing.assert_close(x, data.splits["test"].x.double() / 255, rtol=1e-15, atol=0)
    white = Standardization(255, (0.4,), (0.2,)).without_moments()(torch.tensor([[[[255]]]]), torch.float32)
    assert white.item() == 1


def test_load_puts_a_rank_s_share_of_the_batch_on_the_device():
    whole, half = (digits(batch_size=32).load(NOWHERE, 0, CPU, rank, world) for rank, world in ((0, 1), (1, 2)))
    assert torch.equal(half.train(5)[0], whole.train(5)[0][1::2])
