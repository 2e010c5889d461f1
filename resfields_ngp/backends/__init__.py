"""Backends: the kernels of `base.Backend`; `open_backend` picks the best that works on a device."""

from __future__ import annotations

import importlib

import torch

from .base import Backend, BackendUnavailable, GridSpec, MlpSpec

BACKENDS: dict[str, str] = {
    "reference": "reference.ReferenceBackend",
    "cpu": "cpu.CpuBackend",
}
"""Name -> where the class is; imported on use, so that nobody needs another backend's packages."""

__all__ = ["BACKENDS", "Backend", "BackendUnavailable", "GridSpec", "MlpSpec", "open_backend"]


def open_backend(name: str = "auto", device: str = "auto") -> Backend:
    """Returns a backend.

    Args:
        name: A key of `BACKENDS`, or auto, the fastest that works here.
        device: auto, cpu or cuda; no backend of this version runs on CUDA.

    Raises:
        BackendUnavailable: The device or backend cannot run here.
        ValueError: The name is not known.
    """
    if device == "cuda":
        found = "there is no GPU backend in this version"
        if not torch.cuda.is_available():
            found = "torch sees no CUDA GPU here"
        raise BackendUnavailable(
            f"--device cuda: {found}; use --device cpu, or run `resfields-ngp doctor`"
        )
    if name == "auto":
        name = "cpu"
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].rpartition(".")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)("cpu")
