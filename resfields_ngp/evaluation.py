"""Scores of a finished run against its capture, from nothing but the run's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import trimesh

from .clouds import read_cloud
from .datasets.base import Capture, View
from .inspection import without_subject
from .manifest import read_manifest
from .mesh import Mesh
from .mesh_files import FORMATS, read_mesh
from .metrics import chamfer_resfields, psnr, silhouette_iou, ssim, surface_scores
from .perceptual import Lpips
from .pictures import read_png, read_record
from .rasterising import silhouette
from .spans import spans
from .threads import in_threads
from .writing import write_whole

Scores = dict[str, float]

DEFINITIONS = {
    "psnr": "dB, full picture, black off the mask, one mean squared error a frame",
    "masked_psnr": "dB, over the mask",
    "ssim": "Wang et al. 2004, Gaussian 11 x 11, sigma 1.5, full picture",
    "lpips": "AlexNet LPIPS of the weights given",
    "chamfer": "normalised units, Euclidean, mean of each direction, both summed",
    "accuracy": "normalised units, mean distance from mesh to truth",
    "completeness": "normalised units, mean distance from truth to mesh",
    "normal_consistency": "mean |cosine| between nearest neighbours, both directions averaged",
    "f_score": "at evaluation.threshold in normalised units",
    "chamfer_resfields": "normalised units x 1000, L1 norm, both directions summed",
    "silhouette_iou": "mesh against masks, mean over all cameras",
    "psnr_resfields": "dB, as psnr, but 8-bit values / 256 and, with a mask, white off it",
    "masked_psnr_resfields": "dB, as masked_psnr, but 8-bit values / 256, before white",
    "ssim_resfields": "as ssim, but 8-bit values / 256 and white off the mask",
}
"""What each score means; names with ``_resfields`` follow the official code's quirks."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How a run is scored."""

    protocol: Literal["clean", "resfields"] = "clean"
    """clean, or resfields: the official code's quirky picture scores beside the clean ones."""
    points: int = 100_000
    """Samples of each surface, 1 or more."""
    threshold: float = 0.01
    """Distance within which the F-score counts a point as found, normalised units, above 0."""
    seed: int = 0
    """Seed of the samples."""
    lpips_weights: str = ""
    """State dict of the lpips package's AlexNet network (.pth); without it LPIPS is n/a."""

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"evaluation.points is {self.points}; allowed: 1 or more")
        if self.seed < 0:
            raise ValueError(f"evaluation.seed is {self.seed}; allowed: 0 or more")
        if self.threshold <= 0:
            raise ValueError(f"evaluation.threshold is {self.threshold}; allowed: above 0")


