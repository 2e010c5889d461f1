"""What every encoder gives: features of positions at a frame, with their derivatives on request."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from ..backends.base import Backend
from ..records import FrameSlices


class Encoder(nn.Module):
    """Maps positions, at the frame of their slice, to features."""

    n_features: int
    """Width of the output."""
    is_recordable: bool = True
    """Whether the frames are looked at on the device only; see `MovingFrames`."""

    @abstractmethod
    def forward(
        self,
        positions: Tensor,  # (N, 3) model space
        slices: FrameSlices,
        backend: Backend,
        n_tangents: int,
        released: float,
    ) -> Tensor:  # (N, 1 + n_tangents, n_features)
        """Returns jets: row 0 the features, rows 1..3 their derivatives by x, y, z when
        `n_tangents` is 3.

        `released` in [0, 1] is how much of the fine detail takes part (coarse to fine); 1: all.
        """
