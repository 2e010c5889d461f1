"""Laws of the textured export, driven as a user would: restarts, settings, faults, round trip."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from sheet_cells import cells_of

from resfields_ngp import workers
from resfields_ngp.cli import main
from resfields_ngp.commands import _with_plain_formats
from resfields_ngp.config import Config
from resfields_ngp.config_tree import apply_table
from resfields_ngp.datasets.synthetic_capture import SyntheticConfig, write_synthetic
from resfields_ngp.mesh_files import read_mesh
from resfields_ngp.metrics import psnr
from resfields_ngp.pictures import read_png
from resfields_ngp.sequences.gltf import Gltf
from resfields_ngp.sequences.gltf_motion import Motion
from resfields_ngp.textured_files import read_textured
from resfields_ngp.texturing import TexturingConfig

N_FRAMES = 3
EXPORT = ["--texture", "uv", "--target-faces", "600", "--resolution", "48"]
EXPORT += ["--texturing.size", "128", "--threads", "1"]
# In so few steps the masks teach most.
TRAINING = ["--training.samples-per-batch", "2048", "--losses.mask", "0.2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a run of a few steps, its capture beside it."""
    folder = tmp_path_factory.mktemp("textured")
    config = SyntheticConfig(n_frames=N_FRAMES, n_cameras=4, size=48, n_points=500)
    capture = write_synthetic(config, folder / "figure")
    options = ["--steps", "100", "--threads", "1", *TRAINING]
    assert main(["train", str(capture), "--out", str(folder / "run"), *options]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    """Returns the run with a textured export."""
    assert main(["mesh", str(trained), *EXPORT, "--format", "obj,glb", "--watertight"]) == 0
    return trained


@pytest.fixture
def run(exported: Path, tmp_path: Path) -> Path:
    """Returns a copy of the run that a test may break."""
    return Path(shutil.copytree(exported, tmp_path / "run"))


def stamps(run: Path) -> dict[str, int]:
    """Returns when each mesh of an export was written."""
    return {path.name: path.stat().st_mtime_ns for path in (run / "textured").glob("*.obj")}


def test_frames_are_closed_decimated_textured_and_in_the_world(exported: Path) -> None:
    manifest = json.loads((exported / "textured" / "manifest.json").read_text())
    assert (manifest["units"], manifest["handedness"]) == ("capture world units", "right-handed")
    assert manifest["up"] == "+y"
    assert [row["frame"] for row in manifest["frames"]] == list(range(N_FRAMES))
    for row in manifest["frames"]:
        number = row["frame"] + 1
        names = [f"figure_{number:08d}.{suffix}" for suffix in ("glb", "mtl", "obj", "png")]
        assert row["files"] == names
        assert row["watertight"] and row["boundary_edges"] == 0 and row["n_faces"] <= 620
        found = read_textured(exported / "textured" / names[2])
        np.testing.assert_allclose(
            [found.mesh.vertices.min(0), found.mesh.vertices.max(0)], row["bounds"], atol=1e-4
        )
        assert found.texture.shape == (128, 128, 3) and found.texture.std() > 5
    assert {"vertex_noise", "texture_change", "static_part"} <= set(manifest["flicker"])


def test_finished_frames_are_kept_and_missing_ones_come_back_alike(run: Path) -> None:
    before = stamps(run)
    lost = run / "textured" / "figure_00000002.png"
    content = lost.read_bytes()
    lost.unlink()
    assert main(["mesh", str(run), *EXPORT, "--format", "obj,glb", "--watertight"]) == 0
    after = stamps(run)
    assert [name for name in after if after[name] != before[name]] == ["figure_00000002.obj"]
    assert lost.read_bytes() == content


def test_one_file_plays_the_frames_that_are_there(run: Path, capsys) -> None:
    before = stamps(run)
    assert (
        main(["mesh", str(run), *EXPORT, "--format", "obj,glb", "--watertight", "--animate"]) == 0
    )
    assert stamps(run) == before
    assert f"{run / 'textured.glb'}, {N_FRAMES} frames" in capsys.readouterr().out
    motion = Motion.find(Gltf.open(run / "textured.glb"))
    rows = json.loads((run / "textured" / "manifest.json").read_text())["frames"]
    for row in rows:
        found = motion.mesh(row["frame"] / TexturingConfig().frames_per_second)
        assert found.n_faces == row["n_faces"]
        np.testing.assert_allclose(found.vertices.max(0), row["bounds"][1], atol=1e-4)
    assert main(["mesh", str(run), "--texture", "none", "--format", "ply", "--animate"]) == 2
    assert "meshing.animate joins glb files" in capsys.readouterr().err


def test_without_a_texture_one_file_plays_vertex_colours(run: Path) -> None:
    options = ["--resolution", "48", "--format", "glb", "--texture", "none", "--threads", "1"]
    assert main(["mesh", str(run), *options, "--animate", "--frames", "1:"]) == 0
    motion = Motion.find(Gltf.open(run / "meshes.glb"))
    second = motion.mesh(1 / TexturingConfig().frames_per_second)
    alone = read_mesh(run / "meshes" / "000002.glb")
    np.testing.assert_array_equal(second.vertices, alone.vertices)
    np.testing.assert_array_equal(second.colours, alone.colours)


def test_without_a_format_textured_meshes_are_glb(run: Path) -> None:
    shutil.rmtree(run / "textured")
    assert main(["mesh", str(run), *EXPORT, "--frames", "0"]) == 0
    assert sorted(path.suffix for path in (run / "textured").iterdir()) == [".glb", ".json"]
    assert main(["mesh", str(run), *EXPORT, "--frames", "0", "--format", "ply"]) == 0
    assert list((run / "textured").glob("*.ply"))


def test_one_command_leads_from_images_to_textured_meshes(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--imaging.orbit-pictures", "0", "--evaluation.points", "500"]
    options += ["--steps", "40", *TRAINING, *EXPORT]
    assert main(["reconstruct", str(trained.parent / "figure"), "--out", str(out), *options]) == 0
    assert len(list((out / "meshes").glob("*.ply"))) == N_FRAMES
    paths = sorted((out / "textured").glob("*.glb"))
    assert len(paths) == N_FRAMES
    for path in paths:
        assert read_textured(path).texture.shape[:2] == (128, 128)
    assert (out / "evaluation.json").is_file()


def test_an_interrupted_export_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run / "textured")
    real = workers.make_group

    def stop_at_the_second(reconstruction, config, writer, job):
        if job.frames[0] == 1:
            raise KeyboardInterrupt
        return real(reconstruction, config, writer, job)

    with monkeypatch.context() as patch:
        patch.setattr("resfields_ngp.workers.make_group", stop_at_the_second)
        assert main(["mesh", str(run), *EXPORT, "--format", "obj"]) == 130
    first = stamps(run)
    assert list(first) == ["figure_00000001.obj"]
    assert main(["mesh", str(run), *EXPORT, "--format", "obj"]) == 0
    last = stamps(run)
    assert len(last) == N_FRAMES
    assert last["figure_00000001.obj"] == first["figure_00000001.obj"]


def test_other_settings_export_again(run: Path) -> None:
    before = stamps(run)
    options = ["--format", "obj", "--frames", "0:1", "--texturing.picture", "jpeg"]
    assert main(["mesh", str(run), *EXPORT, *options]) == 0
    assert stamps(run)["figure_00000001.obj"] != before["figure_00000001.obj"]
    names = {path.name for path in (run / "textured").glob("figure_00000001.*")}
    assert names == {"figure_00000001.obj", "figure_00000001.mtl", "figure_00000001.jpg"}


def test_groups_share_connectivity_and_places(run: Path) -> None:
    options = ["--format", "obj", "--tracking", "group", "--meshing.group-residual", "0.5"]
    assert main(["mesh", str(run), *EXPORT, *options]) == 0
    manifest = json.loads((run / "textured" / "manifest.json").read_text())
    for group in manifest["groups"]:
        meshes = [
            read_textured(run / "textured" / f"figure_{frame + 1:08d}.obj")
            for frame in group["frames"]
        ]
        for mesh in meshes[1:]:
            np.testing.assert_array_equal(mesh.mesh.faces, meshes[0].mesh.faces)
            np.testing.assert_array_equal(mesh.atlas.uvs, meshes[0].atlas.uvs)
    assert sum(len(group["frames"]) for group in manifest["groups"]) == N_FRAMES


def test_a_group_keeps_its_atlas_when_its_frames_come_one_after_another(run: Path) -> None:
    options = ["--format", "obj", "--tracking", "group", "--meshing.group-residual", "0.5"]
    folder = run / "textured"
    assert main(["mesh", str(run), *EXPORT, *options]) == 0
    at_once = [read_textured(path).atlas.uvs for path in sorted(folder.glob("*.obj"))]
    (folder / "figure_00000003.obj").unlink()
    assert main(["mesh", str(run), *EXPORT, *options]) == 0
    again = [read_textured(path).atlas.uvs for path in sorted(folder.glob("*.obj"))]
    for one, other in zip(at_once, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_may_have_dots(run: Path) -> None:
    pytest.importorskip("pxr", reason="usd-core is an extra")
    options = ["--format", "usd,obj", "--texturing.name", "take.1", "--frames", "0:2"]
    assert main(["mesh", str(run), *EXPORT, *options]) == 0
    names = {path.name for path in (run / "textured").glob("take.1*.usdc")}
    assert names == {"take.1_00000001.usdc", "take.1_00000002.usdc", "take.1.usdc"}


@pytest.mark.slow
def test_workers_make_the_same_as_one_process(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "JOBS_EACH", 1)
    texture = run / "textured" / "figure_00000003.png"
    alone = texture.read_bytes()
    shutil.rmtree(run / "textured")
    options = [*EXPORT, "--format", "obj,glb", "--watertight", "--threads", "2"]
    assert main(["mesh", str(run), *options]) == 0
    assert len(stamps(run)) == N_FRAMES
    assert texture.read_bytes() == alone


def test_the_round_trip_is_close_to_the_capture(exported: Path, capsys) -> None:
    assert main(["eval", str(exported), "--roundtrip", "--threads", "1"]) == 0
    assert "held out" in capsys.readouterr().out
    found = json.loads((exported / "roundtrip.json").read_text())
    assert found["held_out_camera"] == "cam_test" and len(found["frames"]) == N_FRAMES * 5
    assert found["training"]["psnr"] > 18 and found["training"]["silhouette_iou"] > 0.7
    assert found["held_out"]["psnr"] > 16
    image, export = cells_of(read_png(exported / "roundtrip.png"), 2, N_FRAMES, 48)
    assert image.shape == (N_FRAMES, 48, 48, 3)
    assert psnr(image / 255, export / 255) == pytest.approx(found["held_out"]["psnr"], abs=1.0)


def test_a_round_trip_of_some_frames_names_the_others(run: Path, capsys) -> None:
    shutil.rmtree(run / "textured")
    assert main(["mesh", str(run), *EXPORT, "--frames", "1:2"]) == 0
    assert main(["eval", str(run), "--roundtrip", "--threads", "1"]) == 0
    assert "not exported, and not scored: frames 0, 2" in capsys.readouterr().out
    found = json.loads((run / "roundtrip.json").read_text())
    assert found["missing"] == [0, 2] and {row["frame"] for row in found["frames"]} == {1}


def test_a_round_trip_without_an_export_is_an_error(trained: Path, tmp_path: Path, capsys) -> None:
    bare = shutil.copytree(
        trained, tmp_path / "bare", ignore=shutil.ignore_patterns("textured", "manifest.json")
    )
    assert main(["eval", str(bare), "--roundtrip"]) == 3
    assert "no obj or glb of frame 0" in capsys.readouterr().err


def test_a_capture_that_is_gone_is_an_error(run: Path, capsys) -> None:
    settings = json.loads((run / "config.json").read_text())
    settings["capture"]["path"] = str(run / "nowhere")
    (run / "config.json").write_text(json.dumps(settings))
    assert main(["mesh", str(run), *EXPORT, "--format", "obj"]) == 3
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--texture", "vu"], 2, "uv"),
        (["--target-faces", "30x"], 2, "allowed: full, or a number of triangles"),
        (["--tracking", "flow"], 2, "group"),
        (["--texture", "uv", "--format", "fbx"], 2, "usd"),
        (["--format", "usd"], 3, "add --texture uv"),
    ],
)
def test_bad_options_are_one_line(run: Path, capsys, options: list, code: int, message: str):
    assert main(["mesh", str(run), *options]) == code
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "extra", "options"),
    [
        ("pxr.Usd", "usd", ["--format", "usd"]),
        ("DracoPy", "draco", ["--format", "glb", "--texturing.draco", "true"]),
    ],
)
def test_a_missing_package_is_an_error(
    run: Path, capsys, monkeypatch, module: str, extra: str, options: list
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["mesh", str(run), *EXPORT, *options]) == 4
    assert f"pip install 'resfields-ngp[{extra}]'" in capsys.readouterr().err


def test_an_open_mesh_is_refused_where_closed_ones_are_asked_for(
    run: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resfields_ngp.frame_jobs.is_watertight", lambda mesh: False)
    options = ["--watertight", "--resolution", "40", "--threads", "1"]
    assert main(["mesh", str(run), *options]) == 3
    assert "not a closed 2-manifold in frames 0 to 2 (3 of 3)" in capsys.readouterr().err


def test_a_textured_reconstruction_has_plain_meshes_too() -> None:
    config = apply_table(Config(), {"meshing": {"formats": ["usd"]}}, "test")
    assert _with_plain_formats(config) is config  # without a texture usd stays an error
    textured = apply_table(config, {"texturing": {"kind": "uv"}}, "test")
    assert _with_plain_formats(textured).meshing.formats == ("ply",)
    both = apply_table(textured, {"meshing": {"formats": ["glb", "usd"]}}, "test")
    assert _with_plain_formats(both).meshing.formats == ("glb",)
