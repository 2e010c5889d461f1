"""Laws of frame numbers: both namings, gaps told, everything ambiguous refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resfields_ngp.sequences import SequenceConfig, SequenceError, find_unit, open_sequence


def _open(folder: Path, names: list[str], naming: str = "owlii", match: str = "*"):
    for name in names:
        (folder / name).write_text("")
    return open_sequence(SequenceConfig(path=str(folder), naming=naming, match=match))  # type: ignore[arg-type]


def test_both_namings_of_owlii_are_read_in_the_order_of_numbers(tmp_path: Path):
    for pattern in ("dancer_%08d.obj", "dancer_fr%04d.obj", "dancer_fr%04d_qp10_qt8.obj"):
        folder = tmp_path / pattern[:12].replace("%", "") / str(len(pattern))
        folder.mkdir(parents=True)
        sequence = _open(folder, [pattern % number for number in (12, 1, 2)] + ["dancer.mtl"])
        assert (sequence.name, sequence.frame_numbers) == ("dancer", (1, 2, 12))
        assert "frames 3 to 11 are missing" in sequence.notes[0]


def test_an_even_stride_is_no_gap(tmp_path: Path):
    assert _open(tmp_path, [f"a_{n:08d}.obj" for n in (1, 3, 5)]).notes == ()


@pytest.mark.parametrize(
    ("names", "naming", "said"),
    [
        (["a_00000001.obj", "a_fr0002.obj"], "owlii", "2 sequences or namings"),
        (["a_00000001.obj", "b_00000001.obj"], "owlii", "2 sequences or namings"),
        (["a_1.obj", "a_01.obj"], "any", "are both frame 1"),
        (["a_1.obj", "a_1.ply"], "any", "2 sequences or namings"),
        (["a_1.obj", "a.obj"], "any", "--sequence.match"),
        (["a_1.obj", "a_2.obj"], "owlii", "NAME_fr%04d"),
        (["readme.txt"], "any", "no meshes"),
    ],
)
def test_what_is_ambiguous_is_refused(names: list[str], naming: str, said: str, tmp_path: Path):
    with pytest.raises(SequenceError, match=re.escape(said)) as error:
        _open(tmp_path, names, naming)
    assert str(tmp_path) in str(error.value)


def test_a_pattern_picks_one_of_several_sequences(tmp_path: Path):
    names = ["a_00000001.obj", "b_00000001.obj", "b_00000002.obj"]
    assert _open(tmp_path, names, match="b_*").frame_numbers == (1, 2)


@pytest.mark.parametrize(
    ("height", "metres"), [(1870, 0.001), (187, 0.01), (18.7, 0.1), (1.87, 1.0), (2900, 0.001)]
)
def test_the_unit_is_that_in_which_the_figure_is_a_figure(height: float, metres: float):
    found, sentence = find_unit([height, 0.98 * height], "auto", "dancer")
    assert found == metres
    assert f"{height:g}" in sentence


@pytest.mark.parametrize("unit", ["mm", "0.001"])
def test_a_unit_that_is_said_is_taken(unit: str):
    assert find_unit([12.0], unit, "toy")[0] == 0.001


@pytest.mark.parametrize(
    ("heights", "unit", "said"),
    [
        ([4.2], "auto", "pass --unit"),
        ([1870, 1.87, 1871], "auto", "in frame 1"),
        ([1870, 1.87, 1871], "mm", "in frame 1"),
        ([1.8], "inch", "allowed: auto, m, dm, cm, mm"),
        ([1.8], "-1", "allowed"),
    ],
)
def test_no_unit_is_guessed(heights: list[float], unit: str, said: str):
    with pytest.raises(SequenceError, match="dancer") as error:
        find_unit(heights, unit, "dancer")
    assert said in str(error.value)
