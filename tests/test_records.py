from __future__ import annotations

import numpy as np
import pytest
import torch

from resfields_ngp.model_space import ModelSpace
from resfields_ngp.records import (
    FrameSlices,
    between_frames,
    check_shape,
    frame_time,
)


def turned_space(n_frames: int = 3) -> ModelSpace:
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = 2.5 * rotation * np.sign(np.linalg.det(rotation))
    matrix[:3, 3] = (3.0, -1.0, 2.0)
    return ModelSpace(matrix, random.normal(size=(n_frames, 3)))


def test_times_run_from_zero_to_one():
    assert [frame_time(i, 5) for i in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert frame_time(0, 1) == 0.0


def test_to_model_undoes_to_world_at_every_frame():
    space = turned_space()
    points = np.random.default_rng(1).random((50, 3))
    for frame in range(3):
        back = space.to_model(space.to_world(points, frame), frame)
        assert np.allclose(back, points, atol=1e-12)


def test_lengths_grow_by_the_scale():
    space = turned_space()
    points = np.random.default_rng(1).random((2, 3))
    length = np.linalg.norm(points[0] - points[1])
    moved = space.to_world(points, 1)
    assert space.scale == pytest.approx(2.5)
    assert np.linalg.norm(moved[0] - moved[1]) == pytest.approx(2.5 * length)


def test_offsets_are_added_in_model_units():
    space = turned_space()
    shifted = space.to_world(np.zeros((1, 3)), 2)
    plain = space.world_from_model @ [*space.offsets[2], 1.0]
    assert np.allclose(shifted[0], plain[:3])


def test_slices_cover_each_frame_that_has_rows():
    slices = FrameSlices((7, 8, 9), (0, 2, 2, 5))
    assert list(slices) == [(0, 0, 2), (2, 2, 5)]
    assert slices.n_rows == 5


def test_no_rows_have_no_slices():
    slices = FrameSlices((3,), (0, 0))
    assert slices.n_rows == 0
    assert list(slices) == []


def test_shape_letters_must_agree():
    with pytest.raises(ValueError, match=r"pairs has shape \(2, 3\); expected \(N, N\)"):
        check_shape("pairs", torch.zeros(2, 3), "N N")
    with pytest.raises(ValueError, match="expected"):
        check_shape("points", torch.zeros(2), "N 3")


def test_rows_between_frames_are_blended_and_those_at_frames_are_not():
    table = torch.tensor([[0.0, 1.0], [2.0, 5.0], [4.0, 4.0]])
    asked = []

    def rows(frames: tuple[int, ...]) -> torch.Tensor:
        asked.append(frames)
        return table[list(frames)]

    assert torch.equal(between_frames(rows, (2, 0.0)), table[[2, 0]])
    assert asked == [(2, 0)]
    expected = torch.stack([table[0] * 0.75 + table[1] * 0.25, table[2]])
    assert torch.allclose(between_frames(rows, (0.25, 2)), expected)
