"""All settings of a reconstruction, and where they come from.

Later ones win: defaults, what suits the head, preset, scene (TOML, or the ``config.json`` of a
run), command line.
Each table is the config dataclass beside the stage that it steers.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from .config_tree import ConfigError, apply_table, nearest
from .datasets.base import CaptureConfig
from .datasets.synthetic_capture import SyntheticConfig
from .encoders import EncoderConfig, HashGridConfig
from .evaluation import EvaluationConfig
from .field import NetworkConfig
from .heads import HeadConfig, NeusConfig
from .hull import HullConfig
from .imaging import ImagingConfig
from .losses import LossConfig
from .meshing import MeshingConfig
from .motion import MotionConfig, NoMotionConfig
from .occupancy import OccupancyConfig
from .resfield import ResFieldConfig
from .schedules import TrainingConfig
from .texturing import TexturingConfig


@dataclass(frozen=True)
class Config:
    """Every setting of a run; one table a stage, in the order in which a capture passes them."""

    capture: CaptureConfig = field(default_factory=CaptureConfig)
    """Which images."""
    hull: HullConfig = field(default_factory=HullConfig)
    """The visual hull that masks carve."""
    motion: MotionConfig = field(default_factory=NoMotionConfig)
    """From a frame to the reference that all frames share."""
    encoder: EncoderConfig = field(default_factory=HashGridConfig)
    """From positions to features."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """From features to the head's outputs."""
    residual: ResFieldConfig = field(default_factory=ResFieldConfig)
    """How the networks' weights change over time."""
    head: HeadConfig = field(default_factory=NeusConfig)
    """From outputs to opacity and colour."""
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    """Where rays are sampled."""
    losses: LossConfig = field(default_factory=LossConfig)
    """What is minimised."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How long, how fast, on what."""
    meshing: MeshingConfig = field(default_factory=MeshingConfig)
    """Surfaces."""
    texturing: TexturingConfig = field(default_factory=TexturingConfig)
    """Textures."""
    imaging: ImagingConfig = field(default_factory=ImagingConfig)
    """Pictures and videos."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Scores."""


@dataclass(frozen=True)
class SynthConfig:
    """Every setting of the synthetic capture."""

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """The figure and its cameras."""


PRESETS: dict[str, dict[str, Any]] = {
    "preview": {
        "training": {"seconds": 45.0},
        "meshing": {"resolution": 128},
        "imaging": {"orbit_pictures": 16},
        "evaluation": {"points": 30_000},
    },
    "standard": {},
    "paper": {
        "training": {"seconds": 3600.0},
        "encoder": {"kind": "hash_grid", "log2_hashmap_size": 18, "n_levels": 16},
        "residual": {"rank": 10},
        "meshing": {"resolution": 512},
        "imaging": {"orbit_size": 512},
        "evaluation": {"protocol": "resfields"},
    },
}
"""Name to what differs from the defaults."""

HEAD_SETTINGS: dict[str, dict[str, Any]] = {
    "nerf": {
        "network": {"release_end": 0.9},
        "losses": {"mask": 0.2, "curvature": 0.006},
        "training": {"foreground": 0.8},
        "meshing": {"level": 0.016},
        "imaging": {"coverage": 0.45},
    },
}
"""Kind of a head to what suits it in the other tables; any other source wins over it.

A density is held by pictures alone: fine levels that come early, or that may bend freely, fit each
camera by itself, and pixels beside the subject say nothing that the hull does not. Thin parts stay
thin: the mesh is cut at a fifth of the density that rays are sampled for. With so many pixels on
the subject its outlines are full as they are.
"""


def load_config(
    scene: str | Path | None = None,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    base: Any = None,
) -> Any:
    """Returns the settings of a run: defaults, what suits the head, preset, scene, overrides.

    Args:
        scene: A TOML file, or the ``config.json`` of a run.
        preset: A key of `PRESETS`.
        overrides: A table of what the command line says.
        base: The defaults of another config than `Config`.

    Raises:
        ConfigError: A setting or preset is unknown or a value not allowed.
        FileNotFoundError: The scene file is missing.
    """
    tables: list[tuple[Mapping[str, Any], str]] = []
    if preset is not None:
        if preset not in PRESETS:
            allowed = ", ".join(PRESETS)
            hint = nearest(preset, list(PRESETS))
            raise ConfigError(f'--preset: found "{preset}"{hint} (allowed: {allowed})')
        tables.append((PRESETS[preset], f"preset {preset}"))
    if scene is not None:
        tables.append((read_scene(Path(scene)), str(scene)))
    tables.append((overrides or {}, "command line"))
    start = Config() if base is None else base
    config = _applied(start, tables)
    suited = HEAD_SETTINGS.get(config.head.kind) if isinstance(config, Config) else None
    return _applied(start, [(suited, "head"), *tables]) if suited else config


def _applied(config: Any, tables: Sequence[tuple[Mapping[str, Any], str]]) -> Any:
    """Returns a config changed by tables, each with its name, one after the other."""
    for table, name in tables:
        config = apply_table(config, table, name)
    return config


def read_scene(path: Path) -> dict[str, Any]:
    """Returns the table in a scene file, by its ending TOML or JSON.

    Raises:
        FileNotFoundError: It is missing.
        ConfigError: It is neither.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such scene; see scenes/ for examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as text ({error})") from None
    try:
        table = json.loads(content) if path.suffix == ".json" else tomllib.loads(content)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: a table of settings is needed; found {type(table).__name__}")
    return table


def part(config: Config, tables: Sequence[str]) -> Any:
    """Returns a dataclass instance with some of a config's tables only, for a verb's help."""
    kept = [each for each in dataclasses.fields(config) if each.name in tables]
    hints = get_type_hints(Config)
    chosen = dataclasses.make_dataclass(
        "Settings", [(each.name, hints[each.name]) for each in kept], frozen=True
    )
    return chosen(**{each.name: getattr(config, each.name) for each in kept})
