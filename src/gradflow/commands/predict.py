"""`gradflow predict`: what theory says, without training."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import OK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SUMMARY = "what theory says of a network's gradients, without training it"
HELP = """What mean-field theory says of a network at initialisation, without training it.

  gradflow predict depth=50 activation=tanh init=mean_field init.sigma_w2=1.5 init.sigma_b2=0.05
  gradflow predict --phase-diagram activation=tanh

Prints the fixed point, the factor of the gradient per block, how deep such a network can be trained, the gradient in
every block, what is assumed, and single changes that would help. A picture is written to --out.
"""


def arguments(command: argparse.ArgumentParser) -> None:
    usage.overrides(command)
    diagram = "order and chaos over the variances of weights and biases instead, for the activation"
    command.add_argument("--phase-diagram", action="store_true", help=diagram)
    place = "folder of pictures (default: predictions)"
    command.add_argument("--out", type=usage.out_folder, default=Path("predictions"), metavar="DIR", help=place)


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """What theory says, without training."""
    from rich.console import Console

    from gradflow.runs.build import check_keys
    from gradflow.runs.compose import composer
    from gradflow.runs.identity import labels, run_id
    from gradflow.runs.preflight import preflight

    with composer(options.config_dir) as compose:
        config = compose.config(options.overrides)
    faults = check_keys(config) if options.phase_diagram else preflight(config)
    if faults:
        raise ConfigError(*faults)
    words = {name: str(word) for name, word in labels(config).items()}
    console = Console(highlight=False)
    if options.phase_diagram:
        from gradflow.results.foretold import draw_diagram
        from gradflow.runs.phase_diagram import phase_diagram

        stem = f"phase_diagram-{words['activation']}"
        try:
            figure: Figure | None = draw_diagram(phase_diagram(config))
        except ValueError as error:
            raise ConfigError(str(error)) from None
    else:
        from gradflow.results import foretold
        from gradflow.runs.prediction import predict as predicted

        title = f"{words['model']} {words['recipe']} depth {config.depth}"
        prediction = predicted(config)
        for shown in foretold.to_rich(prediction, title):
            console.print(shown, soft_wrap=True)
        figure = foretold.draw(prediction, title)
        stem = f"{words['recipe'].replace(' · ', '-')}-depth{config.depth}-{run_id(config)[:6]}"
    if figure is not None:
        from gradflow.results.pictures.style import save

        stem = re.sub(r"[^\w-]+", "_", stem)  # a definition from elsewhere has dots in its word
        options.out.mkdir(parents=True, exist_ok=True)
        save(figure, options.out / stem)
        console.print(str(options.out / f"{stem}.png"), soft_wrap=True)
    return OK
