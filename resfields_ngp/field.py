"""The field: motion -> encoder -> ResField MLP -> head, at (position, frame, direction)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .backends.base import Backend
from .backends.specs import MlpSpec, side_by_side
from .encoders import ENCODERS, AnyEncoderConfig, Encoder
from .heads import HEADS, AnyHeadConfig, Head, RadianceHead, SurfaceHead
from .heads.base import Outputs
from .mlp import ResFieldMlp
from .motion import MOTIONS, Motion, MotionConfig, NoMotionConfig, jets
from .ranges import check_ranges, check_width
from .records import FrameSlices, check_shape
from .resfield import ResFieldConfig
from .transfers import Follower


@dataclass(frozen=True)
class NetworkConfig:
    """Geometry network: from encoded positions to the head's outputs."""

    n_neurons: int = 64
    """Width of the hidden layers, a multiple of 16 up to 128."""
    n_hidden_layers: int = 1
    """Hidden layers."""
    activation: Literal["squareplus", "softplus", "relu"] = "squareplus"
    """Between layers; the smooth ones have second derivatives, relu is quicker."""
    release_end: float = 0.3
    """Fraction of training by which all of the encoder's detail takes part (coarse to fine)."""

    def __post_init__(self) -> None:
        check_width("network", self.n_neurons)
        check_ranges("network", self, n_hidden_layers=(0, 16), release_end=(0.0, 1.0))


class TimeField(nn.Module):
    """Something learned over time, which knows how much of its training it has seen."""

    trained: Tensor
    """() float64, see `trained_fraction`."""
    backend: Backend
    """The kernels that evaluate it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("trained", torch.zeros((), dtype=torch.float64))
        self._marked: tuple[Tensor, int, float] | None = None

    @property
    def trained_fraction(self) -> float:
        """The fraction of training that the parameters have seen; what inference renders with."""
        marked = self._marked
        if marked and marked[0] is self.trained and marked[1] == self.trained._version:
            return marked[2]
        return float(self.trained)

    def mark_trained(self, fraction: float) -> None:
        """Sets `trained_fraction`, and keeps it at hand: to read it from a device is to wait."""
        self.trained.fill_(fraction)
        self._marked = (self.trained, self.trained._version, fraction)


class SignalField(TimeField):
    """Motion, encoder, network and head: any signal over space and time."""

    head: Head
    """Reads the network's outputs."""

    def __init__(
        self,
        encoder: AnyEncoderConfig,
        network: NetworkConfig,
        head: AnyHeadConfig,
        residual: ResFieldConfig,
        n_frames: int,
        generator: torch.Generator,
        backend: Backend,
        motion: MotionConfig | None = None,
    ) -> None:
        super().__init__()
        motion = motion or NoMotionConfig()
        self.config, self.residual = network, residual
        self.backend = backend
        # A registry's key names the class that takes this very config, which types cannot say.
        make_encoder: Any = ENCODERS[encoder.kind]
        make_head: Any = HEADS[head.kind]
        make_motion: Any = MOTIONS[motion.kind]
        self.encoder: Encoder = make_encoder(encoder, n_frames, generator)
        self.head = make_head(head, n_frames, residual, generator)
        # From a generator of its own: what is drawn after it is the same with any motion.
        own = torch.Generator().manual_seed(generator.initial_seed() + 1)
        self.motion: Motion = make_motion(motion, n_frames, residual, own)
        spec = MlpSpec(
            self.encoder.n_features + 3 + self.motion.n_extras,
            self.head.n_outputs,
            network.n_neurons,
            network.n_hidden_layers,
            network.activation,
        )
        self.trunk = ResFieldMlp(spec, n_frames, residual, generator, self.head.output_scales)

    def query(
        self,
        positions: Tensor,  # (N, 3) model space
        slices: FrameSlices,
        fraction: float,
        n_tangents: int,
    ) -> Tensor:  # (N, 1 + n_tangents, n_outputs)
        """Returns the network's outputs, with derivatives when `n_tangents` is 3.

        Args:
            positions: Where.
            slices: Which rows belong to which frame.
            fraction: Fraction of training in [0, 1]; releases the encoder's fine detail.
            n_tangents: 0 or 3.
        """
        return self._jets(positions, slices, fraction, n_tangents)[0]

    def outputs(
        self, positions: Tensor, slices: FrameSlices, fraction: float, n_tangents: int
    ) -> Outputs:
        """Returns what heads read of `query`'s jets."""
        if not n_tangents:
            return Outputs.of(*self._jets(positions, slices, fraction, 0))
        features, others = self._inputs(positions, slices, fraction, n_tangents)
        read = self.trunk.sloped(features, others, slices, self.backend)
        return Outputs(*read, self._asked(positions, others))

    def _jets(
        self, positions: Tensor, slices: FrameSlices, fraction: float, n_tangents: int
    ) -> tuple[Tensor, Tensor]:  # (N, 1 + D, n_outputs), (N, 3)
        """Returns the network's outputs with their derivatives, and where the encoder was asked."""
        features, others = self._inputs(positions, slices, fraction, n_tangents)
        inputs = side_by_side(features, others, self.trunk.spec)
        return self.trunk(inputs, slices, self.backend), self._asked(positions, others)

    def _asked(self, positions: Tensor, others: Tensor) -> Tensor:  # (N, 3)
        """Returns where the encoder is asked, without gradient, from what `_inputs` gave."""
        if not self.motion.is_warp:
            return positions.detach()
        return 0.5 * (others[:, 0, :3].detach() + 1.0)

    def _inputs(
        self, positions: Tensor, slices: FrameSlices, fraction: float, n_tangents: int
    ) -> tuple[Tensor, Tensor]:
        """Returns the jets of the encoder's features, and of the network's other inputs."""
        check_shape("positions", positions, "N 3")
        end = self.config.release_end
        released = min(1.0, fraction / end) if end > 0 else 1.0
        here = jets.of_positions(positions, n_tangents)
        warped = self.motion(here, slices, self.backend, released)
        features = self._encoded(warped.positions, slices, released)
        # Positions in [-1, 1]; a constant jet added by broadcasting takes far longer.
        centred = 2.0 * warped.positions
        centred[:, 0] -= 1.0
        if not warped.extras.shape[2]:
            return features, centred
        return features, torch.cat([centred, warped.extras], dim=2)

    def _encoded(self, positions: Tensor, slices: FrameSlices, released: float) -> Tensor:
        """Returns the encoder's features at jets of positions, as they are or warped."""
        if not self.motion.is_warp:
            n_tangents = positions.shape[1] - 1
            return self.encoder(positions[:, 0], slices, self.backend, n_tangents, released)
        return jets.encoded(self.encoder, positions, slices, self.backend, released)

    def _values(self, positions: Tensor, frame: int) -> Tensor:
        slices = FrameSlices.single(frame, positions.shape[0])
        return self.query(positions, slices, self.trained_fraction, 0)[:, 0]


