"""Laws of the motion models: identity at the start, exact tangents, inverses, equal backends."""

from __future__ import annotations

import pytest
import torch
from ball_scene import SMALL_GRID

from resfields_ngp.backends import open_backend
from resfields_ngp.encoders import HashGridConfig
from resfields_ngp.field import Field, NetworkConfig
from resfields_ngp.heads import NeusConfig
from resfields_ngp.motion import MOTIONS, Motion, MotionNetworkConfig, jets
from resfields_ngp.motion.invertible import InvertibleConfig
from resfields_ngp.motion.offset import OffsetConfig
from resfields_ngp.motion.rigid import AmbientConfig, RigidConfig
from resfields_ngp.motion.static import LatentConfig, NoMotionConfig
from resfields_ngp.motion.trajectory import TrajectoryConfig
from resfields_ngp.records import FrameSlices
from resfields_ngp.resfield import ResFieldConfig, dct_basis

N_FRAMES = 4
SLICES = FrameSlices((2, 0, 3), (0, 5, 5, 12))
BACKENDS = [open_backend(name, "cpu") for name in ("reference", "cpu")]
CONFIGS = {
    "none": NoMotionConfig(n_times=3),
    "latent": LatentConfig(),
    "offset": OffsetConfig(),
    "se3": RigidConfig(),
    "se3_ambient": AmbientConfig(),
    "invertible": InvertibleConfig(),
    "dct": TrajectoryConfig(),
}
WARPS = ["offset", "se3", "se3_ambient", "invertible", "dct"]

each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
each_kind = pytest.mark.parametrize("kind", MOTIONS)
each_rank = pytest.mark.parametrize("rank", [0, 2])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_motion(kind: str, rank: int = 2, is_random: bool = True) -> Motion:
    residual = ResFieldConfig(rank=rank, deviation=0.1 if is_random else 0.01)
    motion = MOTIONS[kind](CONFIGS[kind], N_FRAMES, residual, seeded())
    if is_random:
        for name, parameter in motion.named_parameters():
            if name.endswith("base"):
                parameter.data += 0.03 * torch.randn(parameter.shape, generator=seeded(5))
    return motion


def points(n: int = 12) -> torch.Tensor:
    return torch.rand(n, 3, generator=seeded(1))


@pytest.mark.parametrize("kind", WARPS)
def test_warps_begin_at_the_identity(kind: str):
    motion, here = make_motion(kind, rank=0, is_random=False), jets.of_positions(points(), 3)
    assert torch.allclose(motion(here, SLICES, BACKENDS[0], 1.0).positions, here, atol=1e-6)
    residual = make_motion(kind, rank=2, is_random=False)
    assert torch.allclose(residual(here, SLICES, BACKENDS[0], 1.0).positions, here, atol=0.02)


@each_backend
@each_kind
@each_rank
def test_tangents_are_the_jacobian(kind: str, rank: int, backend):
    motion, inputs = make_motion(kind, rank), points().requires_grad_()
    warped = motion(jets.of_positions(inputs, 3), SLICES, backend, 0.6)
    everything = torch.cat([warped.positions, warped.extras], dim=2)
    assert everything.shape == (12, 4, 3 + motion.n_extras)
    if motion.is_warp:
        assert not torch.allclose(warped.positions[:, 0], inputs, atol=1e-3)
    for output in range(everything.shape[2]):
        total = everything[:, 0, output].sum()
        (gradients,) = torch.autograd.grad(
            total, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        assert torch.allclose(everything[:, 1:, output], gradients, atol=2e-4)


@each_kind
def test_without_tangents_the_values_are_the_same(kind: str):
    motion = make_motion(kind)
    found = [motion(jets.of_positions(points(), n), SLICES, BACKENDS[0], 1.0) for n in (0, 3)]
    assert torch.allclose(found[0].positions, found[1].positions[:, :1], atol=1e-6)
    assert torch.allclose(found[0].extras, found[1].extras[:, :1], atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in MOTIONS if kind != "none"])
