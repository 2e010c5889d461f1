from __future__ import annotations

import pytest
import torch
from ball_scene import SMALL_GRID

from resfields_ngp.backends import open_backend
from resfields_ngp.encoders import FrequencyConfig, HashGrid4DConfig, HashGridConfig
from resfields_ngp.field import Field, NetworkConfig
from resfields_ngp.heads import NerfConfig, NeusConfig
from resfields_ngp.motion import jets
from resfields_ngp.motion.offset import OffsetConfig
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import ResFieldConfig

BACKENDS = [open_backend(name, "cpu") for name in ("reference", "cpu")]
ENCODERS = {
    "hash_grid": HashGridConfig(n_residuals=1, **SMALL_GRID),
    "hash_grid_4d": HashGrid4DConfig(base_time_resolution=2, **SMALL_GRID),
    "frequency": FrequencyConfig(n_frequencies=3, start_frequencies=1),
}
HEADS = {
    "neus": NeusConfig(n_geometry_features=4, n_neurons=16, view_degree=2),
    "nerf": NerfConfig(n_geometry_features=4, n_neurons=16, view_degree=2),
}
each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
each_head = pytest.mark.parametrize("head", HEADS)
each_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_field(
    backend=BACKENDS[0],
    encoder: str = "frequency",
    head: str = "neus",
    rank: int = 2,
    motion: OffsetConfig | None = None,
) -> Field:
    network = NetworkConfig(32, 1, release_end=0.5)
    residual = ResFieldConfig(rank=rank, deviation=0.1)
    parts = (ENCODERS[encoder], network, HEADS[head], residual)
    field = Field(*parts, 3, seeded(), backend, motion)
    for name, parameter in field.encoder.named_parameters():
        if name == "table":
            parameter.data.normal_(0.0, 0.3, generator=seeded(1))
    field.trained.fill_(1.0)
    return field


def positions(n: int = 20) -> torch.Tensor:
    return torch.rand(n, 3, generator=seeded(2))


@each_backend
@each_encoder
def test_tangents_of_the_whole_field_are_the_jacobian(backend, encoder: str):
    field, points = make_field(backend, encoder), positions().requires_grad_()
    jets = field.query(points, FrameSlices((0, 2), (0, 8, 20)), 1.0, 3)
    for output in range(jets.shape[2]):
        (gradients,) = torch.autograd.grad(jets[:, 0, output].sum(), points, retain_graph=True)
        # Rows of the grid that are within rounding of a cell's face aside, both are exact.
        assert torch.allclose(jets[:, 1:, output], gradients, atol=2e-4)


@each_encoder
@each_head
def test_backends_agree_on_the_whole_field(encoder: str, head: str):
    outputs = []
    for backend in BACKENDS:
        field = make_field(backend, encoder, head)
        jets = field.query(positions(), FrameSlices((1, 0), (0, 8, 20)), 0.3, 3)
        jets.square().mean().backward()
        outputs.append([jets.detach(), *(p.grad for p in field.trunk.parameters())])
    for one, other in zip(*outputs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@each_head
def test_fields_without_gradients_do_not_depend_on_chunks(head: str, monkeypatch):
    field, points = make_field(head=head), positions()
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=seeded(3)), dim=1)

    def found() -> list[torch.Tensor]:
        return [
            field.sdfs(points, 1),
            field.normals(points, 1),
            field.rgbs(points, 1),
            field.rgbs(points, 1, directions),
        ]

    whole = found()
    monkeypatch.setattr(field.backend, "query_rows", 7)
    for one, other in zip(whole, found(), strict=True):
        assert torch.allclose(one, other, atol=1e-6) and not one.requires_grad


@each_head
def test_fields_accept_no_points(head: str):
    field, nothing = make_field(head=head), torch.zeros(0, 3)
    assert field.sdfs(nothing, 0).shape == (0,)
    assert field.normals(nothing, 0).shape == (0, 3)
    assert field.rgbs(nothing, 0).shape == (0, 3)
    assert field.rgbs(nothing, 0, nothing).shape == (0, 3)


@each_head
def test_normals_point_along_the_growing_level(head: str):
    field, points = make_field(head=head), positions()
    normals = field.normals(points, 2)
    assert torch.allclose(normals.norm(dim=1), torch.ones(20), atol=1e-5)
    step = 1e-3
    differences = torch.stack(
        [
            field.sdfs(points + step * axis, 2) - field.sdfs(points - step * axis, 2)
            for axis in torch.eye(3)
        ],
        dim=1,
    )
    cosines = torch.nn.functional.cosine_similarity(normals, differences, dim=1)
    assert (cosines > 0.99).all()


@each_head
def test_colours_without_a_direction_are_those_seen_head_on(head: str):
    field, points = make_field(head=head), positions()
    head_on = field.rgbs(points, 1, -field.normals(points, 1))
    assert torch.allclose(field.rgbs(points, 1), head_on, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 2])
def test_without_residuals_every_frame_is_the_same(rank: int):
    field = make_field(rank=rank)
    assert torch.equal(field.sdfs(positions(), 0), field.sdfs(positions(), 2)) == (rank == 0)


def test_detail_is_released_by_the_release_end():
    field = make_field(encoder="hash_grid")
    slices = FrameSlices.single(0, 20)
    found = [field.query(positions(), slices, fraction, 0) for fraction in (0.0, 0.25, 0.5, 1.0)]
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])
    assert torch.equal(found[2], found[3])


def test_wrong_shapes_and_widths_are_refused():
    with pytest.raises(ValueError, match="positions has shape"):
        make_field().query(torch.zeros(4, 2), FrameSlices.single(0, 4), 1.0, 0)
    with pytest.raises(ValueError, match=r"network\.n_neurons is 20; allowed: 16, 32"):
        NetworkConfig(n_neurons=20)
    for config in (NeusConfig, NerfConfig):
        with pytest.raises(ValueError, match=r"head\.n_neurons is 256; allowed: 16, 32"):
            config(n_neurons=256)


@pytest.mark.parametrize("motion", [None, OffsetConfig()])
def test_colours_are_asked_where_the_encoder_is_and_pull_at_no_place(motion: OffsetConfig | None):
    field, points = make_field(motion=motion), positions().requires_grad_()
    slices = FrameSlices.single(2, 20)
    asked = field.outputs(points, slices, 1.0, 3).positions
    warped = field.motion(jets.of_positions(points, 0), slices, field.backend, 1.0).positions
    assert not asked.requires_grad and torch.allclose(asked, warped[:, 0], atol=1e-6)
    assert torch.equal(asked, points) == (motion is None)
