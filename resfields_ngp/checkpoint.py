"""Checkpoints: tensors in safetensors, scalars in JSON, written so that none is ever half there.

The JSON file is written last and holds the tensor file's size and SHA-256: a pair that a killed
writer or a full disk left incomplete is recognised, and the checkpoint before it is taken instead.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from .writing import write_whole

SCHEMA_VERSION = 2
"""Raised whenever a reader of the former version would misread the file."""

KEPT = 3
"""How many checkpoints stay in a run folder."""

_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint is damaged, missing, or of another config; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """What a training run needs to go on as if it had not stopped."""

    step: int
    """Steps done."""
    tensors: dict[str, Tensor]
    """Parameters, optimiser moments, occupancy, random state; on the CPU."""
    state: dict[str, Any]
    """Scalars and names, as JSON holds them."""


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Writes ``step_0000100.safetensors`` and ``.json`` into a folder and forgets the oldest ones.

    Returns:
        The JSON file, whose presence makes the checkpoint.

    Raises:
        OSError: Disk full or not writable; the checkpoints before this one are untouched.
    """
    own = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    content = safetensors.torch.save(own)
    path = folder / f"step_{step:07d}.json"
    header = {
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "tensors": {
            "file": path.with_suffix(".safetensors").name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        },
        "state": dict(state),
    }
    write_whole(path.with_suffix(".safetensors"), content)
    write_whole(path, json.dumps(header, indent=1).encode())
    _forget_old(folder)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads one checkpoint by its JSON file.

    Raises:
        CheckpointError: A file is missing, cut off, altered, or of another schema version.
    """
    try:
        header = json.loads(path.read_bytes())
        version, promised = header["schema_version"], header["tensors"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error})") from None
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: schema version {version}; this program reads {SCHEMA_VERSION}:"
            " use the version of resfields-ngp that env.json names"
        )
    content = _promised_content(path.parent / promised["file"], promised)
    return Checkpoint(header["step"], safetensors.torch.load(content), header["state"])


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Returns the newest readable checkpoint of a folder, None where none was ever completed.

    Damaged ones are passed over with a logged warning each.

    Raises:
        CheckpointError: There are checkpoints, and none is readable.
    """
    paths = sorted(folder.glob("step_*.json"), reverse=True)
    for path in paths:
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            _log.warning("%s; trying the one before", error)
    if paths:
        raise CheckpointError(
            f"{folder}: none of {len(paths)} checkpoints is readable; start again with --overwrite"
        )
    return None


def _promised_content(path: Path, promised: Mapping[str, Any]) -> bytes:
    """Returns a tensor file's bytes once they are what the JSON file says they are."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    if len(content) != promised["bytes"]:
        raise CheckpointError(
            f"{path}: cut off, {len(content)} bytes of {promised['bytes']} are there"
        )
    if hashlib.sha256(content).hexdigest() != promised["sha256"]:
        raise CheckpointError(f"{path}: damaged, its SHA-256 is not the one in the JSON file")
    return content


def _forget_old(folder: Path) -> None:
    """Removes all but the newest; the JSON file first, so that no half pair looks complete."""
    for path in sorted(folder.glob("step_*.json"))[:-KEPT]:
        path.unlink(missing_ok=True)
        path.with_suffix(".safetensors").unlink(missing_ok=True)
