"""Laws of the run folder: no run is lost by accident, and its records are whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resfields_ngp.run_folder import RunFolder, RunFolderError

SETTINGS = {
    "encoder": {"kind": "hash_grid", "n_levels": 12},
    "training": {"seed": 0, "seconds": 60.0, "threads": 1},
    "meshing": {"resolution": 128},
}


def _changed(table: str, **settings: object) -> dict:
    return SETTINGS | {table: SETTINGS[table] | settings}


def test_a_new_folder_holds_settings_and_environment(tmp_path: Path):
    run = RunFolder.create(tmp_path / "a" / "b", SETTINGS)
    assert run.settings() == SETTINGS
    assert json.loads((run.path / "env.json").read_text())["versions"]["torch"]
    assert run.checkpoints.is_dir()
    assert RunFolder.open(run.path) == run


def test_a_used_folder_needs_resume_or_overwrite(tmp_path: Path):
    run = RunFolder.create(tmp_path, SETTINGS)
    (run.path / "meshes").mkdir()
    (run.path / "meshes" / "000000.ply").write_text("mesh")
    with pytest.raises(RunFolderError, match="already used; pass --resume .* --overwrite"):
        RunFolder.create(tmp_path, SETTINGS)
    RunFolder.create(tmp_path, SETTINGS, resume=True)
    assert (run.path / "meshes" / "000000.ply").read_text() == "mesh"
    RunFolder.create(tmp_path, SETTINGS, overwrite=True)
    assert not (run.path / "meshes").exists()


def test_overwrite_never_deletes_a_folder_that_is_no_run(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="not empty and not a run folder"):
        RunFolder.create(tmp_path, SETTINGS, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_resume_with_other_settings_names_the_differing_keys(tmp_path: Path):
    RunFolder.create(tmp_path, SETTINGS)
    with pytest.raises(RunFolderError, match=r"other settings for encoder.n_levels;"):
        RunFolder.create(tmp_path, _changed("encoder", n_levels=8), resume=True)
    with pytest.raises(RunFolderError, match=r"other settings for training.seed;"):
        RunFolder.create(tmp_path, _changed("training", seed=1), resume=True)


@pytest.mark.parametrize(
    "settings",
    [
        _changed("training", seconds=90.0, threads=2, cuda_graphs=False),
        _changed("meshing", resolution=256),
        SETTINGS | {"sampling": {"fps": 50.0}, "export": {"formats": ["obj"]}},
    ],
)
def test_resume_may_change_what_does_not_shape_the_training(tmp_path: Path, settings: dict):
    RunFolder.create(tmp_path, SETTINGS)
    assert RunFolder.create(tmp_path, settings, resume=True).settings() == settings


def test_a_moved_capture_can_be_named_again_and_another_cannot(tmp_path: Path):
    old, new, run = tmp_path / "old", tmp_path / "new", tmp_path / "run"
    old.mkdir()
    RunFolder.create(run, SETTINGS | {"capture": {"path": str(old)}})
    wanted = SETTINGS | {"capture": {"path": str(new)}}
    with pytest.raises(RunFolderError, match=r"other settings for capture.path;"):
        RunFolder.create(run, wanted, resume=True)
    with pytest.raises(FileNotFoundError, match="new: no such capture"):
        RunFolder.open(run).move_capture(new)
    old.rename(new)
    RunFolder.open(run).move_capture(new)
    assert RunFolder.open(run).settings() == wanted
    new.rename(old)
    moved_back = SETTINGS | {"capture": {"path": str(old)}}
    assert RunFolder.create(run, moved_back, resume=True).settings() == moved_back


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="a file is there"):
        RunFolder.create(tmp_path / "file", SETTINGS)
    with pytest.raises(OSError, match="run: not writable; choose another --out"):
        RunFolder.create(tmp_path / "file" / "run", SETTINGS)


def test_opening_what_is_no_run_folder_says_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        RunFolder.open(tmp_path)


def test_metrics_are_one_object_a_line_even_after_a_cut_off(tmp_path: Path):
    run = RunFolder.create(tmp_path, SETTINGS)
    run.append_metrics({"step": 1, "loss": 0.5})
    with open(run.metrics_path, "ab") as file:
        file.write(b'{"step": 2, "lo')
    run.append_metrics({"step": 3})
    run.append_metrics({"step": 9})
    run.drop_metrics_after(5)
    lines = run.metrics_path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 0.5}, {"step": 3}]