def test_backends_agree_in_values_and_gradients(kind: str):
    found = []
    for backend in BACKENDS:
        motion = make_motion(kind)
        warped = motion(jets.of_positions(points(), 3), SLICES, backend, 1.0)
        (warped.positions.square().sum() + warped.extras.square().sum()).backward()
        gradients = [p.grad for p in motion.parameters() if p.grad is not None]
        found.append([warped.positions, warped.extras, *gradients])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        scale = max(1.0, float(one.detach().abs().max()) if one.numel() else 1.0)
        assert torch.allclose(one, other, atol=1e-4 * scale)


@each_kind
def test_no_points_are_moved(kind: str):
    warped = make_motion(kind)(
        jets.of_positions(points(0), 3), FrameSlices((1,), (0, 0)), BACKENDS[1], 1.0
    )
    assert warped.positions.shape == (0, 4, 3)


@each_rank
def test_the_invertible_warp_leads_back(rank: int):
    motion, here = make_motion("invertible", rank), jets.of_positions(points(), 3)
    there = motion(here, SLICES, BACKENDS[0], 1.0).positions
    back = motion.from_reference(there, SLICES, BACKENDS[0], 1.0)
    # Derivatives too: the Jacobian of the way back times that of the way there is the identity.
    assert torch.allclose(back[:, 0], points(), atol=1e-6)
    assert torch.allclose(back, here, atol=1e-4)
    assert not torch.allclose(there, here, atol=0.01)


def test_paths_end_where_they_are_at_the_reference():
    motion, here = make_motion("dct"), jets.of_positions(points(), 0)
    slices = FrameSlices.single(0, 12)
    assert torch.equal(motion(here, slices, BACKENDS[0], 1.0).positions, here)
    assert torch.equal(motion.from_reference(here, slices, BACKENDS[0], 1.0), here)


def test_a_point_has_one_path_without_residuals():
    motion, one = make_motion("dct", rank=0), jets.of_positions(points(1), 0)
    path = torch.stack(
        [
            motion.from_reference(one, FrameSlices.single(frame, 1), BACKENDS[0], 1.0)[0, 0]
            for frame in range(N_FRAMES)
        ]
    )
    coefficients = motion.network(one, FrameSlices.single(0, 1), BACKENDS[0], 1.0).view(3, -1)
    basis = dct_basis(N_FRAMES, N_FRAMES - 1)
    expected = one[0, 0] + (basis - basis[0]) @ coefficients.T
    assert torch.allclose(path, expected, atol=1e-6)


@pytest.mark.parametrize(("n_frames", "n_bases"), [(2, 1), (7, 6), (12, 5)])
def test_cosines_are_orthonormal_to_each_other_and_to_a_constant(n_frames: int, n_bases: int):
    basis = dct_basis(n_frames, n_bases)
    assert torch.allclose(basis.T @ basis, torch.eye(n_bases), atol=1e-5)
    assert torch.allclose(basis.sum(0), torch.zeros(n_bases), atol=1e-5)


def test_rigid_motions_with_one_screw_keep_distances():
    motion = make_motion("se3", rank=0, is_random=False)
    spec = motion.network.mlp.spec
    last = motion.network.mlp.weights.base.data[spec.offsets[-2] :].view(*spec.shapes[-1])
    # Equal outputs everywhere: hidden units of a network whose first layer is 0 are constant.
    motion.network.mlp.weights.base.data[: spec.offsets[1]] = 0.0
    last.normal_(0.0, 3.0, generator=seeded(3))
    moved = motion(jets.of_positions(points(), 0), SLICES, BACKENDS[0], 1.0).positions[:, 0]
    assert not torch.allclose(moved, points(), atol=0.05)
    assert torch.allclose(torch.cdist(moved, moved), torch.cdist(points(), points()), atol=1e-4)


