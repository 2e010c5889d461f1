"""What a check of the GPU reports: the machine, its memory, and a page of what was found."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import torch

from . import ROOT


def machine(device: torch.device) -> dict[str, Any]:
    """Returns device, versions, date and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        name += f", compute capability {properties.major}.{properties.minor}"
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": _driver() if device.type == "cuda" else None,
        **{package: _version(package) for package in ("triton", "tinycudann", "nerfacc")},
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip() or "unknown",
    }


def memory(device: torch.device) -> dict[str, float]:
    """Returns GiB: the most that torch has held, and all that is taken of the card now.

    tiny-cuda-nn has memory of its own, of which torch knows nothing and which it does not return.
    """
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "card_gib": round((total - free) / 2**30, 2),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip()


def page(found: dict[str, Any], parts: Iterable[str]) -> str:
    """Returns a page of Markdown: what ran, in tables."""
    head = ("device", "date", "commit", "torch", "triton", "tinycudann", "nerfacc", "cuda")
    head += ("driver", "python")
    lines = ["# GPU", "", ", ".join(f"{name} {found[name]}" for name in head), ""]
    lines += [f"- {text}" for text in found["missing"] + found["errors"]]
    if took := found.get("took"):
        lines += ["", ", ".join(f"{name} {seconds} s" for name, seconds in took.items())]
    for part in parts:
        entries = found.get(part, [])
        if entries:
            columns = list(dict.fromkeys(name for entry in entries for name in entry))
            lines += ["", f"## {part.capitalize()}", "", "| " + " | ".join(columns) + " |"]
            lines.append("|" + "---|" * len(columns))
            for entry in entries:
                lines.append("| " + " | ".join(str(entry.get(name, "")) for name in columns) + " |")
    return "\n".join(lines) + "\n"
