"""Laws of texturing's settings and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resfields_ngp.textured_files import write_textured
from resfields_ngp.texturing import FrameNames, TexturingConfig, axes, read_export


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 32},
        {"size": 10000},
        {"padding": 0},
        {"frames_per_second": 0.0},
        {"name": "a/b"},
        {"name": "a b"},
        {"name": ".hidden"},
    ],
)
def test_options_out_of_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"texturing.{next(iter(wrong))}"):
        TexturingConfig(**wrong)


@pytest.mark.parametrize("picture", ["png", "jpeg"])
@pytest.mark.parametrize("formats", [("obj",), ("ply", "glb"), ("glb", "obj")])
def test_names_foretell_the_files(tmp_path: Path, formats: tuple, picture: str) -> None:
    from textured_ball import textured_ball

    names = FrameNames(tmp_path, "basketball_player", formats, picture)
    assert names.base(0).name == "basketball_player_00000001"
    written = write_textured(textured_ball(), names.base(11), formats, picture)
    assert sorted(written) == sorted(names.paths(11))
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_the_nearest_axis_is_up() -> None:
    assert axes(np.array([-0.9, 0.1, 0.2])) == "-x"


def test_a_run_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no obj or glb of frame 3.*mesh --texture uv"):
        read_export(tmp_path, 3)
