"""The residual of ResFields (arXiv:2309.03160): parameters that are a base plus a part that moves.

``theta(t) = theta_0 + sum_r v_r(t) Theta_r`` (Eq. 4) and the other forms of the paper's study;
`FACTORISATIONS` maps `ResFieldConfig.factorisation` to the class that composes the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends.specs import MlpSpec
from .coefficients import (
    AttentionCoefficients,
    TimeCoefficients,
    coefficient_modules,
    dct_basis,
    knot_weights,
    segment_weights,
    smooth_rows,
    temporal_roughness,
)
from .config import ResFieldConfig
from .factorisations import (
    AttentionWeights,
    CpWeights,
    FrameBiasWeights,
    FullWeights,
    LocallyConstantWeights,
    LowRankWeights,
    TuckerWeights,
)
from .weights import ResidualWeights

FACTORISATIONS: dict[str, type[ResidualWeights]] = {
    "vm": LowRankWeights,
    "none": FullWeights,
    "cp": CpWeights,
    "tucker": TuckerWeights,
    "resnet": FrameBiasWeights,
    "loe": LocallyConstantWeights,
    "vm_attention": AttentionWeights,
}


def residual_weights(
    initial: Tensor,  # (P,)
    spec: MlpSpec,
    n_frames: int,
    config: ResFieldConfig,
    generator: torch.Generator,
) -> ResidualWeights:
    """Returns the weights of a network in the form that a config names.

    Raises:
        ConfigError: Rank, layers or knots exceed what network and frames allow.
    """
    return FACTORISATIONS[config.factorisation](initial, spec, n_frames, config, generator)


__all__ = [
    "FACTORISATIONS",
    "AttentionCoefficients",
    "ResFieldConfig",
    "ResidualWeights",
    "TimeCoefficients",
    "coefficient_modules",
    "dct_basis",
    "knot_weights",
    "residual_weights",
    "segment_weights",
    "smooth_rows",
    "temporal_roughness",
]
