"""A warp that can be undone exactly (NDR): coupling blocks, one for each axis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ..resfield import ResFieldConfig
from . import jets
from .base import Motion, MotionNetwork, MotionNetworkConfig, Warped


@dataclass(frozen=True)
class InvertibleConfig:
    """Coupling blocks whose inverse is in closed form (NDR, arXiv:2206.15258)."""

    kind: Literal["invertible"] = "invertible"
    """Which motion model this is."""
    network: MotionNetworkConfig = field(
        default_factory=lambda: MotionNetworkConfig(n_hidden_layers=1)
    )
    """The two networks of each block."""
    n_blocks: int = 3
    """Blocks, 1 to 12; three treat each axis once."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_blocks <= 12:
            raise ValueError(f"motion.n_blocks is {self.n_blocks}; allowed: 1 to 12")


class Coupling(nn.Module):
    """Shifts one axis by the two others, then turns and shifts these by the one."""

    def __init__(
        self,
        axis: int,
        config: MotionNetworkConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.axis, self.others = axis, [i for i in range(3) if i != axis]
        self.shift = MotionNetwork(config, 2, 1, n_frames, residual, generator)
        self.turn = MotionNetwork(config, 1, 3, n_frames, residual, generator)

    def forward(self, positions, slices, backend, released) -> Tensor:
        """Returns (N, 1 + D, 3) jets one block nearer to the reference."""
        pair, single = self._parted(positions)
        single = single - self.shift(pair, slices, backend, released)
        turn = self.turn(single, slices, backend, released)
        return self._joined(single, _turned(pair - turn[:, :, 1:], -turn[:, :, :1]))

    def inverse(self, positions, slices, backend, released) -> Tensor:
        """Undoes `forward`."""
        pair, single = self._parted(positions)
        turn = self.turn(single, slices, backend, released)
        pair = _turned(pair, turn[:, :, :1]) + turn[:, :, 1:]
        single = single + self.shift(pair, slices, backend, released)
        return self._joined(single, pair)

    def _parted(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the columns of the two other axes, and of the one."""
        columns = positions.split(1, dim=2)  # a list as an index would be sent to the device
        return torch.cat([columns[i] for i in self.others], dim=2), columns[self.axis]

    def _joined(self, single: Tensor, pair: Tensor) -> Tensor:
        columns = dict(zip(self.others, pair.split(1, dim=2), strict=True))
        columns[self.axis] = single
        return torch.cat([columns[i] for i in range(3)], dim=2)


def _turned(
    pair: Tensor,  # (N, 1 + D, 2)
    angles: Tensor,  # (N, 1 + D, 1)
) -> Tensor:
    """Returns points of a plane turned about the middle of the box."""
    middle = jets.of_constant(0.5, pair)
    first, second = (pair - middle).split(1, dim=2)
    cosines, sines = jets.cosine(angles), jets.sine(angles)
    turned = [
        jets.product(cosines, first) - jets.product(sines, second),
        jets.product(sines, first) + jets.product(cosines, second),
    ]
    return torch.cat(turned, dim=2) + middle


class Invertible(Motion):
    """Coupling blocks in a row, about z, y, x in turn."""

    is_two_way = True

    def __init__(
        self,
        config: InvertibleConfig,
        n_frames: int,
        residual: ResFieldConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Coupling(2 - i % 3, config.network, n_frames, residual, generator)
                for i in range(config.n_blocks)
            ]
        )

    def forward(self, positions, slices, backend, released):
        """See `Motion.forward`."""
        moved = positions
        for block in self.blocks:
            moved = block(moved, slices, backend, released)
        return Warped(moved, positions[:, :, :0])

    def from_reference(self, positions, slices, backend, released):
        """See `Motion.from_reference`; the exact inverse of `forward`."""
        for block in reversed(self.blocks):
            assert isinstance(block, Coupling)
            positions = block.inverse(positions, slices, backend, released)
        return positions
