"""Backends: the kernels of `base.Backend`; `open_backend` picks the best that works on a device."""

from __future__ import annotations

import importlib
import logging

import torch

from .base import Backend, BackendUnavailable
from .specs import GridSpec, MlpSpec

BACKENDS: dict[str, str] = {
    "reference": "reference.ReferenceBackend",
    "cpu": "cpu.CpuBackend",
    "triton": "triton.TritonBackend",
    "tcnn": "tcnn.TcnnBackend",
}
"""Name -> where the class is; imported on use, so that nobody needs another backend's packages."""

GPU_BACKENDS = ("triton", "tcnn")
"""What auto chooses from on a GPU."""

_log = logging.getLogger(__name__)

__all__ = ["BACKENDS", "Backend", "BackendUnavailable", "GridSpec", "MlpSpec", "open_backend"]


def open_backend(name: str = "auto", device: str = "auto") -> Backend:
    """Returns a backend.

    Args:
        name: A key of `BACKENDS`, or auto: on the CPU `cpu`, on a GPU the faster of `triton` and
            `tcnn` by a short measurement.
        device: cpu, cuda, or auto: a GPU where there is one and a backend runs on it.

    Raises:
        BackendUnavailable: The device or backend cannot run here.
        ValueError: The name is not known.
    """
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise BackendUnavailable(
            "--device cuda: torch sees no CUDA GPU here; use --device cpu, or run "
            "`resfields-ngp doctor`"
        )
    if name != "auto":
        if device == "auto":
            device = "cuda" if has_gpu and name in GPU_BACKENDS else "cpu"
        return _opened(name, device)
    if device != "cpu" and has_gpu:
        try:
            return _fastest_on_gpu()
        except BackendUnavailable as error:
            if device == "cuda":
                raise
            _log.warning("--device auto: there is a GPU, but %s; computing on the CPU", error)
    return _opened("cpu", "cpu")


def _fastest_on_gpu() -> Backend:
    from .selection import fastest

    return fastest(_opened_on_gpu, GPU_BACKENDS)


def _opened_on_gpu(name: str) -> Backend:
    return _opened(name, "cuda")


def _opened(name: str, device: str) -> Backend:
    """Returns a backend by name.

    Raises:
        BackendUnavailable: It does not run on the device.
    """
    if device == "cuda" and name == "cpu" or device == "cpu" and name in GPU_BACKENDS:
        other = "cpu" if name == "cpu" else "cuda"
        raise BackendUnavailable(
            f"backend {name} does not run on --device {device}; use --device {other}, or "
            "--training.backend auto"
        )
    module, _, attribute = BACKENDS[name].rpartition(".")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)(device)