def evaluate_run(
    run: Path,
    capture: Capture,
    config: EvaluationConfig,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores ``meshes/`` and ``renders/`` of a run and writes ``evaluation.json``.

    Pictures are those of the held-out camera, or of the first camera that was rendered where there
    is none, which ``held_out`` then says. What the capture has no truth for is left out, and so are
    pictures of frames whose masks are empty: they show nothing to be scored.

    Args:
        run: The run folder.
        capture: The truth; its frames are those of the run.
        config: How.
        report: Called with the number of frames done and of all frames.

    Returns:
        What is written: ``mean`` and ``frames`` (one row each), ``missing`` files, frames ``without
        subject``, ``definitions``, ``made_by``, the weights that meshes and pictures are of, and
        frames ``unlisted``, whose meshes the manifest does not list: others made them.

    Raises:
        ValueError: A file of the run is damaged, or the LPIPS weights are of another network.
        OSError: The table could not be written.
    """
    view = scored_view(run, capture)
    lpips = Lpips.load(Path(config.lpips_weights)) if config.lpips_weights else None
    rows, missing = [], []
    empty = [] if view is None else list(without_subject(view, capture.frame_numbers))
    scored = partial(_scored_frame, run, capture, view, config, lpips)
    for done, (row, lacking) in enumerate(in_threads(scored, range(capture.n_frames)), 1):
        rows.append(row)
        missing += lacking
        if report is not None:
            report(done, capture.n_frames)
    result = _summary(capture, view, config, rows)
    result |= {"missing": missing, "without_subject": empty, **_origins(run, capture, view)}
    write_whole(run / "evaluation.json", json.dumps(result, indent=1).encode())
    return result


def _scored_frame(
    run: Path,
    capture: Capture,
    view: View | None,
    config: EvaluationConfig,
    lpips: Lpips | None,
    frame: int,
) -> tuple[dict[str, Any], list[str]]:
    """Returns a frame's row, and which files it lacks."""
    number = capture.frame_numbers[frame]
    row, missing = {"frame": number}, []
    mesh_path = mesh_file(run, number)
    if mesh_path is None:
        missing.append(f"meshes/{number:06d}")
    else:
        row |= mesh_scores(read_mesh(mesh_path), capture, frame, config)
    if view is None or (view.masks is not None and not view.masks[frame].any()):
        return row, missing
    path = run / "renders" / view.name / "rgb" / f"{number:06d}.png"
    if path.is_file():
        row |= picture_scores(path, view, frame, config.protocol, lpips)
    else:
        missing.append(path.relative_to(run).as_posix())
    return row, missing


def scored_view(run: Path, capture: Capture) -> View | None:
    """Returns the held-out view, or where there is none the first whose pictures the run has."""
    if capture.test_view is not None:
        return capture.test_view
    rendered = [v for v in capture.views if (run / "renders" / v.name / "rgb").is_dir()]
    return rendered[0] if rendered else None


def mesh_file(run: Path, number: int) -> Path | None:
    """Returns a frame's mesh in the first format that is there."""
    paths = [run / "meshes" / f"{number:06d}.{suffix}" for suffix in FORMATS]
    return next((path for path in paths if path.is_file()), None)


def mesh_scores(mesh: Mesh, capture: Capture, frame: int, config: EvaluationConfig) -> Scores:
    """Scores one frame's mesh against the cloud and the masks that the capture has."""
    scores: Scores = {}
    if mesh.n_faces == 0:
        return scores
    if capture.clouds:
        points, normals = surface_samples(
            mesh, capture.world_from_normalised, config.points, config.seed
        )
        truth, truth_normals = read_cloud(capture.clouds[frame])
        keep = np.random.default_rng(config.seed).permutation(len(truth))[: config.points]
        truth = truth[keep]
        truth_normals = None if truth_normals is None else truth_normals[keep]
        scores |= surface_scores(points, normals, truth, truth_normals, config.threshold)
        scores["chamfer_resfields"] = chamfer_resfields(points, truth)
    views = capture.all_views
    overlaps = [
        silhouette_iou(
            view.blanked(silhouette(mesh, view.cameras, frame), frame), view.masks[frame]
        )
        for view in views
        if view.masks is not None
    ]
    if overlaps:
        scores["silhouette_iou"] = float(np.nanmean(overlaps))
    return scores


def surface_samples(
    mesh: Mesh, world_from_normalised: np.ndarray, n_points: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws points uniformly by area from a mesh in world units.

    Returns:
        (n_points, 3) positions in the normalised frame and (n_points, 3) unit face normals.
    """
    normalised = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    normalised.apply_transform(np.linalg.inv(world_from_normalised))
    points, faces = trimesh.sample.sample_surface(normalised, n_points, seed=seed)[:2]
    return np.asarray(points), np.asarray(normalised.face_normals)[np.asarray(faces)]


def picture_scores(
    path: Path, view: View, frame: int, protocol: str, lpips: Lpips | None = None
) -> Scores:
    """Scores one rendered picture against the photograph, both black off the photograph's mask.

    Where a straightened photograph shows nothing both are black, and no PSNR is taken.

    Raises:
        ValueError: The picture is damaged or of another size.
    """
    picture, truth = read_png(path), view.images[frame]
    if picture.shape != truth.shape:
        raise ValueError(f"{path}: shape {picture.shape}; the capture's is {truth.shape}")
    mask = None if view.masks is None else view.masks[frame]
    if mask is not None:
        truth = truth * mask[..., None]
    picture, truth = view.blanked(picture, frame), view.blanked(truth, frame)
    seen, expected = picture / 255, truth / 255
    scores = {"psnr": psnr(seen, expected, view.seen_at(frame)), "ssim": ssim(seen, expected)}
    if mask is not None:
        scores["masked_psnr"] = psnr(seen, expected, mask)
    if lpips is not None:
        scores["lpips"] = lpips(seen, expected)
    if protocol == "resfields":
        opacities = read_png(path.parent.parent / "mask" / path.name) / 255
        scores |= _resfields_scores(picture, view.blanked(opacities, frame), truth, mask)
    return scores


def _resfields_scores(
    picture: np.ndarray, opacities: np.ndarray, truth: np.ndarray, mask: np.ndarray | None
) -> Scores:
    """Scores as the official code does: values over 256, and white where nothing is in test."""
    seen = picture / 256 + (1 - opacities[..., None])
    expected = truth / 256
    if mask is None:
        return {"psnr_resfields": psnr(picture / 256, expected)}
    expected = np.where(mask[..., None], expected, 1.0)
    return {
        "psnr_resfields": psnr(seen, expected),
        "masked_psnr_resfields": psnr(seen, expected, mask),
        "ssim_resfields": ssim(seen, expected),
    }


def _summary(
    capture: Capture,
    view: View | None,
    config: EvaluationConfig,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns the whole table with means over the frames that have a score."""
    names = [name for name in DEFINITIONS if any(name in row for row in rows)]
    means: dict[str, Any] = {}
    for name in names:
        found = np.array([row[name] for row in rows if name in row])
        means[name] = float(np.nanmean(found)) if np.isfinite(found).any() else None
    means.setdefault("lpips", None)
    for row in rows:
        row.update({k: None for k, v in row.items() if isinstance(v, float) and np.isnan(v)})
    return {
        "capture": capture.name,
        "protocol": config.protocol,
        "camera": view.name if view else None,
        "held_out": view is not None and view is capture.test_view,
        "mean": means,
        "frames": rows,
        "definitions": {name: DEFINITIONS[name] for name in names},
    }


def _origins(run: Path, capture: Capture, view: View | None) -> dict[str, Any]:
    """Returns ``made_by`` and ``unlisted`` of `evaluate_run`, as the run's own records say."""
    manifest = read_manifest(run / "manifest.json")
    sources = {"meshes": manifest.get("settings", {}).get("source")}
    if view is not None:
        sources["renders"] = read_record(run / "renders" / view.name).get("source")
    listed = {row["frame"] for row in manifest["frames"]}
    there = [number for number in capture.frame_numbers if mesh_file(run, number)]
    return {
        "made_by": {part: source for part, source in sources.items() if source},
        "unlisted": [n for n in there if n not in listed] if "settings" in manifest else [],
    }


def outdated(result: dict[str, Any], source: str) -> list[str]:
    """Returns what of `evaluate_run`'s result is of other weights than `source`, a line each."""
    verbs = {"meshes": "mesh", "renders": "render"}
    found = [
        f"{part} are of {made_by}, the run is at {source}; `resfields-ngp {verbs[part]}` makes "
        "them again"
        for part, made_by in result["made_by"].items()
        if source and made_by != source
    ]
    if result["unlisted"]:
        found.append(
            f"meshes of frames {spans(result['unlisted'])} are of other weights or settings than "
            "the rest; `resfields-ngp mesh` makes them again"
        )
    return found
