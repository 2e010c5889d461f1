"""Laws of scene flow: points ride with their triangles, scores know the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sheet_cells import cells_of

from resfields_ngp.backends import open_backend
from resfields_ngp.config_tree import ConfigError
from resfields_ngp.flow import (
    FLOW_MOTIONS,
    FlowField,
    RidingPoints,
    advected,
    advected_mesh,
    draw_points,
    flow_space,
    retraced,
)
from resfields_ngp.flow_pictures import write_flow_picture
from resfields_ngp.flow_scores import DEFINITIONS, score_flow
from resfields_ngp.mesh import Mesh
from resfields_ngp.motion import (
    AmbientConfig,
    InvertibleConfig,
    LatentConfig,
    NoMotionConfig,
    OffsetConfig,
    RigidConfig,
    TrajectoryConfig,
)
from resfields_ngp.pictures import read_png
from resfields_ngp.resfield import ResFieldConfig

CPU = open_backend("cpu", "cpu")
CONFIGS = {
    "offset": OffsetConfig(),
    "se3": RigidConfig(),
    "invertible": InvertibleConfig(),
    "dct": TrajectoryConfig(),
}
FACES = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])
CORNERS = 2.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sliding(n_frames: int = 4) -> np.ndarray:
    """Returns (n_frames, 4, 3) corners of a tetrahedron that slides a unit a frame along x."""
    return CORNERS + np.arange(n_frames)[:, None, None] * np.array([1.0, 0.0, 0.0])


def make_field(kind: str, rank: int = 2, n_frames: int = 4) -> FlowField:
    field = FlowField(CONFIGS[kind], ResFieldConfig(rank=rank), n_frames, seeded(), CPU)
    for name, parameter in field.named_parameters():
        if name.endswith("base"):
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=seeded(5))
    field.trained.fill_(1.0)
    return field


class SlidingField:
    """Stands in for `FlowField`: knows the truth of `sliding`, up to an error both ways."""

    trained_fraction = 1.0

    def __init__(self, scale: float, error: float = 0.0) -> None:
        self.scale, self.error = scale, error
        self.backend = open_backend("reference")

    def forward_flow(self, positions, slices, fraction):
        """Moves by as many units as frames, and too far by the error."""
        step = torch.tensor([slices.frames[0], self.error, 0.0]) / self.scale
        return positions + step

    def backward_flow(self, positions, slices, fraction):
        """Moves back exactly."""
        return positions - torch.tensor([slices.frames[0], 0.0, 0.0]) / self.scale


def test_model_space_holds_all_frames_with_a_border_and_leads_back():
    vertices = sliding()
    space = flow_space(vertices)
    inside = space.to_model(vertices.reshape(-1, 3), 0)
    assert inside.min() >= 0.05 - 1e-9 and inside.max() <= 0.95 + 1e-9
    assert np.ptp(inside[:, 0]) == pytest.approx(0.9)
    assert np.allclose(space.to_world(inside, 3), vertices.reshape(-1, 3))


def test_points_ride_with_their_triangles():
    uniform = np.random.default_rng(0).random((50, 3))
    points = draw_points(FACES, np.ones(4), uniform)
    assert np.allclose(points.weights.sum(1), 1.0) and (points.weights >= 0.0).all()
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    assert np.allclose(points.at(CORNERS @ turn.T + 3.0), points.at(CORNERS) @ turn.T + 3.0)


def test_points_are_uniform_by_area():
    grid = (np.stack(np.meshgrid(*[np.arange(40)] * 3), -1).reshape(-1, 3) + 0.5) / 40
    areas = np.array([1.0, 0.0, 2.0, 1.0])
    points = draw_points(FACES, areas, grid)
    counts = [(points.triangles == face).all(1).mean() for face in FACES]
    assert np.allclose(counts, areas / 4.0, atol=0.01)
    # Of a triangle's points every corner has the same share, a third on average.
    assert np.allclose(points.weights.mean(0), 1 / 3, atol=0.01)


def test_exact_flow_has_no_error():
    vertices, space = sliding(), flow_space(sliding())
    points = RidingPoints(FACES, np.full((4, 3), 1 / 3))
    mean = score_flow(SlidingField(space.scale), space, vertices, points)["mean"]
    assert mean["motion"] == pytest.approx(2.0)
    for name in ("forward", "backward", "cycle"):
        assert mean[name] == pytest.approx(0.0, abs=1e-5)
    assert mean["accuracy_5"] == mean["accuracy_10"] == 1.0


def test_scores_measure_a_known_error():
    vertices, space = sliding(), flow_space(sliding())
    points = RidingPoints(FACES, np.full((4, 3), 1 / 3))
    result = score_flow(SlidingField(space.scale, 0.16), space, vertices, points)
    mean = result["mean"]
    assert set(mean) == set(DEFINITIONS) and len(result["frames"]) == 3
    # 0.16 units of a mean motion of 2 are 8 %; only the way there is wrong.
    assert mean["forward"] == pytest.approx(0.16, rel=1e-4)
    assert mean["forward_relative"] == pytest.approx(0.08, rel=1e-4)
    assert mean["backward"] == pytest.approx(0.0, abs=1e-5)
    assert mean["cycle_relative"] == pytest.approx(0.08, rel=1e-4)
    assert mean["accuracy_5"] == 0.5 and mean["accuracy_10"] == 1.0


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("kind", FLOW_MOTIONS)
def test_two_way_models_share_their_parameters(kind: str, rank: int):
    field = make_field(kind, rank)
    assert hasattr(field, "from_first") == (kind in ("offset", "se3"))


@pytest.mark.parametrize("kind", ["invertible", "dct"])
def test_flow_there_and_back_returns(kind: str):
    field, space = make_field(kind), flow_space(sliding())
    points = np.random.default_rng(1).random((20, 3)) * 2.0
    frame = 2 if kind == "invertible" else 0
    back = retraced(field, space, advected(field, space, points, frame), frame)
    assert np.allclose(back, points, atol=1e-4)
    if kind == "invertible":
        assert not np.allclose(advected(field, space, points, frame), points, atol=0.01)


def test_an_advected_mesh_keeps_its_connectivity_and_colours():
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3)
    field, space = make_field("se3"), flow_space(sliding())
    moved = advected_mesh(field, space, Mesh(CORNERS, FACES, None, colours), 2)
    assert np.array_equal(moved.faces, FACES) and np.array_equal(moved.colours, colours)
    assert np.allclose(moved.vertices, advected(field, space, CORNERS, 2))
    assert not np.allclose(moved.vertices, CORNERS, atol=1e-3)


def test_parts_do_not_change_the_flow(monkeypatch):
    field, space = make_field("offset"), flow_space(sliding())
    points = np.random.default_rng(1).random((20, 3))
    whole = advected(field, space, points, 1)
    monkeypatch.setattr(field.backend, "query_rows", 7)
    assert np.allclose(advected(field, space, points, 1), whole, atol=1e-6)


def test_the_picture_shows_every_row_and_column(tmp_path):
    field, vertices = make_field("se3"), sliding()
    space = flow_space(vertices)
    write_flow_picture(field, space, vertices, FACES, tmp_path / "flow.png")
    picture = read_png(tmp_path / "flow.png")
    cells = cells_of(picture, 3, 4, 260)
    assert cells.shape[2] == 170 and (cells.max((2, 3, 4)) > 60).all()
    # Off the subject all is black.
    assert (cells.min((2, 3, 4)) == 0).all()


@pytest.mark.parametrize("motion", [NoMotionConfig(), LatentConfig(), AmbientConfig()])
def test_models_whose_warp_is_not_all_make_no_flow(motion):
    expected = rf"motion\.kind is {motion.kind}; .* allowed: offset, se3"
    with pytest.raises(ConfigError, match=expected):
        FlowField(motion, ResFieldConfig(), 3, seeded(), CPU)
