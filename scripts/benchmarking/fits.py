"""Variants of each task, scored at equal budget: one page of results, a table a task."""

from __future__ import annotations

import re
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
from resfields_ngp.schedules import TrainingConfig
from resfields_ngp.tasks import TASKS

from .comparisons import settings_key, table_key
from .measuring import REDUCED, compile_kernels, configured, measured_run
from .results import Ledger, Row, machine_line, markdown_table, peak_memory
from .variants import COLUMNS, NOTES, VARIANTS

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
    """Fits the variants of a task that the ledger lacks, and adds a row each.

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
    known, names = VARIANTS[task], list(names)
    for name in names:
        if name not in known:
            raise UsageError(f'no variant "{name}" of {task} (allowed: {", ".join(known)})')
    measure = measured_radiance if task == "radiance" else measured_fit
    for name in names:
        given = {**settings, **known[name]}
        row = {"task": task, "input": path.stem, "variant": name, "key": _key(task, path, given)}
        if ledger.find(**row):
            print(f"{task}, {name}: known already", flush=True)
            continue
        print(f"{task}, {name}: running", flush=True)
        folder = out / f"{task}_{re.sub('[^a-z0-9]+', '_', name.lower())}"
        ledger.add({**row, **measure(task, path, given, folder)})


def measured_radiance(task: str, path: Path, settings: Mapping[str, Any], out: Path) -> Row:
    """Reconstructs a capture with the settings of its scene; see `measured_run`."""
    config = configured(path, {**REDUCED, **settings})
    compile_kernels(config, out / "warm")
    return {**_budget(config.training), **measured_run(config, out / "run")}


def measured_fit(task: str, path: Path, settings: Mapping[str, Any], out: Path) -> Row:
    """Fits, writes and scores; an earlier run in `out` is deleted.

    Returns:
        The mean scores, seconds of preparation, training and results, steps, parameters, memory.

    Raises:
        SystemExit: Training was interrupted.
    """
    kind = TASKS[task]
    given = nested({**settings, "input.path": str(path.resolve())})
    config = load_config(None, None, given, kind.Config())
    use_threads(config.training.threads)
    begun = time.perf_counter()
    fitted = kind.open(config, open_backend(config.training.backend, config.training.device))
    prepared = time.perf_counter() - begun
    run = RunFolder.create(out, to_table(config), overwrite=True)
    if code := stages.fit(config.training, fitted, run, False):
        raise SystemExit(code)
    begun = time.perf_counter()
    fitted.deliver(run, lambda done, of: None)
    found = run.latest_checkpoint()
    assert found is not None, f"{run.path}: training wrote no checkpoint"
    return {
        **_budget(config.training),
        **_means(run.scores()),
        "prepare_seconds": round(prepared, 2),
        "train_seconds": round(found[1]["seconds"], 2),
        "result_seconds": round(time.perf_counter() - begun, 2),
        "steps": found[1]["step"],
        "parameters": sum(each.numel() for each in fitted.field.parameters()),
        "peak_memory_gib": peak_memory(),
    }


def _means(scores: Mapping[str, Any]) -> Row:
    """Returns the mean scores of a fit, those at unseen places and bits per pixel if it has any."""
    found = dict(scores["mean"])
    found |= {f"unseen_{name}": value for name, value in (scores.get("unseen") or {}).items()}
    found |= {name: scores[name] for name in ("bits_per_pixel",) if name in scores}
    return {name: round(value, 5) for name, value in found.items() if value is not None}


def _budget(training: TrainingConfig) -> Row:
    length = f"{training.steps} steps" if training.steps else f"{training.seconds:g} s"
    return {"budget": length, "seed": training.seed}


def _key(task: str, path: Path, settings: Mapping[str, Any]) -> str:
    """Returns what two runs share just if all their settings are the same, defaults among them."""
    if task == "radiance":
        return settings_key(configured(path, {**REDUCED, **settings}))
    given = nested({**settings, "input.path": path.name})
    return table_key(to_table(load_config(None, None, given, TASKS[task].Config())))


_ABOUT = """\
Written by `scripts/benchmark.py`; one run each unless said. Below a table are machine and command
of its last row. Inputs and variants that `--variants` does not name had settings of their own: all
frames of a clip (`--input.frames ::`), three residual features (`--encoder.n-residuals 3`).
"""


def describe_fits(rows: list[Row]) -> str:
    """Returns the Markdown of all tasks: a table each, the newest row of every variant."""
    parts = ["# Results\n", _ABOUT]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        newest = {(r["input"], r["budget"], r["variant"], r["seed"]): r for r in own}
        shown = {"steps": "steps", "parameters": "parameters", **COLUMNS[task]}
        header = ["input", "variant", "budget", *shown.values(), "date", "commit"]
        lines = [
            [
                *(r["input"], r["variant"], r["budget"], *(r.get(name) for name in shown)),
                *(r["date"][:10], r["commit"]),
            ]
            for r in newest.values()
        ]
        parts += [f"## {task}\n", NOTES[task] + "\n", markdown_table(header, lines)]
        parts.append(machine_line(own[-1]))
    return "\n".join(parts)
