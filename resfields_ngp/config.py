"""All settings of a reconstruction, and where they come from.

Later ones win: defaults, preset, scene (TOML, or the ``config.json`` of a run), command line.
Each table is the config dataclass beside the stage that it steers.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config_tree import ConfigError, apply_table, nearest
from .datasets.base import CaptureConfig
from .hull import HullConfig
from .meshing import MeshingConfig


@dataclass(frozen=True)
class Config:
    """Every setting of a run; one table a stage, in the order in which a capture passes them."""

    capture: CaptureConfig = field(default_factory=CaptureConfig)
    """Which images."""
    hull: HullConfig = field(default_factory=HullConfig)
    """The visual hull that masks carve."""
    meshing: MeshingConfig = field(default_factory=MeshingConfig)
    """Surfaces."""


PRESETS: dict[str, dict[str, Any]] = {
    "preview": {"meshing": {"resolution": 128}},
    "standard": {},
    "paper": {"meshing": {"resolution": 512}},
}
"""Name to what differs from the defaults."""


def load_config(
    scene: str | Path | None = None,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Returns the settings of a run: defaults, then preset, then scene, then overrides.

    Args:
        scene: A TOML file, or the ``config.json`` of a run.
        preset: A key of `PRESETS`.
        overrides: A table of what the command line says.

    Raises:
        ConfigError: A setting or preset is unknown or a value not allowed.
        FileNotFoundError: The scene file is missing.
    """
    config = Config()
    if preset is not None:
        if preset not in PRESETS:
            allowed = ", ".join(PRESETS)
            hint = nearest(preset, list(PRESETS))
            raise ConfigError(f'--preset: found "{preset}"{hint} (allowed: {allowed})')
        config = apply_table(config, PRESETS[preset], f"preset {preset}")
    if scene is not None:
        config = apply_table(config, read_scene(Path(scene)), str(scene))
    return apply_table(config, overrides or {}, "command line")


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
