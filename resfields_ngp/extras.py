"""Packages that only some verbs need, each an extra of this one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extra:
    """An optional package."""

    package: str
    """Its name on the index."""
    name: str
    """The extra's, in ``resfields-ngp[name]``."""
    purpose: str
    """What it is there for, as `doctor` says it."""
    user: str = ""
    """Who cannot do without it, a subject and its verb; empty where nobody fails for the lack."""
    otherwise: str = ""
    """What to do in place of installing it."""

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"resfields-ngp[{self.name}]"


EXTRAS: dict[str, Extra] = {
    "tensorboard": Extra("tensorboard", "tensorboard", "curves beside metrics.jsonl"),
    "igl": Extra(
        "libigl", "sdf", "distances of meshes for fit sdf", "signed distances of meshes need"
    ),
    "pxr": Extra(
        "usd-core",
        "usd",
        "USD files of textured meshes",
        "usd files need",
        "leave usd out of --format",
    ),
    "pycolmap": Extra("pycolmap", "colmap", "footage calibrated by COLMAP", "COLMAP's models need"),
    "DracoPy": Extra(
        "DracoPy", "draco", "small GLB files", "Draco needs", "leave out --texturing.draco"
    ),
    "viser": Extra("viser", "viewer", "runs in a web browser, by view", "view needs"),
}
"""Name of the module that is imported to its extra."""


def required(module: str) -> Any:
    """Returns a module of an optional package, or of a package within it.

    Raises:
        ImportError: It is not installed; the message has the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        extra = EXTRAS[module.partition(".")[0]]
        line = f"pip install '{extra.requirement}'"
        line += f", or {extra.otherwise}" if extra.otherwise else ""
        message = f"{extra.user} {extra.package}, which is not installed; {line}"
        raise ImportError(message) from None
