"""Which choices do not go together, by their words: what no run may do, and what it had better not.

What the shapes of a network forbid is told by the network itself, when it is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gradflow.runs.config import Config
from gradflow.runs.identity import labels
from gradflow.runs.ranks import processes

ON_WEIGHTS = ("weight_norm", "scaled_weight_standardization", "spectral")
# Skips whose branch can begin as zero and still learn: a sum passes the gradient on, and nothing follows the last map.
ZEROABLE = (
    "residual",
    "preact_residual",
    "scaled_residual",
    "stochastic_depth",
    "fixup_scalar",
    "dense",
    "scaled_shortcut",
    "gated_shortcut",
)
# Those among them that add what a whole layer gives in model=tcn, whose branches end with an activation.
SUMS_OF_LAYERS = ("residual", "stochastic_depth", "fixup_scalar", "scaled_shortcut", "gated_shortcut")
GAIN_RELU = math.sqrt(2 / (1 - 1 / math.pi))  # as in conf/norm/scaled_weight_standardization.yaml
# Skips after whose sum nothing follows: the output of a block is its input and something.
CARRYING = ("preact_residual", "scaled_residual", "rezero", "skipinit", "dense")
INITS_TO_ZERO = ("fixup", "zero_last")
RECURRENT = ("recurrent", "recurrent_state")
FEED_FORWARD = ("mlp", "convnet", "resnet", "transformer_encoder")
OF_SEQUENCES = ("tcn", "esn")  # models of sequences alone, without cells
# Inits that look at maps, kernels or branches of them, of which recurrent layers have none.
OF_MAPS = ("fixup", "zero_last", "lsuv", "deepnorm", "delta_orthogonal")


@dataclass(frozen=True)
class _Words:
    """A config's choices, each in one word."""

    model: str
    activation: str
    init: str
    norm: str
    skip: str
    cell: str


def refused(config: Config) -> list[str]:
    """Pairs that are impossible or mean nothing, one line each, saying what to change."""
    return list(_refused(config, _words(config)))


def questioned(config: Config) -> list[str]:
    """Pairs that run, but seldom mean what a person wants; one line each."""
    return list(_questioned(config, _words(config)))


def _refused(config: Config, words: _Words) -> Iterator[str]:
    if words.cell != "none" and words.model in (*FEED_FORWARD, *OF_SEQUENCES):
        yield f"cell={words.cell} has no effect in model={words.model}: use model=recurrent"
    if config.instruments.time_segments is not None and {"tbptt", "horizon"} & set(config.remedy):
        yield (
            f"instruments.time_segments={config.instruments.time_segments} would see one window of remedy=tbptt or "
            "horizon at a time: set instruments.time_segments=null; the probe sees all of a sequence"
        )
    if "lyapunov" in config.instruments.time_quantities and config.model.get("skip_time"):
        yield (
            f"instruments.time_quantities with lyapunov needs a map from one state to the next, which "
            f"model.skip_time={config.model['skip_time']} has not: leave out lyapunov"
        )
    if config.recurrent_init is not None and words.model in (*FEED_FORWARD, *OF_SEQUENCES):
        yield f"recurrent_init has no effect in model={words.model}, which has no recurrent weights: leave it out"
    if words.model == "esn" and config.model.get("readout") == "ridge" and config.remedy:
        yield (
            f"remedy={','.join(config.remedy)} acts on gradients, of which a read-out solved in closed form has none: "
            "use remedy=none, or model.readout=sgd"
        )
    if words.model == "esn" and config.model.get("readout") == "ridge" and processes(config) > 1:
        yield (
            f"trainer.devices={config.trainer.devices}: model.readout=ridge is solved in one process, without "
            "gradients to share: use trainer.devices=1, or model.readout=sgd"
        )
    if words.model in RECURRENT and words.init in OF_MAPS:
        yield (
            f"init={words.init} looks at maps from layer to layer, which model={words.model} has none of: "
            "use another init, e.g. glorot_uniform, and recurrent_init for the weights through time"
        )
    if words.model in RECURRENT and words.norm in ON_WEIGHTS:
        yield (
            f"norm={words.norm} acts on the weights of linear maps and convolutions, not on those of recurrent cells: "
            "use norm=layer, or a norm inside the cell"
        )
    if config.alpha_dropout and words.activation != "selu":
        yield (
            f"alpha_dropout={config.alpha_dropout} keeps the fixed point of SELU, but activation={words.activation}: "
            "use activation=selu, or dropout"
        )
    if config.alpha_dropout and config.dropout:
        yield f"dropout={config.dropout} and alpha_dropout={config.alpha_dropout}: use one of them"
    if words.init in INITS_TO_ZERO and words.skip not in ZEROABLE:
        yield (
            f"init={words.init} begins every branch as zero, from which skip={words.skip} would never learn: "
            f"use skip={', '.join(ZEROABLE)}, or another init"
        )
    if words.init in INITS_TO_ZERO and words.model == "tcn" and words.skip in SUMS_OF_LAYERS:
        yield (
            f"init={words.init} begins every branch as zero, but with model=tcn skip={words.skip} it ends with an "
            "activation, under which ReLU passes no gradient on: use skip=preact_residual, or another init"
        )
    if words.init in INITS_TO_ZERO and words.norm in ON_WEIGHTS:
        yield f"init={words.init} sets weights to zero, by whose size norm={words.norm} divides: use another init"
    if words.init == "identity" and words.norm == "weight_norm":
        yield (
            "init=identity leaves units without weights where a block widens, by whose norm norm=weight_norm divides: "
            "use another init or norm"
        )
    if words.init == "fixup" and words.norm not in ("none", *ON_WEIGHTS):
        yield f"init=fixup stands in for normalisation, but norm={words.norm}: use norm=none, or init=zero_last"
    if words.init == "fixup" and words.model == "transformer_encoder":
        yield "init=fixup counts layers of maps, not attention: use skip=rezero or skip=deepnorm init=deepnorm"
    if words.init == "lsuv" and words.norm in ("scaled_weight_standardization", "spectral"):
        yield f"init=lsuv rescales weights, which norm={words.norm} undoes: use norm=none, or another init"
    if words.skip == "deepnorm" and config.model.get("norm_position") == "pre":
        yield "model.norm_position=pre: skip=deepnorm normalises after the addition; set model.norm_position=null"
    if words.skip == "preact_residual" and words.model == "transformer_encoder":
        yield (
            "skip=preact_residual with model=transformer_encoder is pre-LN: "
            "use skip=residual, with model.norm_position=pre"
        )


