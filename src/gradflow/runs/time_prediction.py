"""What theory says of the gradient through time of a simple recurrent network."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradflow.models.cells.rnn import RNN
from gradflow.models.recurrence import Recurrence
from gradflow.models.weights import Weight
from gradflow.runs.build import Pieces, factory
from gradflow.runs.config import Config
from gradflow.runs.identity import labels
from gradflow.runs.phis import known
from gradflow.runs.variances import variances
from gradflow.theory.recurrent import mean_field

SHARE = 0.01  # of the gradient at the last step, at which memory is said to end


def through_time(config: Config, pieces: Pieces) -> dict[str, Any]:
    """`through_time` and `assumptions` of a prediction, of the first layer.

    Returns:
        Of 'through_time': chi, the factor of a step on the expected squared gradient; exponent, ½ ln χ₁; q, the
        variance of pre-activations; sigma_w2, the squared gain of recurrent weights; horizon_1%, the steps back after
        which the gradient has fallen below 1 %, None where it never does.

    Raises:
        ValueError: the end of a sentence that says why theory does not apply.
    """
    layers = [module for module in pieces.network.modules() if isinstance(module, Recurrence)]
    cell, word = layers[0].cell, str(labels(config)["cell"])
    if type(cell) is not RNN:
        raise ValueError(f"through time theory here covers cell=rnn alone, not cell={word}")
    if cell.recurrent_norm != "none" or layers[0].skip_time:
        raise ValueError("norms in the recurrence and skips through time are not covered")
    phi = known(cell.activation, str(labels(config)["activation"]))
    if phi.moments is not None:
        raise ValueError(f"activation={phi.moments.kind} is not a function of one number")
    assert config.recurrent_init is not None
    activation = factory("activation", config.activation)
    meta = torch.device("meta")
    own = Weight(torch.empty(cell.recurrent_weight.shape, device=meta), role="recurrent", activation=activation)
    bias = torch.empty(len(cell.bias), device=meta)
    enters = Weight(torch.empty(cell.input_weight.shape, device=meta), bias, activation=activation)
    recurrent = variances(factory("recurrent_init", config.recurrent_init), own)
    inputs = variances(factory("init", config.init), enters)
    found = mean_field(
        phi.phi, math.sqrt(recurrent.sigma_w2), inputs.sigma_w2 + inputs.sigma_b2, kinks=phi.kinks
    )  # inputs have mean square 1
    fades = -math.inf < found.exponent < 0
    horizon = math.log(SHARE) / found.exponent if fades else None if found.exponent >= 0 else 1.0
    values = {
        "chi": found.chi,
        "exponent": found.exponent if math.isfinite(found.exponent) else None,
        "q": found.variance,
        "sigma_w2": recurrent.sigma_w2,
        "horizon_1%": horizon,
    }
    notes = [
        "the layer is wide and its recurrent weights are drawn anew for every step, which for gradients makes no "
        "difference to first order",
        "inputs have mean square 1 and are independent from step to step",
        "the first layer alone is looked at",
    ]
    return {"through_time": values, "assumptions": notes}