class SurfaceField(SignalField):
    """A field with a surface at every frame."""

    head: SurfaceHead
    """Knows the surface's level function."""

    @torch.no_grad()
    def sdfs(self, positions: Tensor, frame: int) -> Tensor:
        """Returns (N,) the head's level function at one frame: negative inside, 0 on the surface.

        Model units where it is a distance. Not differentiable; runs in bounded memory.
        """
        parts = positions.split(self.backend.query_rows)
        return torch.cat([self.head.levels(self._values(part, frame)) for part in parts])

    @torch.no_grad()
    def normals(self, positions: Tensor, frame: int) -> Tensor:
        """Returns (N, 3) unit normals, outward, model axes. Not differentiable."""
        parts = positions.split(self.backend.query_rows)
        return torch.cat([self._surface(part, frame)[1] for part in parts])

    def _surface(self, positions: Tensor, frame: int) -> tuple[Outputs, Tensor]:
        """Returns what heads read at one frame, and the unit normals."""
        slices = FrameSlices.single(frame, positions.shape[0])
        found, asked = self._jets(positions, slices, self.trained_fraction, 3)
        outputs = found.shape[2]
        with torch.enable_grad():
            # A head's level is a function of the outputs: its gradient is their chain rule.
            values = found[:, 0].detach().requires_grad_()
            slopes = torch.autograd.grad(self.head.levels(values).sum(), values)[0]
        gradients = (found[:, 1:] * slopes.view(-1, 1, outputs)).sum(2)
        normals = torch.nn.functional.normalize(gradients, dim=1, eps=1e-9)
        return Outputs.of(found, asked), normals


class Field(SurfaceField):
    """A field over space and time that can be rendered."""

    head: RadianceHead
    """Knows opacities and colours."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._sharpness = Follower()

    @torch.no_grad()
    def sharpness(self, fraction: float) -> float:
        """Returns the head's sharpness; on a device as it was a step before, for no waiting."""
        value = self.head.sharpness(fraction)
        if self.backend.is_asynchronous and isinstance(value, Tensor):
            return self._sharpness.known(value)
        return float(value)

    @torch.no_grad()
    def rgbs(self, positions: Tensor, frame: int, directions: Tensor | None = None) -> Tensor:
        """Returns (N, 3) colours seen along `directions` (N, 3), head-on where None.

        Not differentiable.
        """
        chunks, fraction = [], self.trained_fraction
        for rows in torch.arange(positions.shape[0]).split(self.backend.query_rows):
            outputs, normals = self._surface(positions[rows], frame)
            views = -normals if directions is None else directions[rows]
            slices = FrameSlices.single(frame, len(rows))
            chunks.append(self.head.rgbs(outputs, views, slices, fraction, self.backend))
        return torch.cat(chunks)
