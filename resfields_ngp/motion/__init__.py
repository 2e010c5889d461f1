"""Motion models; `MOTIONS` maps a config's `kind` to its class."""

from __future__ import annotations

from .base import Motion, MotionNetworkConfig, Warped
from .invertible import Invertible, InvertibleConfig
from .offset import Offset, OffsetConfig
from .rigid import Ambient, AmbientConfig, Rigid, RigidConfig
from .static import LatentConfig, NoMotionConfig, Static
from .trajectory import Trajectory, TrajectoryConfig

MOTIONS = {
    "none": Static,
    "latent": Static,
    "offset": Offset,
    "se3": Rigid,
    "se3_ambient": Ambient,
    "invertible": Invertible,
    "dct": Trajectory,
}
MotionConfig = (
    NoMotionConfig
    | LatentConfig
    | OffsetConfig
    | RigidConfig
    | AmbientConfig
    | InvertibleConfig
    | TrajectoryConfig
)

__all__ = [
    "MOTIONS",
    "AmbientConfig",
    "InvertibleConfig",
    "LatentConfig",
    "Motion",
    "MotionConfig",
    "MotionNetworkConfig",
    "NoMotionConfig",
    "OffsetConfig",
    "RigidConfig",
    "TrajectoryConfig",
    "Warped",
]
