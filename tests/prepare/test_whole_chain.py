"""Laws of the way from a raw sequence to a textured one, the commands of docs/texture.md."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from raw_sequence import LOWER, UPPER, moving_figure, write_owlii
from scipy.spatial import cKDTree

from resfields_ngp.cli import main
from resfields_ngp.datasets import CaptureConfig, load_capture
from resfields_ngp.textured_files import read_textured, with_vertex_colours

N_FRAMES = 2
BRIEF = ["--samples", "1", "--workers", "1"]
PREPARE = ["--size", "48", "--views", "6", *BRIEF]
PREPARE += ["--clouds.points", "200"]
TRAIN = ["--steps", "150", "--threads", "1", "--training.samples-per-batch", "2048"]
TRAIN += ["--losses.mask", "0.2", "--resolution", "32"]  # in so few steps the masks teach most
TRAIN += ["--imaging.orbit-pictures", "0", "--imaging.video", "false"]
EXPORT = ["--texture", "uv", "--target-faces", "600", "--resolution", "40", "--format", "obj"]
EXPORT += ["--texturing.size", "128", "--threads", "1"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with all of it: raw in millimetres, capture, run and capture again."""
    folder = tmp_path_factory.mktemp("chain")
    raw, run = write_owlii(folder / "raw", N_FRAMES, shape=moving_figure), folder / "run"
    capture, again = folder / "figure", folder / "again"
    for command in (
        ["prepare", "owlii", str(raw), "--out", str(capture), *PREPARE],
        ["reconstruct", str(capture), "--out", str(run), *TRAIN],
        ["mesh", str(run), *EXPORT],
        ["prepare", "owlii", str(run / "textured"), "--out", str(again), *BRIEF]
        + ["--rig", str(capture)],
        ["eval", str(run), "--roundtrip", "--threads", "1"],
    ):
        assert main(command) == 0, command
    return folder


def test_the_export_is_the_raw_sequence_in_metres(chain: Path) -> None:
    metres = json.loads((chain / "figure" / "capture.json").read_text())["metres_per_source_unit"]
    assert metres == 0.001
    files = sorted((chain / "run" / "textured").glob("*.obj"))
    assert [path.name for path in files] == [f"figure_{i + 1:08d}.obj" for i in range(N_FRAMES)]
    for frame, path in enumerate(files):
        raw = metres * read_textured(chain / "raw" / f"ball_{frame + 1:08d}.obj").mesh.vertices
        found = read_textured(path).mesh.vertices
        bounds = np.array([raw.min(0), raw.max(0)])
        np.testing.assert_allclose([found.min(0), found.max(0)], bounds, atol=0.08)
        tree = cKDTree(raw)
        away = tree.query(found)[0].mean()
        for axis in range(3):
            mirrored = found.copy()
            mirrored[:, axis] = bounds[:, axis].sum() - found[:, axis]
            assert tree.query(mirrored)[0].mean() > 2 * away


def test_colours_are_where_they_were(chain: Path) -> None:
    mesh = with_vertex_colours(read_textured(chain / "run/textured/figure_00000001.obj"))
    for side, own in ((mesh.vertices[:, 1] > 1.1, UPPER), (mesh.vertices[:, 1] < 0.9, LOWER)):
        assert mesh.colours is not None and side.any()
        np.testing.assert_allclose(np.median(mesh.colours[side], axis=0), own, atol=12)


def test_prepared_again_it_looks_like_the_first_capture(chain: Path) -> None:
    assert json.loads((chain / "again/capture.json").read_text())["metres_per_source_unit"] == 1
    first, again = (
        load_capture(CaptureConfig(path=str(chain / name))) for name in ("figure", "again")
    )
    for view, seen in zip(first.views, again.views, strict=True):
        assert view.masks is not None and seen.masks is not None
        assert (view.masks & seen.masks).sum() > 0.88 * (view.masks | seen.masks).sum()
        np.testing.assert_array_equal(
            view.cameras.world_from_camera, seen.cameras.world_from_camera
        )
    assert json.loads((chain / "run/roundtrip.json").read_text())["training"]["psnr"] > 21
