"""Laws of checkpoints: what was saved comes back; whatever goes wrong loses no older one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resfields_ngp import checkpoint, writing
from resfields_ngp.checkpoint import (
    KEPT,
    CheckpointError,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

KILLED_WRITER = """
import os, signal, sys, torch
from pathlib import Path
from resfields_ngp import checkpoint, writing
replace = os.replace
def replace_or_die(source, target):
    if str(target).endswith("step_0000002" + sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
writing.os.replace = replace_or_die
for step in (1, 2):
    checkpoint.save_checkpoint(Path(sys.argv[1]), step, {"a": torch.full((9,), float(step))}, {})
"""


def _tensors(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "table": torch.randn(40, 3, generator=generator),
        "optimiser.table": torch.randn(3, 40, generator=generator).T,
        "random": generator.get_state(),
        "empty": torch.zeros(0, 4),
        "is_occupied": torch.tensor([True, False]),
    }


def _save(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, step, _tensors(step), {"seconds": 0.5 * step})


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path):
    _save(tmp_path, 7)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.state) == (7, {"seconds": 3.5})
    for name, tensor in _tensors(7).items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path):
    shared = torch.arange(6.0)
    save_checkpoint(tmp_path, 1, {"a": shared, "b": shared.view(2, 3)}, {})
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert torch.equal(found.tensors["a"], found.tensors["b"].reshape(-1))


def test_only_the_newest_are_kept(tmp_path: Path):
    _save(tmp_path, *range(1, KEPT + 4))
    names = [path.name for path in sorted(tmp_path.iterdir()) if path.suffix == ".json"]
    assert names == [f"step_{step:07d}.json" for step in range(4, KEPT + 4)]
    assert len(list(tmp_path.iterdir())) == 2 * KEPT


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path):
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("keep", [0, 40])
def test_a_cut_off_file_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, keep: int
):
    _save(tmp_path, 1, 2)
    path = tmp_path / f"step_0000002{suffix}"
    path.write_bytes(path.read_bytes()[:keep])
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert str(path) in caplog.text


def test_an_altered_byte_is_noticed(tmp_path: Path):
    _save(tmp_path, 1)
    path = tmp_path / "step_0000001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="step_0000001.safetensors: damaged"):
        load_checkpoint(path.with_suffix(".json"))


def test_no_readable_checkpoint_is_an_error_of_one_line(tmp_path: Path):
    _save(tmp_path, 1)
    (tmp_path / "step_0000001.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of 1 checkpoints is readable") as error:
        latest_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_another_schema_version_is_refused_by_name(tmp_path: Path):
    _save(tmp_path, 1)
    path = tmp_path / "step_0000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(CheckpointError, match="schema version 99; this program reads 2"):
        load_checkpoint(path)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_disk_full_while_writing_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    _save(tmp_path, 1)

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, call, disk_full)
    with pytest.raises(OSError, match="step_0000002.safetensors: could not be written"):
        _save(tmp_path, 2)
    monkeypatch.undo()
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step_0000001.json",
        "step_0000001.safetensors",
    ]


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_writer_killed_at_any_point_leaves_the_checkpoint_before(tmp_path: Path, suffix: str):
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path), suffix]
    environment = os.environ | {"PYTHONPATH": str(Path(checkpoint.__file__).parents[1])}
    finished = subprocess.run(command, env=environment, timeout=60, check=False)
    assert finished.returncode == -signal.SIGKILL
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
