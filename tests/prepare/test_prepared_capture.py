"""Laws of ``prepare``, driven as a user would: what goes in comes out, and can be gone on with."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from raw_sequence import LOWER, UPPER, ball, obj_text, write_owlii, write_texture

from resfields_ngp.cli import main
from resfields_ngp.clouds import read_cloud
from resfields_ngp.datasets import CaptureConfig, load_capture
from resfields_ngp.prepare import capture as capture_module

BRIEF = ["--clouds.points", "300", "--workers", "1"]
SMALL = ["--size", "40", "--views", "2", *BRIEF]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a raw Owlii sequence of three frames, in millimetres."""
    return write_owlii(tmp_path_factory.mktemp("raw") / "ball", 3)


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns its capture."""
    out = tmp_path_factory.mktemp("captures") / "ball"
    assert main(["prepare", "owlii", str(raw), "--out", str(out), *SMALL]) == 0
    return out


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main([*arguments, *(BRIEF if "--rig" in arguments else SMALL)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return code, lines[0]


def test_the_capture_is_the_figure_in_metres(prepared: Path):
    capture = load_capture(CaptureConfig(path=str(prepared), use_depth=True))
    assert (capture.n_frames, len(capture.views)) == (3, 2)
    assert capture.test_view is not None
    for view in (*capture.views, capture.test_view):
        assert view.masks is not None and view.depths is not None
        for frame in range(3):
            centre = np.array([0.1 * frame, 1.0, 0.0])
            middle, _ = view.cameras.project(centre[None], frame)
            row, column = (int(value) for value in (middle[0, 1], middle[0, 0]))
            eye = view.cameras.world_from_camera[frame][:3, 3]
            away = np.linalg.norm(centre - eye) - 0.8
            assert view.depths[frame, row, column] == pytest.approx(1000 * away, abs=8)
            rows = np.flatnonzero(view.masks[frame].any(axis=1))
            assert view.images[frame, rows[0] + 2, column].tolist() == list(UPPER)
            assert view.images[frame, rows[-1] - 2, column].tolist() == list(LOWER)
            assert (view.images[frame][~view.masks[frame]] == 0).all()


def test_clouds_lie_on_the_surface_with_its_normals(prepared: Path):
    capture = load_capture(CaptureConfig(path=str(prepared)))
    matrix = capture.world_from_normalised
    for frame, path in enumerate(capture.clouds):
        points, normals = read_cloud(path)
        away = points * matrix[0, 0] + matrix[:3, 3] - [0.1 * frame, 1.0, 0.0]
        np.testing.assert_allclose(np.linalg.norm(away, axis=1), 0.8, atol=0.01)
        assert normals is not None
        np.testing.assert_allclose(normals, away / 0.8, atol=0.1)
        assert np.abs(points).max() < 1


def test_capture_json_says_what_it_is(prepared: Path):
    record = json.loads((prepared / "capture.json").read_text())
    assert record["units"] == "metres" and record["metres_per_source_unit"] == 0.001
    assert record["up"] == "+y" and record["source"] == "ball"
    assert [each["number"] for each in record["meshes"]] == [1, 2, 3]
    assert record["meshes"][0]["holes"] == 0 and record["meshes"][0]["components"] == 1


def test_the_same_call_writes_the_same_bytes_in_any_number_of_processes(
    raw: Path, prepared: Path, tmp_path: Path
):
    options = [*SMALL[:-1], "2"]
    assert main(["prepare", "owlii", str(raw), "--out", str(tmp_path / "b"), *options]) == 0
    assert _digest(tmp_path / "b") == _digest(prepared)


def test_an_interrupted_run_goes_on_where_it_was(
    raw: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "capture"
    shutil.copytree(prepared, out)
    kept = out / "cam_train_0" / "rgb" / "000000.png"
    kept.write_bytes(kept.read_bytes() + b"kept as it is")
    shutil.rmtree(out / "cam_train_1" / "mask")
    (out / "cam_test" / "depth" / "000002.png").unlink()
    (out / "cloud" / "000001.ply").unlink()
    monkeypatch.setattr(capture_module, "survey_frame", None)  # the record has it
    assert main(["prepare", "owlii", str(raw), "--out", str(out), *SMALL]) == 0
    assert kept.read_bytes().endswith(b"kept as it is")
    after = _digest(out)
    before = _digest(prepared)
    assert [name for name in before if before[name] != after[name]] == [
        "cam_train_0/rgb/000000.png"
    ]


def test_a_stop_leaves_whole_files_and_the_code_of_the_signal(
    raw: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import os
    import signal

    real = capture_module.render_frame

    def stopping(job):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(job)

    out = tmp_path / "capture"
    arguments = ["prepare", "owlii", str(raw), "--out", str(out), *SMALL]
    monkeypatch.setattr(capture_module, "render_frame", stopping)
    assert main(arguments) == 143
    assert len(list((out / "cam_test" / "rgb").glob("*.png"))) == 1
    monkeypatch.setattr(capture_module, "render_frame", real)
    assert main(arguments) == 0
    assert _digest(out) == _digest(prepared)


def test_other_settings_need_overwrite(raw: Path, prepared: Path, tmp_path: Path, capsys):
    out = tmp_path / "capture"
    shutil.copytree(prepared, out)
    lit = ["prepare", "owlii", str(raw), "--out", str(out), "--lighting", "lambert"]
    code, line = _refusal(lit, capsys)
    assert code == 2 and "--overwrite" in line
    assert _digest(out) == _digest(prepared)
    assert main([*lit, "--overwrite", *SMALL]) == 0
    assert _digest(out)["cam_test/rgb/000000.png"] != _digest(prepared)["cam_test/rgb/000000.png"]
    assert _digest(out)["cam_test/mask/000000.png"] == _digest(prepared)["cam_test/mask/000000.png"]


def test_a_folder_of_something_else_is_left_alone(raw: Path, tmp_path: Path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    arguments = ["prepare", "owlii", str(raw), "--out", str(tmp_path), "--overwrite"]
    code, line = _refusal(arguments, capsys)
    assert code == 2 and "choose another folder" in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_capture_renders_again_with_its_own_cameras(raw: Path, prepared: Path, tmp_path: Path):
    for rig in (prepared, prepared / "rig.json"):
        out = tmp_path / rig.name
        arguments = ["prepare", "owlii", str(raw), "--out", str(out), "--rig", str(rig), *BRIEF]
        assert main(arguments) == 0
        for channel in ("rgb", "mask"):
            for path in prepared.glob(f"*/{channel}/*.png"):
                again = cv2.imread(str(out / path.relative_to(prepared)), cv2.IMREAD_UNCHANGED)
                given = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                # A capture's cameras are stored in single precision.
                assert (again != given).mean() < 0.003


def test_inputs_in_the_output_folder_are_refused_not_deleted(raw: Path, prepared: Path, capsys):
    before = _digest(prepared)
    for rig, out in ((str(prepared), prepared), (str(prepared / "rig.json"), prepared), ("", raw)):
        arguments = ["prepare", "owlii", str(raw), "--out", str(out), "--overwrite"]
        code, line = _refusal([*arguments, "--rig", rig], capsys)
        assert code == 2 and "lies in --out" in line
    assert _digest(prepared) == before and len(list(raw.iterdir())) == 9


def test_a_run_goes_on_only_with_the_cameras_it_began_with(
    raw: Path, prepared: Path, tmp_path: Path, capsys
):
    rig, out = tmp_path / "rig.json", tmp_path / "out"
    rig.write_bytes((prepared / "rig.json").read_bytes())
    arguments = ["prepare", "owlii", str(raw), "--out", str(out), "--rig", str(rig)]
    assert main([*arguments, *BRIEF]) == 0
    table = json.loads(rig.read_text())
    table["cameras"]["cam_train_0"]["width"] += 1
    rig.write_text(json.dumps(table))
    code, line = _refusal(arguments, capsys)
    assert code == 2 and "prepared with other cameras" in line


def test_frames_are_chosen_by_position_and_meshes_prepare_takes_the_same(raw: Path, tmp_path: Path):
    out = tmp_path / "some"
    arguments = ["prepare", "meshes", str(raw), "--out", str(out), "--frames", "::2", *SMALL]
    assert main([*arguments, "--background", "1,1,1", "--clouds.points", "0"]) == 0
    record = json.loads((out / "capture.json").read_text())
    assert [each["number"] for each in record["meshes"]] == [1, 3]
    assert not (out / "cloud").exists()
    corner = cv2.imread(str(out / "cam_test" / "rgb" / "000001.png"))[0, 0]
    assert corner.tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        ("no texture", 3, "no texture ball_00000002.png"),
        ("no mtl", 0, "no MTL file"),
        ("gap", 0, "frames 2 are missing"),
        ("duplicate", 3, "2 sequences or namings"),
        ("units", 3, "in frame 1 of those chosen"),
        ("cut off", 3, "ball_00000002.obj"),
        ("no folder", 3, "no such folder"),
        ("hole", 0, "holes 0 to 1"),
    ],
)
def test_bad_sequences(damage: str, code: int, said: str, raw: Path, tmp_path: Path, capsys):
    folder = tmp_path / "ball"
    shutil.copytree(raw, folder)
    second = folder / "ball_00000002.obj"
    lines = second.read_text().splitlines()
    if damage == "no texture":
        second.with_suffix(".png").unlink()
    elif damage == "no mtl":
        second.with_suffix(".mtl").unlink()
    elif damage == "gap":
        shutil.copy(second, folder / "ball_00000004.obj")
        second.unlink()
    elif damage == "duplicate":
        shutil.copy(second, folder / "ball_fr0002.obj")
    elif damage == "units":
        vertices, faces = ball(0.8, (0, 1, 0))
        second.write_text(obj_text(vertices, faces, "ball_00000002.mtl", 1.0))
    elif damage == "cut off":
        first = next(i for i, line in enumerate(lines) if line.startswith("v "))
        second.write_text("\n".join(lines[:first] + lines[first + 200 :]))
    elif damage == "hole":
        second.write_text("\n".join(lines[:-3]))
    elif damage == "no folder":
        shutil.rmtree(folder)
    capsys.readouterr()
    arguments = ["prepare", "owlii", str(folder), "--out", str(tmp_path / "out"), *SMALL]
    assert main(arguments) == code
    told = capsys.readouterr()
    assert said in (told.err if code else told.out)
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--unit", "inch"], 3, 'unit "inch"'),
        (["--samples", "5"], 2, "allowed: 1, 4, 9"),
        (["--lighting", "lambret"], 2, 'did you mean "lambert"'),
        (["--frames", "7:"], 3, "out of range"),
        (["--rig", "nowhere.json"], 3, "no such rig"),
        (["--rig", "nowhere.json", "--size", "40"], 2, "leave out rig.size"),
        (["--unit", "1"], 3, "depth images reach"),
        (["--training.steps", "3"], 2, "prepare owlii takes no --training.steps"),
        (["--ring", "3"], 2, "unknown option"),
    ],
)
def test_bad_options(arguments: list[str], code: int, said: str, raw: Path, tmp_path: Path, capsys):
    given = ["prepare", "owlii", str(raw), "--out", str(tmp_path / "out"), *arguments]
    found, line = _refusal(given, capsys)
    assert found == code and said in line


def test_palette_textures_survive_the_gutter_fill(tmp_path: Path):
    folder = write_owlii(tmp_path / "ball", 1)
    write_texture(folder / "ball_00000001.png", 256)
    out = tmp_path / "out"
    assert main(["prepare", "owlii", str(folder), "--out", str(out), *SMALL]) == 0
    image = cv2.cvtColor(cv2.imread(str(out / "cam_train_0/rgb/000000.png")), cv2.COLOR_BGR2RGB)
    mask = cv2.imread(str(out / "cam_train_0/mask/000000.png"), 0) > 0
    low, high = np.minimum(UPPER, LOWER), np.maximum(UPPER, LOWER)
    assert (image[mask] >= low).all() and (image[mask] <= high).all()


def test_a_folder_of_glb_files_is_a_sequence_too(tmp_path: Path):
    for frame in range(2):
        vertices, faces = ball(0.8, (0.0, 1.0 + 0.1 * frame, 0.0))
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        (tmp_path / "raw").mkdir(exist_ok=True)
        mesh.export(tmp_path / "raw" / f"take_{frame}.glb")
    out = tmp_path / "out"
    assert main(["prepare", "meshes", str(tmp_path / "raw"), "--out", str(out), *SMALL]) == 0
    capture = load_capture(CaptureConfig(path=str(out)))
    masks = capture.views[0].masks
    assert masks is not None
    tops = [np.flatnonzero(mask.any(axis=1))[0] for mask in masks]
    assert tops[1] < tops[0]  # it rose