@each_rank
@each_kind
def test_frames_differ_through_the_motion_alone(kind: str, rank: int):
    motion = make_motion(kind, rank)
    here = jets.of_positions(points(1).expand(2, 3), 0)
    warped = motion(here, FrameSlices((1, 2), (0, 1, 2)), BACKENDS[0], 1.0)
    everything = torch.cat([warped.positions, warped.extras], dim=2)
    assert not torch.allclose(everything[0], everything[1], atol=1e-5)


@each_backend
@each_rank
def test_tangents_of_a_network_with_a_grid_are_the_jacobian(rank: int, backend):
    config = RigidConfig(network=MotionNetworkConfig(n_levels=4, n_frequencies=2))
    motion = MOTIONS["se3"](config, N_FRAMES, ResFieldConfig(rank=rank), seeded())
    grid = motion.network.grid
    assert hasattr(grid, "coefficients") == (rank > 0)
    grid.table.data.normal_(0.0, 0.1, generator=seeded(1))
    motion.network.mlp.weights.base.data.normal_(0.0, 0.3, generator=seeded(2))
    inputs = points().requires_grad_()
    moved = motion(jets.of_positions(inputs, 3), SLICES, backend, 1.0).positions
    for axis in range(3):
        (gradients,) = torch.autograd.grad(moved[:, 0, axis].sum(), inputs, retain_graph=True)
        assert torch.allclose(moved[:, 1:, axis], gradients, atol=1e-3, rtol=1e-3)


def make_field(kind: str, backend) -> Field:
    encoder = HashGridConfig(n_residuals=1, **SMALL_GRID)
    parts = (
        encoder,
        NetworkConfig(32, 1, release_end=0.5),
        NeusConfig(n_geometry_features=4, n_neurons=16),
    )
    residual = ResFieldConfig(rank=2, deviation=0.1)
    field = Field(*parts, residual, N_FRAMES, seeded(), backend, CONFIGS[kind])
    field.encoder.table.data.normal_(0.0, 0.3, generator=seeded(1))
    for name, parameter in field.motion.named_parameters():
        if name.endswith("base"):
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=seeded(5))
    return field


@each_backend
@each_kind
def test_tangents_of_the_whole_field_follow_the_chain_rule(kind: str, backend):
    field, inputs = make_field(kind, backend), points().requires_grad_()
    found = field.query(inputs, SLICES, 1.0, 3)
    assert torch.allclose(field.query(inputs, SLICES, 1.0, 0), found[:, :1], atol=1e-5)
    for output in range(found.shape[2]):
        (gradients,) = torch.autograd.grad(found[:, 0, output].sum(), inputs, retain_graph=True)
        assert torch.allclose(found[:, 1:, output], gradients, atol=3e-4, rtol=1e-3)


@each_kind
def test_every_motion_learns_from_normals_too(kind: str):
    field = make_field(kind, BACKENDS[1])
    found = field.query(points(), SLICES, 1.0, 3)
    (found[:, 0, 0].square().sum() + (found[:, 1:, 0].norm(dim=1) - 1.0).square().sum()).backward()
    for name, parameter in field.motion.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any() or not parameter.numel(), name


def test_a_warp_out_of_the_box_stays_finite():
    field = make_field("offset", BACKENDS[1])
    mlp = field.motion.network.mlp
    mlp.weights.base.data *= 30.0
    found = field.query(points(), SLICES, 1.0, 3)
    found.square().mean().backward()
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(p.grad).all() for p in field.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: NoMotionConfig(n_times=-1), "n_times"),
        (lambda: LatentConfig(n_code=0), "n_code"),
        (lambda: AmbientConfig(n_ambient=0), "n_ambient"),
        (lambda: AmbientConfig(n_ambient_frequencies=9), "n_ambient_frequencies"),
        (lambda: InvertibleConfig(n_blocks=0), "n_blocks"),
        (lambda: TrajectoryConfig(n_bases=0), "n_bases"),
    ],
)
def test_settings_out_of_range_are_refused(make, name: str):
    with pytest.raises(ValueError, match=rf"motion\.{name} is -?\d+; allowed"):
        make()
