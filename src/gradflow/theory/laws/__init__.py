"""The law of each kind of block, under the names that gradflow's skips have."""

from gradflow.theory.laws.deepnorm import DeepNorm
from gradflow.theory.laws.highway import Highway
from gradflow.theory.laws.plain import Linear, Plain, stem
from gradflow.theory.laws.preact_residual import PreactResidual
from gradflow.theory.laws.residual import Residual
from gradflow.theory.laws.rezero import ReZero

__all__ = ["DeepNorm", "Highway", "Linear", "Plain", "PreactResidual", "ReZero", "Residual", "stem"]