def _questioned(config: Config, words: _Words) -> Iterator[str]:
    if processes(config) > 1 and words.norm == "batch" and not config.norm.get("sync"):
        yield (
            f"norm=batch with {processes(config)} processes takes the statistics of each one's share of a batch; "
            "norm.sync=true takes those of the whole batch, as one process does"
        )
    if processes(config) > 1 and (config.cell or {}).get("recurrent_norm") == "batch":
        yield (
            f"cell.recurrent_norm=batch with {processes(config)} processes takes the statistics of each one's share "
            "of a batch, those of evaluation being rank 0's"
        )
    if words.activation == "selu" and config.dropout:
        yield f"dropout={config.dropout} moves SELU off its fixed point, which alpha_dropout keeps"
    if words.activation == "selu" and words.init != "lecun_normal":
        yield f"activation=selu has its fixed point with init=lecun_normal, not {words.init}"
    if words.activation == "selu" and words.norm != "none":
        yield f"activation=selu normalises by itself; with norm={words.norm} it is no longer that experiment"
    if words.model == "esn" and config.model.get("spectral_radius", 0.0) >= 1:
        radius, leak = config.model["spectral_radius"], config.model.get("leak", 1.0)
        yield (
            f"model.spectral_radius={radius:g} with model.leak={leak:g}: the radius of (1 − leak) I + leak W can reach "
            f"{1 - leak + leak * radius:.3g}; from 1 on a reservoir without input need not forget its initial state "
            "(Jaeger 2001)"
        )
    if words.model == "resnet" and (words.skip, words.norm) == ("none", "none"):
        yield "model=resnet with skip=none norm=none is a plain network; He et al. 2016 have norm=batch skip=residual"
    if words.model == "transformer_encoder" and words.skip == "none":
        yield "model=transformer_encoder with skip=none has no residual connections; usual are skip=residual norm=layer"
    if words.model == "tcn" and words.norm == "instance":
        yield "norm=instance averages over all steps, so that model=tcn sees the future; norm=layer takes each alone"
    if words.model == "tcn" and words.skip == "none":
        yield (
            "model=tcn with skip=none is a plain network; Bai et al. 2018 have skip=residual skip.shortcut=projection "
            "norm=weight_norm"
        )
    if words.model == "tcn":
        yield from _short_sighted(config)
    pretraining = config.remedy.get("layerwise_pretraining")
    if pretraining and config.trainer.max_time is not None:
        yield (
            "remedy.layerwise_pretraining shares out trainer.max_steps: where trainer.max_time ends the run before, "
            "less or nothing is left for fine-tuning"
        )
    if pretraining and pretraining.get("objective") == "autoencoder" and words.skip in CARRYING:
        yield (
            f"remedy.layerwise_pretraining.objective=autoencoder: with skip={words.skip} a block's output holds its "
            "input, so that there is little to learn; use objective=supervised"
        )
    if words.init == "delta_orthogonal" and words.model in ("mlp", "transformer_encoder"):
        yield f"init=delta_orthogonal is for convolutions; model={words.model} has none in its blocks: it is orthogonal"
    if (words.init == "deepnorm") != (words.skip == "deepnorm"):
        yield "skip=deepnorm and init=deepnorm are two halves of one method (Wang et al. 2022); here is only one"
    if (words.init == "fixup") != (words.skip == "fixup_scalar"):
        yield "skip=fixup_scalar and init=fixup are two parts of one method (Zhang et al. 2019); here is only one"
    standardized = words.norm == "scaled_weight_standardization"
    if standardized and words.init in ("delta_orthogonal", "identity", "sparse"):
        yield f"norm=scaled_weight_standardization subtracts each unit's mean, which undoes init={words.init}"
    if standardized and words.activation != "relu" and config.norm["gain"] == GAIN_RELU:
        yield f"norm.gain is that of ReLU, 1/sqrt(Var relu(z)); activation={words.activation} has another"
    if words.skip in ("rezero", "skipinit", "fixup_scalar") and words.norm not in ("none", *ON_WEIGHTS):
        yield f"skip={words.skip} was made to do without normalisation; norm={words.norm} is added to it here"


def _short_sighted(config: Config) -> Iterator[str]:
    from gradflow.models.tcn import receptive_field  # torch is slow to import, and few plans have this model
    from gradflow.runs.build import make

    steps = make("task", config.task).input_shape[0]
    seen = receptive_field(config.model["kernel_size"], config.depth, config.model["period"])
    if seen < steps:
        yield (
            f"model=tcn with depth={config.depth} model.kernel_size={config.model['kernel_size']} sees {seen} steps, "
            f"but sequences have {steps}: more blocks or a larger kernel would see all of them"
        )


def _words(config: Config) -> _Words:
    flat = labels(config)
    return _Words(*(str(flat.get(name, "none")) for name in ("model", "activation", "init", "norm", "skip", "cell")))
