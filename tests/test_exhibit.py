"""Laws of what a run has to show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from textured_ball import ball, textured_ball
from viewed_balls import Balls, exhibit

from resfields_ngp.exhibit import CHECKPOINT, MESHES, TEXTURED, Exhibit
from resfields_ngp.mesh_files import write_mesh
from resfields_ngp.run_folder import RunFolder
from resfields_ngp.textured_files import write_textured


def meshed(folder: Path) -> RunFolder:
    """Returns a run with two meshes, the second moved."""
    (folder / "meshes").mkdir()
    (folder / "config.json").write_text("{}")
    rows = []
    for number in (3, 5):
        mesh = ball(1)[0]
        mesh = replace(mesh, vertices=mesh.vertices + [number, 0, 0])
        write_mesh(mesh, folder / "meshes" / f"{number:06d}.ply")
        bounds = [mesh.vertices.min(0).tolist(), mesh.vertices.max(0).tolist()]
        rows.append({"frame": number, "files": [f"meshes/{number:06d}.ply"], "bounds": bounds})
    (folder / "manifest.json").write_text(json.dumps({"frames": rows}))
    return RunFolder(folder)


def test_the_box_holds_all_meshes_of_a_run_without_placement(tmp_path: Path) -> None:
    shown = Exhibit.of(meshed(tmp_path), None, "cpu", 32)
    assert list(shown.surfaces) == [MESHES] and shown.numbers == (3, 5)
    low, high = ball(1)[0].vertices.min(0), ball(1)[0].vertices.max(0)
    np.testing.assert_allclose(shown.bounds, [low + [3, 0, 0], high + [5, 0, 0]], atol=1e-6)


def test_model_space_is_the_box_of_a_capture_that_was_fitted(tmp_path: Path) -> None:
    run = meshed(tmp_path)
    space = np.diag([2.0, 2.0, 2.0, 1.0])
    offsets = np.array([[0, 0, 0], [0.5, 0, 0]])
    arrays = {"world_from_model": space, "offsets": offsets, "frame_numbers": np.array([3, 5])}
    np.savez(tmp_path / "placement.npz", **arrays)
    shown = Exhibit.of(run, None, "cpu", 32)
    assert list(shown.surfaces) == [MESHES, CHECKPOINT] and shown.numbers == (3, 5)
    np.testing.assert_allclose(shown.bounds, [[0, 0, 0], [3, 2, 2]])
    np.testing.assert_allclose(shown.centre, [1.5, 1, 1])
    assert shown.radius == pytest.approx(np.sqrt(9 + 4 + 4) / 2)


def test_textured_meshes_come_first(tmp_path: Path) -> None:
    run = meshed(tmp_path)
    (tmp_path / "textured").mkdir()
    write_textured(textured_ball(), tmp_path / "textured" / "ball", ("glb",), "png")
    rows = {"frames": [{"frame": 3, "files": ["ball.glb"], "bounds": None}]}
    (tmp_path / "textured" / "manifest.json").write_text(json.dumps(rows))
    assert list(Exhibit.of(run, None, "cpu", 32).surfaces) == [TEXTURED, MESHES]


def test_a_run_with_nothing_to_see_says_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="train this run, or mesh it"):
        Exhibit.of(RunFolder(tmp_path), None, "cpu", 32)


def test_scores_of_a_frame_stand_beside_the_means() -> None:
    told = exhibit(Balls()).told(1)
    assert "| PSNR, dB | 32.0 | 32.0 |" in told
    assert "lpips" not in told.lower()
    assert "| PSNR, dB | 34.0 | 32.0 |" in exhibit(Balls()).told(2)
    assert replace(exhibit(Balls()), scores=None).told(0) == ""


def test_up_is_the_cameras_and_the_held_out_one_is_known() -> None:
    shown = exhibit(Balls())
    np.testing.assert_allclose(shown.up, [0, 1, 0], atol=0.25)  # they look down a little
    assert [shown.is_held_out(view) for view in shown.views] == [False, False, True]
    np.testing.assert_array_equal(exhibit(Balls(), ()).up, [0, 1, 0])
