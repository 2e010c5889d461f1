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
        name: A key of `BACKENDS`, or auto: `cpu` on a CPU, `reference` (plain torch) on CUDA.
        device: auto, cpu or cuda; auto takes CUDA where torch sees one and the backend can use it.

    Raises:
        BackendUnavailable: The device or backend cannot run here.
        ValueError: The name is not known.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(
            "--device cuda: torch sees no CUDA GPU here; "
            "use --device cpu, or run `resfields-ngp doctor`"
        )
    chosen = "cuda" if device == "cuda" else "cpu"
    if name == "auto":
        name = "reference" if chosen == "cuda" else "cpu"
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    if name == "cpu" and chosen == "cuda":
        raise BackendUnavailable("backend cpu runs on --device cpu only")
    module, _, attribute = BACKENDS[name].rpartition(".")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)(chosen)
