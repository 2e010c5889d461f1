"""Laws of the evaluation: a perfect run scores perfectly, quirks are apart, gaps are told."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from analytic import ring_of_cameras, similarity
from rich.console import Console

from resfields_ngp.datasets.base import Capture, View
from resfields_ngp.evaluation import (
    EvaluationConfig,
    evaluate_run,
    outdated,
    picture_scores,
)
from resfields_ngp.mesh import Mesh
from resfields_ngp.mesh_files import write_mesh
from resfields_ngp.pictures import write_png
from resfields_ngp.rasterising import silhouette
from resfields_ngp.score_table import score_table

CONFIG = EvaluationConfig(points=20_000)
NORMALISED = similarity(1.5, seed=3)
RADIUS, SIZE, N_FRAMES = 0.5, 48, 2


def ball(radius: float) -> Mesh:
    """Returns a sphere of a radius in normalised units, in the world."""
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    sphere.apply_transform(NORMALISED)
    return Mesh(np.asarray(sphere.vertices), np.asarray(sphere.faces))


def write_cloud(path: Path) -> Path:
    directions = np.random.default_rng(0).normal(size=(20_000, 3))
    normals = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    rows = np.hstack([normals * RADIUS, normals]).astype("<f4")
    lines = ["ply", "format binary_little_endian 1.0", "element vertex 20000"]
    lines += [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    path.write_bytes("\n".join([*lines, "end_header\n"]).encode() + rows.tobytes())
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    rng, views = np.random.default_rng(1), []
    for i, name in enumerate(("cam_train_0", "cam_test")):
        cameras = ring_of_cameras(NORMALISED[:3, 3], 4.0, N_FRAMES, azimuth=float(i), size=SIZE)
        images = rng.integers(1, 256, (N_FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
        mask = silhouette(ball(RADIUS), cameras, 0)
        views.append(View(name, cameras, images, np.stack([mask] * N_FRAMES)))
    clouds = tuple(write_cloud(tmp_path / f"{i}.ply") for i in range(N_FRAMES))
    return Capture("ball", (views[0],), views[1], (4, 6), NORMALISED, clouds=clouds)


def write_run(run: Path, capture: Capture, radius: float = RADIUS, error: int = 0) -> Path:
    """Writes the truth as a run: spheres, and photographs off by an error."""
    view = capture.test_view or capture.views[0]
    assert view.masks is not None
    for frame, number in enumerate(capture.frame_numbers):
        write_mesh(ball(radius), run / "meshes" / f"{number:06d}.ply")
        mask = view.masks[frame]
        pixels = view.images[frame].astype(int)
        picture = np.where(pixels > 128, pixels - error, pixels + error) * mask[..., None]
        folder = run / "renders" / view.name
        write_png(folder / "rgb" / f"{number:06d}.png", picture.astype(np.uint8))
        write_png(folder / "mask" / f"{number:06d}.png", mask.astype(np.uint8) * 255)
    return run


def test_truth_scores_perfectly(tmp_path: Path, capture: Capture) -> None:
    result = evaluate_run(write_run(tmp_path / "run", capture), capture, CONFIG)
    mean = result["mean"]
    assert mean["psnr"] == mean["masked_psnr"] == 100.0
    assert mean["ssim"] == pytest.approx(1.0)
    assert mean["silhouette_iou"] == 1.0
    # What is left is the spacing of random samples, half the root of the area of each, both ways.
    assert mean["chamfer"] == pytest.approx(np.sqrt(4 * np.pi * RADIUS**2 / 20_000), rel=0.05)
    assert mean["normal_consistency"] > 0.999
    density = 20_000 / (4 * np.pi * RADIUS**2)
    assert mean["f_score"] == pytest.approx(1 - np.exp(-density * np.pi * 0.01**2), rel=0.01)
    assert result["missing"] == []
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()) == result


def test_chamfer_of_concentric_spheres_is_twice_their_gap(tmp_path: Path, capture: Capture) -> None:
    run = write_run(tmp_path / "run", capture, radius=RADIUS + 0.05)
    mean = evaluate_run(run, capture, CONFIG)["mean"]
    assert mean["accuracy"] == pytest.approx(0.05, rel=0.02)
    assert mean["chamfer"] == pytest.approx(0.1, rel=0.02)
    # The L1 length of a unit vector is 1.5 on average over the sphere; neighbours in the L1 norm
    # are a little nearer than the radial one.
    assert 100 < mean["chamfer_resfields"] < 150
    assert mean["f_score"] == 0.0
    assert mean["silhouette_iou"] == pytest.approx((RADIUS / (RADIUS + 0.05)) ** 2, rel=0.05)


def test_constant_error_has_its_psnr_over_the_mask(tmp_path: Path, capture: Capture) -> None:
    run = write_run(tmp_path / "run", capture, error=20)
    mean = evaluate_run(run, capture, CONFIG)["mean"]
    expected = -20 * np.log10(20 / 255)
    assert mean["masked_psnr"] == pytest.approx(expected, abs=1e-6)
    assert capture.test_view is not None and capture.test_view.masks is not None
    cover = capture.test_view.masks.mean()
    assert mean["psnr"] == pytest.approx(expected - 10 * np.log10(cover), abs=1e-6)


def test_what_the_photograph_does_not_show_is_not_scored(tmp_path: Path, capture: Capture) -> None:
    view = capture.test_view
    assert view is not None and view.masks is not None
    unseen = np.zeros_like(view.masks)
    unseen[:, :, : SIZE // 2] = True
    cut = replace(
        view,
        images=view.images * ~unseen[..., None],
        masks=view.masks & ~unseen,
        unseen=unseen,
    )
    run = write_run(tmp_path / "run", capture)  # what it renders there is the truth
    for protocol in ("clean", "resfields"):
        config = replace(CONFIG, protocol=protocol)
        mean = evaluate_run(run, replace(capture, test_view=cut), config)["mean"]
        assert mean["psnr"] == mean["masked_psnr"] == 100.0 and mean["silhouette_iou"] == 1.0
        assert mean["ssim"] == pytest.approx(1.0)
    wrong = write_run(tmp_path / "wrong", replace(capture, test_view=cut), error=20)
    found = evaluate_run(wrong, replace(capture, test_view=cut), CONFIG)["mean"]["psnr"]
    # The error is that over what is shown, not over all.
    cover = cut.masks.sum() / (~unseen).sum()
    assert found == pytest.approx(-10 * np.log10(cover * (20 / 255) ** 2), abs=1e-6)


def test_protocol_resfields_adds_its_quirks_beside_the_clean_scores(
    tmp_path: Path, capture: Capture
) -> None:
    run = write_run(tmp_path / "run", capture, error=20)
    clean = evaluate_run(run, capture, CONFIG)["mean"]
    quirky = evaluate_run(run, capture, replace(CONFIG, protocol="resfields"))["mean"]
    assert {name: quirky[name] for name in clean} == clean
    assert set(quirky) - set(clean) == {f"{n}_resfields" for n in ("psnr", "masked_psnr", "ssim")}
    # Dividing by 256 makes every error smaller by 255 / 256; off the mask both are white.
    assert quirky["psnr_resfields"] - clean["psnr"] == pytest.approx(20 * np.log10(256 / 255))


def test_white_background_counts_missing_cover_in_the_quirks_only(
    tmp_path: Path, capture: Capture
) -> None:
    run = write_run(tmp_path / "run", capture)
    assert capture.test_view is not None
    folder = run / "renders" / "cam_test"
    write_png(folder / "mask" / "000004.png", np.full((SIZE, SIZE), 255, np.uint8))
    found = picture_scores(folder / "rgb" / "000004.png", capture.test_view, 0, "resfields")
    assert found["psnr"] == 100.0
    assert found["psnr_resfields"] < 10


def test_missing_files_are_told_and_left_out(tmp_path: Path, capture: Capture) -> None:
    run = write_run(tmp_path / "run", capture)
    (run / "meshes" / "000006.ply").unlink()
    (run / "renders" / "cam_test" / "rgb" / "000004.png").unlink()
    result = evaluate_run(run, capture, CONFIG)
    assert result["missing"] == ["renders/cam_test/rgb/000004.png", "meshes/000006"]
    assert "psnr" not in result["frames"][0] and "chamfer" not in result["frames"][1]


def test_capture_without_clouds_masks_or_test_camera_is_scored_on_what_is_left(
    tmp_path: Path, capture: Capture
) -> None:
    bare = replace(capture, test_view=None, clouds=())
    run = write_run(tmp_path / "run", bare)
    bare = replace(bare, views=(replace(bare.views[0], masks=None),))
    result = evaluate_run(run, bare, replace(CONFIG, protocol="resfields"))
    assert (result["camera"], result["held_out"]) == ("cam_train_0", False)
    assert list(result["mean"]) == ["psnr", "ssim", "psnr_resfields", "lpips"]


def test_lpips_without_weights_is_not_available(tmp_path: Path, capture: Capture) -> None:
    run = write_run(tmp_path / "run", capture)
    assert evaluate_run(run, capture, CONFIG)["mean"]["lpips"] is None


def test_table_has_a_row_a_frame_and_the_mean(tmp_path: Path, capture: Capture) -> None:
    result = evaluate_run(write_run(tmp_path / "run", capture), capture, CONFIG)
    console = Console(width=250, file=io.StringIO(), record=True)
    console.print(score_table(result, console))
    lines = console.export_text().splitlines()
    assert "held out" in lines[0]
    for start in ("4", "6", "mean"):
        assert any(line.strip("│ ").startswith(start) for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_every_score_is_told_whole_on_any_terminal(
    width: int, tmp_path: Path, capture: Capture
) -> None:
    result = evaluate_run(write_run(tmp_path / "run", capture), capture, CONFIG)
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(score_table(result, console))
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    for name in result["definitions"]:
        assert name in text and f"{result['mean'][name]:.4g}" in text


def test_pictures_without_the_subject_are_told_and_left_out(tmp_path: Path, capture: Capture):
    run = write_run(tmp_path / "run", capture)
    before = evaluate_run(run, capture, CONFIG)
    view = capture.test_view
    assert view is not None and view.masks is not None and before["without_subject"] == []
    masks = view.masks.copy()
    masks[0] = 0
    without = replace(capture, test_view=replace(view, masks=masks))
    result = evaluate_run(run, without, CONFIG)
    assert result["without_subject"] == [4] and "psnr" not in result["frames"][0]
    assert result["mean"]["psnr"] == result["frames"][1]["psnr"] == before["frames"][1]["psnr"]


def test_what_other_weights_made_is_told(tmp_path: Path, capture: Capture) -> None:
    run = write_run(tmp_path / "run", capture)
    assert outdated(evaluate_run(run, capture, CONFIG), "step 9") == []  # nothing says otherwise
    manifest = {"settings": {"source": "step 9"}, "frames": [{"frame": 4}, {"frame": 6}]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    record = run / "renders" / "cam_test" / "render.json"
    record.write_text(json.dumps({"source": "step 5"}))
    result = evaluate_run(run, capture, CONFIG)
    assert result["made_by"] == {"meshes": "step 9", "renders": "step 5"}
    (line,) = outdated(result, "step 9")
    assert line.startswith("renders are of step 5, the run is at step 9")
    assert len(outdated(result, "step 10")) == 2 and outdated(result, "") == []
    del manifest["frames"][0]
    (run / "manifest.json").write_text(json.dumps(manifest))
    lines = outdated(evaluate_run(run, capture, CONFIG), "step 5")
    assert len(lines) == 2 and "meshes of frames 4 are of other weights or settings" in lines[1]


def test_pictures_of_another_size_are_named(tmp_path: Path, capture: Capture) -> None:
    run = write_run(tmp_path / "run", capture)
    path = run / "renders" / "cam_test" / "rgb" / "000004.png"
    write_png(path, np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"000004.png: shape \(5, 5, 3\)"):
        evaluate_run(run, capture, CONFIG)


@pytest.mark.parametrize("wrong", [{"points": 0}, {"threshold": 0.0}])
def test_options_out_of_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"evaluation.{next(iter(wrong))}"):
        EvaluationConfig(**wrong)
