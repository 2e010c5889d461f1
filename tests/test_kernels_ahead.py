"""Laws of compiling ahead: afterwards meshing compiles nothing, and only a GPU's training asks."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resfields_ngp import kernels_ahead
from resfields_ngp.backends import Backend
from resfields_ngp.config import Config
from resfields_ngp.encoders import FrequencyConfig, HashGrid4DConfig
from resfields_ngp.heads import NerfConfig
from resfields_ngp.motion import OffsetConfig

PROGRAM = Path(__file__).with_name("compiled_ahead.py")
WANTED = {
    "forward_kernel.<locals>.forward",
    "_forward_kernel.<locals>.forward",
    "turning",
    "nearest_exits",
}
"""Some kernels of meshing: of the grid, the network and the outlines."""


def test_meshing_compiles_nothing_more():
    ended = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["faces"] > 100
    assert {name.split()[0] for name in found["ahead"]} >= WANTED
    assert found["later"] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"encoder": HashGrid4DConfig()},
        {"encoder": FrequencyConfig()},
        {"head": NerfConfig()},
        {"motion": OffsetConfig()},
    ],
    ids=str,
)
def test_every_kind_of_field_is_asked(fields: dict[str, Any]):
    kernels_ahead.compile_meshing(replace(Config(), **fields), 3)


@pytest.mark.parametrize(
    ("name", "device", "n_processes"),
    [("triton", "cuda", 1), ("tcnn", "cuda", 1), ("reference", "cuda", 0), ("cpu", "cpu", 0)],
)
def test_only_a_gpus_training_has_it_done(
    name: str, device: str, n_processes: int, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[Any, ...]] = []

    def process(target: Any, args: tuple[Any, ...], daemon: bool) -> Any:
        assert daemon, "it must not outlive the run"
        asked.append((target, *args))
        return SimpleNamespace(start=lambda: None)

    context = SimpleNamespace(Process=process)
    monkeypatch.setattr(kernels_ahead.multiprocessing, "get_context", lambda method: context)
    backend = SimpleNamespace(name=name, device=SimpleNamespace(type=device))
    kernels_ahead.compile_beside(cast("Backend", backend), Config(), 5)
    assert asked == [(kernels_ahead._compile_politely, Config(), 5)] * n_processes
