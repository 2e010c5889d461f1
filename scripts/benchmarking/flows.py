"""Scene flow by every motion model, with and without residuals, at equal time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resfields_ngp import stages
from resfields_ngp.backends import open_backend
from resfields_ngp.config_tree import apply_table, nested, to_table
from resfields_ngp.flow import FLOW_MOTIONS
from resfields_ngp.run_folder import RunFolder
from resfields_ngp.tasks.flow import FlowFitConfig, FlowTask

from .results import Ledger, Row, machine_line, markdown_table

MODELS: dict[str, dict[str, Any]] = {
    f"{kind}{name}": {"motion.kind": kind, **settings}
    for kind in FLOW_MOTIONS
    for name, settings in (("", {"residual.rank": 0}), (" + residuals", {}))
}
"""Model of the comparison to what differs from the settings that all share."""

_COLUMNS = {
    "forward_relative": "forward / motion",
    "backward_relative": "backward / motion",
    "unseen_forward": "unseen forward",
    "unseen_backward": "unseen backward",
    "forward": "forward",
    "backward": "backward",
    "accuracy_5": "within 5 %",
    "accuracy_10": "within 10 %",
    "cycle_relative": "cycle / motion",
    "steps": "steps",
    "train_seconds": "seconds",
    "parameters": "parameters",
}


def compare_flows(
    meshes: Path,
    settings: Mapping[str, Any],
    models: Iterable[str],
    out: Path,
    ledger: Ledger,
) -> None:
    """Runs the models that the ledger lacks and adds a row for each.

    Args:
        meshes: The sequence.
        settings: Dotted settings that all models share, the budget among them.
        models: Keys of `MODELS`.
        out: Folder of the runs.
        ledger: Receives a row a run.
    """
    for model in models:
        table = {**settings, **MODELS[model], "input.path": str(meshes.resolve())}
        config = apply_table(FlowFitConfig(), nested(table), "benchmark")
        names = {"sequence": meshes.stem, "model": model, "seed": config.training.seed}
        content = json.dumps(to_table(config) | {"input": meshes.name}, sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        if ledger.find(key=key, **names):
            print(f"{names}: known already", flush=True)
            continue
        print(f"{names}: running", flush=True)
        ledger.add({**names, "key": key, **measured_flow(config, out / key)})


def measured_flow(config: FlowFitConfig, out: Path) -> Row:
    """Returns the scores, time and size of one fit."""
    from resfields_ngp.reconstruction import use_threads

    use_threads(config.training.threads)
    backend = open_backend(config.training.backend, config.training.device)
    task = FlowTask.open(config, backend)
    run = RunFolder.create(out, to_table(config), overwrite=True)
    begun = time.perf_counter()
    stages.fit(config.training, task, run, False)
    wall = time.perf_counter() - begun
    task.deliver(run, lambda done, total: None)
    result = json.loads((run.path / "flow.json").read_text())
    last = json.loads(run.metrics_path.read_text().splitlines()[-1])
    training = config.training
    return {
        **result["mean"],
        "unseen_forward": result["unseen"] and result["unseen"]["forward_relative"],
        "unseen_backward": result["unseen"] and result["unseen"]["backward_relative"],
        "held_out": result["held_out"],
        "parameters": result["parameters"],
        "steps": last["step"],
        "train_seconds": round(last["seconds"], 1),
        "wall_seconds": round(wall, 1),
        "budget": f"{training.steps} steps" if training.steps else f"{training.seconds:g} s",
    }


def describe_flows(rows: list[Row]) -> str:
    """Returns the Markdown of the comparison: a table a sequence and budget, the newest rows."""
    newest = {(r["sequence"], r["budget"], r["seed"], r["model"]): r for r in rows}
    groups: dict[str, list[Row]] = {}
    for row in newest.values():
        title = f"{row['sequence']}, {row['budget']}, seed {row['seed']}"
        groups.setdefault(title, []).append(row)
    parts = [
        "# Scene flow\n",
        "End-point errors at points that training never drew; forward is from the first frame to "
        "the others, backward from them to the first; unseen: on whole triangles that training "
        "left out. Errors are in world units, or parts of the mean motion between each frame and "
        "the first.\n",
    ]
    for title, group in groups.items():
        lines = [[row["model"], *(row[name] for name in _COLUMNS)] for row in group]
        table = markdown_table(["model", *_COLUMNS.values()], lines)
        parts += [f"## {title}\n", table, machine_line(group[-1])]
    return "\n".join(parts)
