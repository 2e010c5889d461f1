"""The optimiser of a field: which parameters learn at which rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .resfield import ResFieldConfig, coefficient_modules


def make_optimiser(
    module: nn.Module,
    grid_rate: float,
    network_rate: float,
    residual: ResFieldConfig | None = None,
    pace: float = 1.0,
) -> torch.optim.Optimizer:
    """Returns Adam with the encoders' tables, the networks and, where it has settings of its own,
    the residual's coefficients as groups; each keeps its ``full_rate`` for the schedules.

    Args:
        module: The field.
        grid_rate: Learning rate of parameters named ``table``.
        network_rate: Learning rate of all others.
        residual: Rate and decay of the coefficients; that of the module by default.
        pace: How many times faster coefficients learn than that says.
    """
    if residual is None:
        residual = getattr(module, "residual", ResFieldConfig())
    assert isinstance(residual, ResFieldConfig), residual
    rate = residual.coefficient_rate * pace
    is_apart = rate != 1.0 or residual.coefficient_decay > 0.0
    moving = [p for each in coefficient_modules(module) for p in each.parameters()]
    apart = {id(parameter) for parameter in moving} if is_apart else set()
    named = [(name, p) for name, p in module.named_parameters() if id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in named if name.endswith("table")], "lr": grid_rate},
        {"params": [p for name, p in named if not name.endswith("table")], "lr": network_rate},
        {
            "params": moving if is_apart else [],
            "lr": network_rate * rate,
            "weight_decay": residual.coefficient_decay,
        },
    ]
    groups = [group for group in groups if group["params"]]
    for group in groups:
        group["full_rate"] = group["lr"]
    # Without decay this is Adam; decay is decoupled from the gradient (arXiv:1711.05101).
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.0, fused=True)
