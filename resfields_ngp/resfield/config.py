"""Settings of the time residual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Factorisation = Literal["vm", "none", "cp", "tucker", "resnet", "loe", "vm_attention"]


@dataclass(frozen=True)
class ResFieldConfig:
    """How network weights change over time."""

    rank: int = 8
    """R, residuals per network; 0 switches them off (plain instant-NGP networks). With loe, the
    number of segments of time; none and resnet only ask whether it is above 0."""
    layers: tuple[int, ...] = ()
    """Layers that carry residuals, counted from 0; empty is all of them."""
    coefficients: Literal["lookup", "interpolation"] = "lookup"
    """lookup: one row a frame. interpolation: `n_knots` rows, linear between them."""
    n_knots: int = 0
    """Knots of the interpolation, 2 to the number of frames; 0 takes half the frames."""
    deviation: float = 0.01
    """Standard deviation of coefficients and spanning set at the start."""
    factorisation: Factorisation = "vm"
    """Form of the residual: vm (low rank, the paper's), none (a full vector a frame), cp, tucker,
    resnet (biases a frame), loe (constant within a segment of time), vm_attention (vm, its
    coefficients averaged over time by learned attention)."""
    fusion: Literal["add", "multiply"] = "add"
    """How base and residual meet: base + residual, or base * (1 + residual)."""
    coefficient_rate: float = 1.0
    """Learning rate of the coefficients, in units of `training.network_rate`; above 0. Captures of
    more than 24 frames learn them faster than that, 8 times from 96 frames on."""
    coefficient_decay: float = 0.0
    """Weight decay of the coefficients a step, in units of their learning rate (AdamW)."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"residual.rank is {self.rank}; allowed: 0 (off) or more")
        if self.n_knots < 0 or self.n_knots == 1:
            raise ValueError(
                f"residual.n_knots is {self.n_knots}; allowed: 0 (automatic) or 2 and more"
            )
        choices = {
            "coefficients": ("lookup", "interpolation"),
            "fusion": ("add", "multiply"),
            "factorisation": get_args(Factorisation),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"residual.{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}"
                )
        if self.coefficient_rate <= 0.0:
            raise ValueError(
                f"residual.coefficient_rate is {self.coefficient_rate}; allowed: above 0"
            )
        if self.coefficient_decay < 0.0:
            raise ValueError(
                f"residual.coefficient_decay is {self.coefficient_decay}; allowed: 0 (off) or more"
            )
        if self.factorisation == "loe" and self.coefficients == "interpolation":
            raise ValueError(
                "residual.coefficients is interpolation; loe is constant within its segments: "
                "allowed: lookup"
            )
        if self.factorisation == "resnet" and self.fusion == "multiply":
            raise ValueError("residual.fusion is multiply; resnet's biases allow: add")
