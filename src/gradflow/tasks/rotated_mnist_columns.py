"""MNIST as a short sequence of columns, each image shown in several orientations at once.

Shapes: N images, H height, W width, S side of what an image is resized to, V views of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.mnist import STANDARDIZE, mnist_images
from gradflow.tasks.resident import Split, Splits, Standardization

Angles = Annotated[list[Annotated[float, Field(ge=-360, le=360)]], Field(max_length=12)]

ROTATIONS = [30.0, 60.0, 60.0]
MARGIN = 1  # pixels that are kept around the digit
AT_ONCE = 5_000  # images that are worked on together


def rotated_mnist_columns(
    *, size: Several = 15, rotations: Angles = ROTATIONS, batch_size: Several = 128, split_seed: Seed = 0
) -> Classification:
    """MNIST in four orientations, one above another, read column by column: x is [B, 15, 60] (Schaetti, Salomon &
    Couturier 2016).

    An image is cut to the box around its digit, with a margin of a pixel, and resized to S×S whatever the box's shape
    (bilinear, with the filter widened where it shrinks). The next view turns that small image to the left by the first
    of `rotations` (to the nearest pixel), and is cut and resized again; the one after it turns the one before by the
    second, and so on. Step t shows column t of all views, the first view on top: S steps of S · (1 + rotations)
    numbers, shades in [0, 1]. The class is asked for after the last step.

    The steps are those of the first author's library (EchoTorch), where angles are counter-clockwise, rotation is of
    the image before it, and images are cut and resized by the imaging library Pillow; see `views` for how near this is.
    There the digits of a hundred images make one sequence, and a digit's first state is the last one of the digit
    before. Here each digit is a sequence of its own. For a network to see a digit's S states at once:
    model=esn model.read=window model.window=15. Splits are those of `mnist`.

    Args:
        size: S.
        rotations: in degrees, each from the view before it; 30, 60 and 60 as there, so that views stand at 0, 30, 90
            and 150. An empty list leaves one view.
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
    """
    shape = (1, size, size * (1 + len(rotations)))
    # rows of the transposed image
    grey = mnist_images(
        "rotated_mnist_columns", batch_size, split_seed, view="rows", standardize=False, image_shape=shape
    )
    angles = tuple(rotations)

    def read(folder: Path) -> tuple[Splits, Standardization]:
        return _columns(grey, folder, size, angles, split_seed), STANDARDIZE

    return replace(grey, read=read)


# most of a small run's time: a worker's next run mostly wants the same
_made: dict[tuple[object, ...], Splits] = {}


def _columns(grey: Classification, folder: Path, size: int, angles: tuple[float, ...], split_seed: int) -> Splits:
    key = (folder, size, angles, split_seed)
    if key not in _made:
        splits, _ = grey.read(folder)
        _made.clear()  # one is enough
        _made[key] = {name: Split(columns(split.x, size, angles), split.y) for name, split in splits.items()}
    return _made[key]


def columns(x_N1HW: Tensor, size: int, angles: Sequence[float]) -> Tensor:
    """uint8 images to [N, 1, S, V·S], uint8: row t is column t of the views, one above another."""
    parts = [views(part[:, 0], size, angles) for part in torch.split(x_N1HW, AT_ONCE)]
    return torch.cat([part.flatten(1, 2).transpose(1, 2) for part in parts]).unsqueeze(1).contiguous()


def views(x_NHW: Tensor, size: int, angles: Sequence[float]) -> Tensor:
    """uint8 images [N, H, W] to [N, V, S, S], uint8.

    Turning is Pillow's to the pixel. Resizing differs from Pillow's by at most a shade or two of 255, in one pixel of
    fourteen: it rounds between the two axes, in an order that depends on the image.
    """
    made = [cut_and_resized(x_NHW, size)]
    for angle in angles:
        made.append(cut_and_resized(rotated(made[-1], angle), size))
    return torch.stack(made, 1)


def cut_and_resized(x_NHW: Tensor, size: int) -> Tensor:
    """The box around what is not 0, with a margin, resized to S×S."""
    rows = _resampling((x_NHW > 0).any(2), size)
    cols = _resampling((x_NHW > 0).any(1), size)
    made = (torch.einsum("nhw,ntw->nht", x_NHW.float(), cols) + 0.5).floor_()  # Pillow rounds here too
    return (torch.einsum("nsh,nht->nst", rows, made) + 0.5).floor_().clamp_(0, 255).to(torch.uint8)


def rotated(x_NSS: Tensor, angle: float) -> Tensor:
    """Each square image turned to the left by `angle` degrees, to the nearest pixel; what comes from outside is 0."""
    side = x_NSS.shape[-1]
    cos, sin = (round(f(math.radians(angle)), 15) for f in (math.cos, math.sin))
    place = torch.arange(side)
    from_right = _source(cos, -sin, side, place[None, :], place[:, None])
    from_down = _source(sin, cos, side, place[None, :], place[:, None])
    inside = (from_right >= 0) & (from_right < side) & (from_down >= 0) & (from_down < side)
    taken = x_NSS[:, from_down.clamp(0, side - 1), from_right.clamp(0, side - 1)]
    return torch.where(inside, taken, 0)


def _source(along_right: float, along_down: float, side: int, right: Tensor, down: Tensor) -> Tensor:
    """The row or column [S, S] from which each pixel is taken.

    In whole 65,536ths of a pixel, as the library counts: many pixels of a square turned by 60° lie on the very border
    between two others.
    """
    start = side / 2 + (along_right + along_down) * (0.5 - side / 2)
    fixed = [math.floor(number * 65_536 + 0.5) for number in (along_right, along_down, start)]
    return (fixed[0] * right + fixed[1] * down + fixed[2]) >> 16


def _resampling(used_NL: Tensor, size: int) -> Tensor:
    """Weights [N, S, L] that resize the used part of each line of L pixels, with its margin, to S pixels.

    The filter is a triangle, as wide on either side of a pixel's middle as the larger of an old and a new pixel.
    """
    count = used_NL.shape[1]
    first = used_NL.int().argmax(1)
    last = count - 1 - used_NL.flip(1).int().argmax(1)
    start = (first - MARGIN).clamp(min=0).double()
    # the library never takes the last line of an image, unless nothing is there
    stop = (last + 1 + MARGIN).clamp(max=count - 1).double()
    scale = (stop - start) / size
    width = scale.clamp(min=1)
    middle_NS = start[:, None] + (torch.arange(size) + 0.5) * scale[:, None]
    pixel = torch.arange(count) + 0.5
    distance_NSL = (pixel - middle_NS[:, :, None]).abs() / width[:, None, None]
    weight = (1 - distance_NSL).clamp(min=0)
    weight = weight * ((pixel > start[:, None]) & (pixel < stop[:, None]))[:, None, :]
    return (weight / weight.sum(2, keepdim=True)).float()
