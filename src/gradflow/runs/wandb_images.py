"""A heat map as a small image: a colour scale that the colour-blind can read, the axes, and what it shows.

Drawn with Pillow alone, in about ten milliseconds: importing matplotlib takes longer than a short run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradflow.runs.wandb_history import HeatMap

if TYPE_CHECKING:
    from PIL.Image import Image

# Nine colours of viridis, in equal distances; between them it is interpolated.
VIRIDIS = "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"
ZERO, BROKEN, ABSENT = (217, 217, 217), (214, 39, 40), (255, 255, 255)  # exactly zero; not finite; not there
WIDTH, HEIGHT = 480, 240  # of the map itself, in pixels
LEFT, TOP, RIGHT, BOTTOM = 62, 34, 92, 44
SIZE = 13  # of letters


def draw(shown: HeatMap) -> Image:
    """The image. Where every number is zero or missing the scale is that of one decade."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    values = shown.values.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log10(values)
    finite = logarithms[np.isfinite(logarithms)]
    least, most = (round(float(end), 3) for end in (finite.min(), finite.max())) if finite.size else (-1, 0)
    low = math.floor(least)
    high = max(math.ceil(most), low + 1)
    colours = _colours((logarithms - low) / (high - low))
    colours[values == 0] = ZERO
    colours[np.isinf(values)] = BROKEN
    colours[np.isnan(values)] = ABSENT
    picture = Picture.new("RGB", (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM), "white")
    pixels = Picture.fromarray(colours)
    picture.paste(pixels.resize((WIDTH, HEIGHT), Picture.Resampling.NEAREST), (LEFT, TOP))
    scale = _colours(np.linspace(1, 0, HEIGHT)[:, None].repeat(14, axis=1))
    bar = LEFT + WIDTH + 18
    picture.paste(Picture.fromarray(scale), (bar, TOP))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=SIZE)
    pen.text((LEFT, TOP - 8), f"{shown.quantity} by {shown.what} and training step", "black", font, anchor="ls")
    for i in _ticks(len(shown.rows), 6):
        y = TOP + (i + 0.5) * HEIGHT / len(shown.rows)
        pen.text((LEFT - 7, y), str(shown.rows[i]), "black", font, anchor="rm")
        pen.line([(LEFT - 4, y), (LEFT, y)], "black")
    for i in _ticks(len(shown.steps), 5):
        x = LEFT + (i + 0.5) * WIDTH / len(shown.steps)
        pen.text((x, TOP + HEIGHT + 6), str(shown.steps[i]), "black", font, anchor="mt")
        pen.line([(x, TOP + HEIGHT), (x, TOP + HEIGHT + 4)], "black")
    pen.text((LEFT + WIDTH / 2, TOP + HEIGHT + BOTTOM - 6), "training step", "black", font, anchor="ms")
    sideways = Picture.new("L", (HEIGHT, SIZE + 5), 0)
    near = " (0 is nearest the input)" if shown.what == "block" else ""
    ImageDraw.Draw(sideways).text((HEIGHT / 2, (SIZE + 5) / 2), shown.what + near, 255, font, anchor="mm")
    picture.paste("black", (4, TOP), sideways.rotate(90, expand=True))
    for exponent in range(low, high + 1, max(1, math.ceil((high - low) / 6))):
        y = TOP + HEIGHT * (high - exponent) / (high - low)
        pen.text((bar + 19, y), f"1e{exponent}", "black", font, anchor="lm")
        pen.line([(bar + 14, y), (bar + 17, y)], "black")
    return picture


def caption(shown: HeatMap) -> str:
    """What the image shows, and what its special colours mean where they occur."""
    words = [f"{shown.quantity}, log scale; {shown.what} 0 at the top"]
    words += ["grey: exactly zero"] if (shown.values == 0).any() else []
    words += ["red: infinite"] if np.isinf(shown.values).any() else []
    words += ["white: none, or not a number"] if np.isnan(shown.values).any() else []
    return "; ".join(words)


def _colours(shares: np.ndarray) -> np.ndarray:
    """[..., 3] bytes of shares 0 to 1."""
    anchors = np.array([[int(word[i : i + 2], 16) for i in (0, 2, 4)] for word in VIRIDIS.split()])
    place = np.linspace(0, 1, len(anchors))
    clear = np.nan_to_num(shares, nan=0.0, posinf=1.0, neginf=0.0)
    mixed = [np.interp(clear, place, anchors[:, channel]) for channel in range(3)]
    return np.stack(mixed, axis=-1).round().astype(np.uint8)


def _ticks(count: int, most: int) -> list[int]:
    """Up to so many places, the first and the last among them."""
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)}) if count > 1 else [0] * (count > 0)
