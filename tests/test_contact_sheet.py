"""Laws of the contact sheet: what is in its cells, and what it does without some files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from analytic import ring_of_cameras

from resfields_ngp.contact_sheet import COLUMNS, depth_colours, write_contact_sheet
from resfields_ngp.datasets.base import Capture, View
from resfields_ngp.mesh import Mesh
from resfields_ngp.mesh_files import write_mesh
from resfields_ngp.pictures import read_png, write_png
from resfields_ngp.rasterising import silhouette

SIZE, N_FRAMES = 60, 3


@pytest.fixture
def capture() -> Capture:
    cameras = ring_of_cameras(np.zeros(3), 5.0, N_FRAMES, size=SIZE)
    images = np.full((N_FRAMES, SIZE, SIZE, 3), (200, 30, 30), np.uint8)
    masks = np.stack([silhouette(ball(), cameras, 0)] * N_FRAMES)
    view = View("cam_test", cameras, images, masks)
    return Capture("ball", (view,), view, tuple(range(N_FRAMES)), np.eye(4))


def ball() -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=3)
    return Mesh(np.asarray(sphere.vertices), np.asarray(sphere.faces))


def write_run(run: Path, capture: Capture) -> None:
    for number in capture.frame_numbers:
        write_mesh(ball(), run / "meshes" / f"{number:06d}.ply")
        folder, name = run / "renders" / "cam_test", f"{number:06d}.png"
        assert capture.test_view is not None and capture.test_view.masks is not None
        mask = capture.test_view.masks[0]
        rgb = np.where(mask[..., None], np.array([20, 210, 20]), 0).astype(np.uint8)
        write_png(folder / "rgb" / name, rgb)
        write_png(folder / "normal" / name, rgb)
        write_png(folder / "mask" / name, mask.astype(np.uint8) * 255)
        write_png(folder / "depth" / name, mask.astype(np.uint16) * 900)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    return sheet[44 + row * 246 :, 44 + column * 246 :][:240, :240]


def test_cells_show_their_pictures(tmp_path: Path, capture: Capture) -> None:
    write_run(tmp_path, capture)
    assert write_contact_sheet(tmp_path, capture, n_rows=2) == tmp_path / "contact_sheet.png"
    sheet = read_png(tmp_path / "contact_sheet.png")
    assert sheet.shape == (44 + 2 * 246, 44 + len(COLUMNS) * 246, 3)
    for row in range(2):
        np.testing.assert_array_equal(cell(sheet, row, 0)[120, 120], [200, 30, 30])
        np.testing.assert_array_equal(cell(sheet, row, 1)[120, 120], [20, 210, 20])
        assert np.ptp(cell(sheet, row, 4)[120, 120]) == 0 < cell(sheet, row, 4)[120, 120, 0]
        # The window is 1.12 times the subject, so its corners are black and its middle is not.
        assert not cell(sheet, row, 1)[0, 0].any()
        assert cell(sheet, row, 1)[120, 18].any()


def test_missing_files_leave_empty_cells(tmp_path: Path, capture: Capture) -> None:
    assert write_contact_sheet(tmp_path, capture) is None
    write_run(tmp_path, capture)
    (tmp_path / "meshes" / "000001.ply").unlink()
    write_contact_sheet(tmp_path, capture)
    sheet = read_png(tmp_path / "contact_sheet.png")
    assert (cell(sheet, 1, 4) == 235).all()
    assert not (cell(sheet, 2, 4) == 235).all()


def test_near_is_brighter_than_far_and_nothing_is_black() -> None:
    depths = np.linspace(1000, 2000, 50).reshape(5, 10)
    depths[0, 0] = 0
    brightness = depth_colours(depths.astype(np.uint16)).astype(int).sum(2)
    assert brightness[0, 0] == 0
    assert brightness[0, 1] > brightness[2, 5] > brightness[4, 9] > 0
