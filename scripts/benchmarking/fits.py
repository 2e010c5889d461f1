"""Fits of ``fit``, scored: variants of each task at equal budget, one table a task."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resfields_ngp import stages
from resfields_ngp.backends import open_backend
from resfields_ngp.config import load_config
from resfields_ngp.config_tree import nested, to_table
from resfields_ngp.datasets.synthetic import Figure
from resfields_ngp.mesh import Mesh
from resfields_ngp.mesh_files import write_mesh
from resfields_ngp.options import UsageError
from resfields_ngp.reconstruction import use_threads
from resfields_ngp.run_folder import RunFolder
from resfields_ngp.tasks import TASKS

from .results import Ledger, Row, machine_line, markdown_table, peak_memory

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "video": {
        "residuals": {},
        "no residuals": {"residual.rank": 0},
        "no residuals, equal parameters": {
            "residual.rank": 0,
            "network.n_neurons": 128,
            "network.n_hidden_layers": 3,
        },
        "2-D grid with residuals": {"encoder.kind": "picture_grid"},
    },
    "sdf": {
        "residuals": {},
        "no residuals": {"residual.rank": 0, "encoder.n_residuals": 0},
        "residuals in the MLP only": {"encoder.n_residuals": 0},
        "residuals in the grid only": {"residual.rank": 0},
        "4-D grid": {"encoder.kind": "hash_grid_4d"},
        "the paper's points": {"points.widest_deviation": 0.01},
    },
}
"""Task to variant to what differs from the defaults."""

COLUMNS: dict[str, dict[str, str]] = {
    "video": {
        "held_out_psnr": "held-out PSNR",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "bits_per_pixel": "bits / pixel",
    },
    "sdf": {
        "chamfer": "Chamfer",
        "chamfer_floor": "floor",
        "normal_consistency": "normals",
        "iou": "IoU",
        "prepare_seconds": "preparation (s)",
    },
}
"""Task to score to its heading."""

NOTES = {
    "video": "Held-out PSNR: the official split, 10 % of each frame's pixels, never trained on.",
    "sdf": (
        "Chamfer: Euclidean, both directions summed, the sequence in [-1, 1], 100,000 points;"
        " floor: the input against itself. Preparation: reading, and distances measured"
        " beforehand."
    ),
}
"""Task to what its scores mean."""

SYNTHETIC_FRAMES = 60
"""Frames of the synthetic meshes, in which the figure walks four strides."""


def synthetic_meshes(folder: Path) -> Path:
    """Writes the walking figure as meshes, once; returns their folder."""
    folder = folder / "synthetic_meshes"
    figure = Figure(walk=3.0, strides=4.0)
    for frame in range(SYNTHETIC_FRAMES):
        path = folder / f"{frame:03d}.ply"
        if not path.is_file():
            vertices, faces = figure.mesh(frame / (SYNTHETIC_FRAMES - 1), 0.02)
            write_mesh(Mesh(vertices, faces), path)
    return folder


def compare_variants(
    task: str,
    path: Path,
    settings: Mapping[str, Any],
    names: Iterable[str],
    out: Path,
    ledger: Ledger,
) -> None:
    """Fits variants of a task and adds a row each.

    Args:
        task: Key of `VARIANTS`.
        path: The input.
        settings: Dotted settings that all variants share, the budget among them.
        names: Keys of the task's variants.
        out: Folder of the runs.
        ledger: Receives the rows.

    Raises:
        UsageError: There is no such variant.
    """
    known = VARIANTS[task]
    for name in names:
        if name not in known:
            raise UsageError(f'no variant "{name}" of {task} (allowed: {", ".join(known)})')
        given = {**settings, "input.path": str(path.resolve()), **known[name]}
        row = measured_fit(task, given, out / f"{task}_{name.replace(' ', '_').replace(',', '')}")
        ledger.add({"task": task, "input": path.stem, "variant": name, **row})


def measured_fit(task: str, settings: Mapping[str, Any], out: Path) -> Row:
    """Fits, writes and scores; an earlier run in `out` is deleted.

    Returns:
        The mean scores, seconds of preparation, training and results, steps, parameters, memory.

    Raises:
        SystemExit: Training was interrupted.
    """
    kind = TASKS[task]
    config = load_config(None, None, nested(settings), kind.Config())
    use_threads(config.training.threads)
    begun = time.perf_counter()
    fitted = kind.open(config, open_backend(config.training.backend, config.training.device))
    prepared = time.perf_counter() - begun
    run = RunFolder.create(out, to_table(config), overwrite=True)
    if code := stages.fit(config.training, fitted, run, False):
        raise SystemExit(code)
    begun = time.perf_counter()
    fitted.deliver(run, lambda done, of: None)
    found, scores = run.latest_checkpoint(), run.scores()
    assert found is not None, f"{run.path}: training wrote no checkpoint"
    n_parameters = sum(each.numel() for each in fitted.field.parameters())
    training = config.training
    extra = {k: scores[k] for k in ("bits_per_pixel",) if k in scores}
    return {
        "budget": f"{training.steps} steps" if training.steps else f"{training.seconds:g} s",
        "seed": training.seed,
        **{name: round(value, 5) for name, value in (scores["mean"] | extra).items() if value},
        "prepare_seconds": round(prepared, 2),
        "train_seconds": round(found[1]["seconds"], 2),
        "result_seconds": round(time.perf_counter() - begun, 2),
        "steps": found[1]["step"],
        "parameters": n_parameters,
        "peak_memory_gib": peak_memory(),
    }


def describe_fits(rows: list[Row]) -> str:
    """Returns the Markdown of all tasks: a table each, the newest row of every variant."""
    parts = ["# Results\n", "Written by `scripts/benchmark.py`; one run each unless said.\n"]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        newest = {(r["input"], r["budget"], r["variant"], r["seed"]): r for r in own}
        shown = {"steps": "steps", "parameters": "parameters", **COLUMNS[task]}
        header = ["input", "variant", "budget", *shown.values()]
        lines = [
            [r["input"], r["variant"], r["budget"], *(r.get(name) for name in shown)]
            for r in newest.values()
        ]
        parts += [f"## {task}\n", NOTES[task] + "\n", markdown_table(header, lines)]
        parts.append(machine_line(own[-1]))
    return "\n".join(parts)
