"""Many reconstructions compared: variants of the model in equal time, seeds of equal settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, median
from typing import Any

from resfields_ngp.config import Config
from resfields_ngp.config_tree import to_table

from .measuring import REDUCED, compile_kernels, configured, measured_run
from .results import Ledger, Row, machine_line, markdown_table

VARIANTS: dict[str, dict[str, Any]] = {
    "no residuals": {"encoder.n_residuals": 0, "residual.rank": 0},
    "residuals in the MLP only": {"encoder.n_residuals": 0},
    "residuals in the grid only": {"residual.rank": 0},
    "residuals in both (default)": {},
    "4-D grid with MLP residuals": {"encoder.kind": "hash_grid_4d"},
    "4-D grid without residuals": {"encoder.kind": "hash_grid_4d", "residual.rank": 0},
    "rank 2": {"residual.rank": 2},
    "rank 4": {"residual.rank": 4},
    "rank 8": {"residual.rank": 8},
    "rank 16": {"residual.rank": 16},
    "box not stabilised": {"hull.stabilise": False},
    "no light: the colour network sees normals": {"head.lighting": "network"},
    "light without the albedo loss": {"losses.albedo": 0.0},
    "no area loss": {"losses.area": 0.0},
}
"""Variant of the ablation to what differs from the defaults."""

_ABLATION_COLUMNS = {
    "psnr": "PSNR",
    "masked_psnr": "masked PSNR",
    "ssim": "SSIM",
    "chamfer": "Chamfer",
    "normal_consistency": "normals",
    "f_score": "F-score",
    "steps": "steps",
    "samples_per_ray": "samples / ray",
    "parameters": "parameters",
}

ALLOWED_GAP = 1.5
"""The worst seed may lie so many dB below the median."""

_REDUCTION = (
    "Pictures: every frame of the held-out camera. Meshes: every third frame, "
    f"{REDUCED['meshing.resolution']} cells, {REDUCED['evaluation.points']:,} points. Chamfer: "
    "both directions summed, normalised units. Samples per ray: the last tenth of training. All "
    "unless the command below says otherwise.\n"
)


def ablate(
    capture: Path,
    settings: Mapping[str, Any],
    variants: Iterable[str],
    seeds: Iterable[int],
    out: Path,
    ledger: Ledger,
) -> None:
    """Runs the variants that the ledger lacks; equal settings are run once, whatever their name.

    Args:
        capture: Its folder.
        settings: Dotted settings that all variants share, the budget among them.
        variants: Keys of `VARIANTS`.
        seeds: Each variant is run with each.
        out: Folder of the runs.
        ledger: Receives a row a run.
    """
    for seed in seeds:
        for variant in variants:
            shared = {**REDUCED, **settings, "training.seed": seed}
            config = configured(capture, {**shared, **VARIANTS[variant]})
            names = {"capture": capture.stem, "variant": variant, "seed": seed}
            _run_once(config, names, out, ledger)


def collapse(
    captures: Iterable[Path],
    settings: Mapping[str, Any],
    seeds: Iterable[int],
    out: Path,
    ledger: Ledger,
) -> None:
    """Runs every capture with every seed, leaving out what the ledger has; see `ablate`."""
    seeds = list(seeds)
    for capture in captures:
        for seed in seeds:
            config = configured(capture, {**REDUCED, **settings, "training.seed": seed})
            _run_once(config, {"capture": capture.stem, "seed": seed}, out, ledger)


def describe_ablation(rows: list[Row]) -> str:
    """Returns the Markdown of the ablation: a table a capture and budget, means over seeds."""
    parts = ["# Ablation\n", _REDUCTION]
    for title, group in _grouped(rows).items():
        variants: dict[str, list[Row]] = {name: [] for name in VARIANTS}
        for row in group:
            variants.setdefault(row["variant"], []).append(row)
        lines = [
            [name, *(_mean(found, figure) for figure in _ABLATION_COLUMNS), len(found)]
            for name, found in variants.items()
            if found
        ]
        header = ["variant", *_ABLATION_COLUMNS.values(), "seeds"]
        parts += [f"## {title}\n", markdown_table(header, lines), machine_line(group[-1])]
    return "\n".join(parts)


def describe_collapse(rows: list[Row]) -> str:
    """Returns the Markdown of the seeds: the worst against the median PSNR of each capture."""
    lines = []
    for title, group in _grouped(rows).items():
        scores = [row["psnr"] for row in group if row["psnr"] is not None]
        if not scores:
            continue
        gap = median(scores) - min(scores)
        verdict = "holds" if gap <= ALLOWED_GAP else "collapses"
        each = ", ".join(f"{score:.2f}" for score in scores)
        lines.append([title, len(scores), median(scores), min(scores), gap, verdict, each])
    limit = f"{ALLOWED_GAP} dB"
    header = ["capture", "seeds", "median", "worst", "gap", f"within {limit}", "PSNR of each seed"]
    parts = ["# Collapse\n", _REDUCTION, markdown_table(header, lines), machine_line(rows[-1])]
    return "\n".join(parts)


def settings_key(config: Config) -> str:
    """Returns what two runs share just if they have the same settings, wherever the capture is."""
    capture = dataclasses.replace(config.capture, path=Path(config.capture.path).name)
    return table_key(to_table(dataclasses.replace(config, capture=capture)))


def table_key(table: Mapping[str, Any]) -> str:
    """Returns what equal tables of settings share."""
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


def _run_once(config: Config, names: Row, out: Path, ledger: Ledger) -> None:
    """Adds a row for a run, which takes place only where none with its settings is known."""
    key = settings_key(config)
    if ledger.find(key=key, **names):
        print(f"{names}: known already", flush=True)
        return
    known = ledger.find(key=key)
    if known is None:
        print(f"{names}: running", flush=True)
        compile_kernels(config, out / "warm")
        known = measured_run(config, out / key)
        del known["peak_memory_gib"]  # of all runs in this process
    training = config.training
    length = f"{training.steps} steps" if training.steps else f"{training.seconds:g} s"
    ledger.add({**known, "key": key, "budget": length, **names})


def _grouped(rows: list[Row]) -> dict[str, list[Row]]:
    """Returns rows by capture and budget; of repeated runs the newest counts."""
    newest = {(row["capture"], row["budget"], row.get("variant"), row["seed"]): row for row in rows}
    groups: dict[str, list[Row]] = {}
    for row in newest.values():
        groups.setdefault(f"{row['capture']}, {row['budget']}", []).append(row)
    return groups


def _mean(rows: list[Row], figure: str) -> float | int | None:
    values = [row[figure] for row in rows if row[figure] is not None]
    if not values:
        return None
    return round(mean(values)) if all(isinstance(value, int) for value in values) else mean(values)
