"""A prediction for a person: on the terminal, and as pictures. It holds what `prediction.json` holds.

Shapes: L blocks.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.table import Table
from rich.text import Text

from gradflow.results.pictures import style
from gradflow.results.pictures.gradient_by_block import SIGNS, limits
from gradflow.results.pictures.phase import FACTOR, SPAN, background, beyond, phase_keys
from gradflow.results.pictures.style import KEY_HEIGHT, PALETTE, REFERENCE, WORDS, Room
from gradflow.results.predicted import OF

BLOCKS = 7  # of which the terminal tells
BAR = 30  # characters of the longest bar


def to_rich(prediction: dict[str, Any], title: str) -> list[Any]:
    """What `gradflow predict` prints."""
    shown: list[Any] = [Text(title, style="bold")]
    if prediction["applies"]:
        shown += [_numbers(prediction), _blocks(prediction)]
    else:
        shown.append(Text(f"no prediction over blocks: {prediction['why_not']}", style="yellow"))
    if prediction.get("through_time"):
        shown.append(_through_time(prediction["through_time"]))
    shown += [Text(f"assumed: {sentence}", style="dim") for sentence in prediction["assumptions"]]
    if prediction["cures"]:
        shown.append(_cures(prediction))
    return shown


def draw(prediction: dict[str, Any], title: str) -> Figure | None:
    """The predicted gradient over blocks, of outputs and of parameters; None where theory does not apply."""
    if not prediction["applies"]:
        return None
    blocks = np.arange(len(prediction["log10_delta"]))
    looks: tuple[tuple[str, str, Any, str], ...] = (
        ("delta_norm", PALETTE[5], "-", "of a block's output"),
        ("grad_norm", PALETTE[4], (0, (4, 2)), "of its parameters"),
    )
    keys = [
        Line2D([], [], color=colour, linestyle=dash, linewidth=1.4, label=f"{SIGNS[name]} {words}")
        for name, colour, dash, words in looks
        if prediction.get(OF[name]) is not None
    ]
    handles: list[Artist] = list(keys)
    if prediction.get("band") is not None:
        handles.append(Patch(color=REFERENCE, alpha=0.3, linewidth=0, label="± one standard deviation over weights"))
    room = Room(width=3.6, height=2.3, left=0.75, top=0.55, bottom=0.5 + KEY_HEIGHT * len(handles))
    with rc_context(WORDS), np.errstate(under="ignore", over="ignore"):
        figure, axes = style.panels(1, 1, room)
        axis = axes[0, 0]
        for name, key in zip(OF, keys, strict=False):
            line = 10.0 ** np.array(prediction[OF[name]])
            axis.plot(blocks, line, color=key.get_color(), linestyle=key.get_linestyle(), linewidth=1.4)
        band = prediction.get("band")
        if band is not None:
            line, wide = 10.0 ** np.array(prediction["log10_delta"]), np.array(band)
            axis.fill_between(blocks, line * np.exp(-wide), line * np.exp(wide), color=REFERENCE, alpha=0.3, lw=0)
        axis.set_yscale("log")
        style.tidy(axis)
        limits(axis)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.set_ylabel("relative to the last block")
        axis.set_title(style.plain(_headline(prediction)), fontsize=7)
        style.below(figure, "block l (0 is nearest the input)", len(handles))
        figure.suptitle(style.plain(title), fontsize=9, y=1 - 0.1 / figure.get_figheight(), va="top")
        figure.legend(handles=handles, loc="lower center", fontsize=7, frameon=False, handlelength=3.2)
    return figure


def draw_diagram(diagram: dict[str, Any]) -> Figure:
    """The phase diagram of `gradflow.runs.phase_diagram`: blue where gradients vanish (order), red where they explode
    (chaos), the critical line between them, and hatched where the signal grows without bound."""
    keys = phase_keys([diagram])
    with rc_context({**WORDS, "hatch.linewidth": 0.4}):
        room = Room(width=3.6, height=2.7, left=0.65, right=1.0, top=0.4)
        unbounded = ["signal grows without bound"] if diagram["unbounded"].any() else []
        names = [
            "critical line, chi_1=1",
            *unbounded,
            *diagram["marks"],
            *(["this config"] if diagram["chosen"] else []),
        ]
        _, rows = style.key_rows(names, room.left + room.width + room.right)
        room = replace(room, bottom=0.55 + KEY_HEIGHT * rows)
        figure, axes = style.panels(1, 1, room)
        axis, factor = axes[0, 0], diagram["log10_factor"]
        span = float(np.clip(np.abs(factor).max(), *SPAN))
        colours = background(axis, diagram, span)
        for i, (name, at) in enumerate(diagram["marks"].items()):
            mark: Any = {"marker": style.MARKERS[i], "color": "white", "markeredgecolor": "black", "linestyle": "none"}
            axis.plot(*at, markersize=6, clip_on=False, zorder=5, **mark)
            keys.append(Line2D([], [], markersize=5, label=name, **mark))
        if diagram["chosen"] is not None:
            cross: Any = {"marker": "x", "color": "black", "markeredgewidth": 2, "linestyle": "none"}
            axis.plot(*diagram["chosen"], markersize=7, clip_on=False, zorder=6, **cross)
            keys.append(Line2D([], [], markersize=6, label="this config", **cross))
        width, height = figure.get_size_inches()
        place = axis.get_position()
        bar_axis = figure.add_axes((1 - 0.85 / width, place.y0, 0.12 / width, place.height))
        extend = beyond([diagram], span)
        bar = figure.colorbar(colours, cax=bar_axis, extend=extend)
        bar.set_label(FACTOR)
        axis.set_xlabel(r"$\sigma_w^2$ (fan_in times the variance of a weight)")
        axis.set_ylabel(r"$\sigma_b^2$ (variance of a bias)")
        figure.suptitle(style.plain(diagram["title"]), fontsize=9, y=1 - 0.1 / height, va="top")
        style.legend(figure, keys)
    return figure


def _numbers(prediction: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for words, value in (
        ("phase", _phase(prediction)),
        ("χ₁, factor of the squared gradient per block", _number(prediction["chi"])),
        ("q*, variance of pre-activations", _number(prediction["q"])),
        ("c*, correlation of two inputs", _number(prediction["c"])),
        ("σ_w², σ_b² of the init", f"{_number(prediction['sigma_w2'])}, {_number(prediction['sigma_b2'])}"),
        ("critical σ_w² at this σ_b²", _number(prediction["critical_sigma_w2"])),
        ("depth scales ξ_q, ξ_c, ξ_∇", ", ".join(_scale(prediction, key) for key in ("xi_q", "xi_c", "xi_gradient"))),
        ("trainable", _trainable(prediction)),
    ):
        grid.add_row(Text(words, style="dim"), Text(value))
    return grid


def _blocks(prediction: dict[str, Any]) -> Table:
    """A handful of evenly spread blocks."""
    table = Table(box=box.SIMPLE_HEAD, title=Text("predicted gradient, relative to the last block"))
    for header in ("block", "‖∂L/∂x‖", "‖∂L/∂(W, b)‖", "‖∂L/∂x‖, log scale"):
        table.add_column(header, justify="right" if header != "‖∂L/∂x‖, log scale" else "left")
    delta = np.array(prediction["log10_delta"], dtype=float)
    grad = np.array(prediction["log10_grad"] or [math.nan] * len(delta), dtype=float)
    finite = delta[np.isfinite(delta)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    low = min(low, high - 1)
    for block in np.unique(np.linspace(0, len(delta) - 1, BLOCKS).round().astype(int)):
        long = 1 + round((BAR - 1) * (delta[block] - low) / (high - low)) if math.isfinite(delta[block]) else 0
        table.add_row(str(block), _power(delta[block]), _power(grad[block]), "█" * long)
    return table


def _cures(prediction: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=Text("single changes that bring χ₁ nearer to 1"), title_justify="left")
    for header in ("change", "instead of", "χ₁", "χ₁ now"):
        table.add_column(header)
    for cure in prediction["cures"]:
        change = Text(f"{cure['key']}={cure['value']}")
        table.add_row(change, str(cure["instead"]), _number(cure["chi"]), _number(cure["chi_instead"]))
    return table


def _through_time(found: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    horizon = found.get("horizon_1%")
    for words, value in (
        ("χ₁, factor of the squared gradient per time step", _number(found["chi"])),
        ("largest Lyapunov exponent, ½ ln χ₁ per step", _number(found["exponent"])),
        ("variance of pre-activations", _number(found["q"])),
        (
            "memory horizon (gradient above 1 %)",
            "no limit: the gradient does not fade" if horizon is None else f"about {horizon:.3g} steps back",
        ),
    ):
        grid.add_row(Text(words, style="dim"), Text(value))
    return grid


def _headline(prediction: dict[str, Any]) -> str:
    parts = [_phase(prediction), f"χ₁ = {_number(prediction['chi'])}"]
    if prediction["trainable_depth"] is not None:
        parts.append(f"trainable {_trainable(prediction)}")
    return ", ".join(parts)


def _phase(prediction: dict[str, Any]) -> str:
    words = {
        "ordered": "ordered: gradients vanish",
        "chaotic": "chaotic: gradients explode",
        "critical": "critical: gradients neither vanish nor explode exponentially",
    }
    return words.get(str(prediction.get("phase")), "–")


def _trainable(prediction: dict[str, Any]) -> str:
    depth = prediction["trainable_depth"]
    return "no exponential limit on depth" if depth is None else f"to about depth {depth:.0f} (6 ξ_c)"


def _scale(prediction: dict[str, Any], key: str) -> str:
    value = prediction[key]
    return "∞" if value is None and prediction.get("phase") == "critical" else _number(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _power(log10: float) -> str:
    """1.2e-45 from its logarithm, however small."""
    if not math.isfinite(log10):
        return "0" if log10 < 0 else "–"
    exponent = math.floor(log10)
    mantissa = 10 ** (log10 - exponent)
    return f"{mantissa:.2g}e{exponent:+03d}" if abs(exponent) > 3 else f"{10**log10:.3g}"
