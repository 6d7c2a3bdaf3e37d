"""A cure, and what the literature has for each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST = 3  # cures of one source


@dataclass(frozen=True)
class Cure:
    """One change.

    Attributes:
        change: e.g. 'he_normal instead of glorot_uniform'.
        why: what theory, the sweep or the literature says of it.
        source: 'sweep', 'theory', 'sweep and theory' or 'advice'.
        overrides: what to type, e.g. ('init=he_normal',); empty for advice in words.
        figure: what was scored with it in the sweep.
    """

    change: str
    why: str
    source: str
    overrides: tuple[str, ...] = ()
    figure: float | None = None

    def __str__(self) -> str:
        return f"{self.change}: {self.why}"


@dataclass(frozen=True)
class _Advice:
    change: str
    source: str
    factor: str | None = None
    used: tuple[str, ...] = ()  # words of the factor with which it has been followed
    override: str | None = None


_NORM = _Advice(
    "a norm before each activation", "Ioffe & Szegedy 2015; Ba et al. 2016", "norm", ("batch", "layer"), "norm=batch"
)
_SKIP = _Advice(
    "residual connections", "He et al. 2016", "skip", ("residual", "preact_residual", "highway"), "skip=preact_residual"
)
_RELU = _Advice(
    "an activation whose slope is not below 1/4 everywhere, such as tanh or relu",
    *(
        "Glorot & Bengio 2010; Glorot et al. 2011",
        "activation",
        ("relu", "tanh", "leaky_relu", "elu", "selu"),
        "activation=relu",
    ),
)
_INIT = _Advice(
    "an initialisation that fits the activation: he_normal for relu, glorot or orthogonal for tanh",
    *("Glorot & Bengio 2010; He et al. 2015; Saxe et al. 2014", "init"),
)
_CLIP = _Advice(
    "gradient clipping by norm", "Pascanu et al. 2013", "remedy", ("clip_norm", "agc"), "remedy=[clip_norm]"
)
_WARMUP = _Advice(
    "a smaller learning rate, or a warm-up", "Goyal et al. 2017", "remedy", ("warmup",), "remedy=[warmup]"
)
_LEAKY = _Advice(
    "an activation with a slope on both sides", "Maas et al. 2013; Lu et al. 2020", "activation",
    ("leaky_relu", "elu", "gelu", "silu", "prelu", "selu"), "activation=leaky_relu",
)  # fmt: skip
_SMALLER = _Advice(
    "smaller initial weights, so that units begin where the activation is steep", "Glorot & Bengio 2010", "init"
)
_ADAM = _Advice(
    "another learning rate, or an optimiser with one of its own per weight",
    "Kingma & Ba 2015",
    "optimizer",
    ("adam", "adamw"),
    "optimizer=adam",
)
_GATED = _Advice(
    "a gated cell with a forget gate near 1",
    "Hochreiter & Schmidhuber 1997; Gers et al. 2000; Tallec & Ollivier 2018",
    "cell",
    ("lstm", "gru", "lru"),
    "cell=lstm",
)
_ORTHOGONAL = _Advice(
    "recurrent weights that begin orthogonal or as the identity",
    "Le et al. 2015; Arjovsky et al. 2016",
    "recurrent_init",
    ("orthogonal", "identity"),
    "recurrent_init=orthogonal",
)
_OMEGA = _Advice(
    "a penalty that keeps the gradient's norm through time",
    "Pascanu et al. 2013",
    "remedy",
    ("omega",),
    "remedy=[omega]",
)

ADVICE: dict[str, tuple[_Advice, ...]] = {
    "vanishing": (_SKIP, _NORM, _RELU, _INIT),
    "exploding": (_CLIP, _NORM, _INIT, _WARMUP),
    "dead": (_LEAKY, _WARMUP, _NORM),
    "saturated": (_SMALLER, _NORM, _RELU),
    "rank_collapse": (_SKIP, _NORM, _INIT),
    "diverged": (_WARMUP, _CLIP, _NORM),
    "stagnant": (_ADAM, _SKIP, _NORM),
}
THROUGH_TIME: dict[str, tuple[_Advice, ...]] = {
    "vanishing": (_GATED, _ORTHOGONAL, _OMEGA),
    "exploding": (_CLIP, _ORTHOGONAL, _GATED),
}


def advice(verdict: str, labels: Mapping[str, Any], *, through_time: bool = False) -> tuple[Cure, ...]:
    """The literature's cures for a verdict, without those that the labels say are in use."""
    table = THROUGH_TIME.get(verdict) if through_time else None
    return tuple(
        Cure(each.change, each.source, "advice", (each.override,) if each.override else ())
        for each in table or ADVICE.get(verdict, ())
        if each.factor is None or not set(str(labels.get(each.factor, "")).split(" + ")) & set(each.used)
    )[:MOST]
