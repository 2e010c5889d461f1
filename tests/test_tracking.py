"""Laws of tracking: the mesh follows a sphere that moves and swells, and knows when it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic import SphereField, sphere_reconstruction
from torch import Tensor

from resfields_ngp.extraction import MeshingConfig
from resfields_ngp.frame_surface import Surface
from resfields_ngp.manifest import groups_of
from resfields_ngp.meshing import export_meshes
from resfields_ngp.surface_fitting import flipped
from resfields_ngp.tracking import (
    FrameMesh,
    coarse_surface,
    frame_groups,
    group_meshes,
    residual,
)

CONFIG = MeshingConfig(resolution=32, tracking="group", target_faces="1000", colours=False)


class SwellingField(SphereField):
    """A sphere that moves on in model space and swells from frame to frame."""

    def _centre(self, frame: int) -> Tensor:
        return torch.tensor([0.45 + 0.02 * frame, 0.5, 0.5 + 0.01 * frame])

    def sdfs(self, positions: Tensor, frame: int) -> Tensor:
        self.n_evaluations += len(positions)
        return (positions - self._centre(frame)).norm(dim=1) - (self.radius + 0.01 * frame)

    def normals(self, positions: Tensor, frame: int) -> Tensor:
        return torch.nn.functional.normalize(positions - self._centre(frame), dim=1)


def swelling(n_frames: int = 4):
    """Returns a stand-in for `Reconstruction`."""
    reconstruction = sphere_reconstruction(n_frames, scale=2.0)
    reconstruction.field = SwellingField(0.25)
    return reconstruction


@pytest.fixture(scope="module")
def followed() -> list[FrameMesh]:
    """Returns the meshes of three frames, the first followed to the others."""
    return list(group_meshes(swelling(3), range(3), CONFIG))


def test_followed_meshes_meet_outlines_too() -> None:
    reconstruction, asked = swelling(3), []
    reconstruction.outlines = lambda frame: asked.append(frame) or []
    found = list(group_meshes(reconstruction, range(3), CONFIG))
    assert [each.key for each in found] == [0, 0, 0]
    assert asked == [0, 1, 2]


def test_the_mesh_follows_with_its_connectivity(followed: list[FrameMesh]) -> None:
    reconstruction, found = swelling(3), followed
    assert [each.key for each in found] == [0, 0, 0]
    for each in found:
        np.testing.assert_array_equal(each.mesh.faces, found[0].mesh.faces)
        assert each.flips == 0
        positions = reconstruction.space.to_model(each.mesh.vertices, each.frame)
        centre = reconstruction.field._centre(each.frame).numpy()
        radii = np.linalg.norm(positions - centre, axis=1)
        np.testing.assert_allclose(radii, 0.25 + 0.01 * each.frame, atol=1e-3)
        # World units: 2 a model unit; chords of 1000 triangles sag by less than a hundredth.
        assert each.residual < 0.01 * 2.0


def test_vertices_move_with_the_body_and_do_not_slide(followed: list[FrameMesh]) -> None:
    reconstruction = swelling(3)
    sides = []
    for each in (followed[0], followed[-1]):
        positions = reconstruction.space.to_model(each.mesh.vertices, each.frame)
        arms = positions - reconstruction.field._centre(each.frame).numpy()
        sides.append(arms / np.linalg.norm(arms, axis=1, keepdims=True))
    assert np.degrees(np.arccos((sides[0] * sides[1]).sum(1))).max() < 7


def test_a_body_that_jumps_is_a_new_key() -> None:
    config = replace(CONFIG, group_residual=1e-6)
    keys = [each.key for each in group_meshes(swelling(), range(2), config)]
    assert keys == [0, 1]


def test_after_an_empty_frame_comes_a_key() -> None:
    reconstruction = sphere_reconstruction(3, empty=(1,))
    found = list(group_meshes(reconstruction, range(3), CONFIG))
    assert [each.mesh.n_faces > 0 for each in found] == [True, False, True]
    assert found[2].key == 2


def test_what_is_not_covered_counts() -> None:
    reconstruction = sphere_reconstruction(1)
    surface = Surface(reconstruction, 0)
    (whole,) = group_meshes(reconstruction, [0], replace(CONFIG, target_faces="full"))
    positions = reconstruction.space.to_model(whole.mesh.vertices, 0)
    coarse = coarse_surface(surface, CONFIG)
    assert residual(surface, positions, whole.mesh.faces, coarse) < 0.003
    half = whole.mesh.faces[(positions[whole.mesh.faces].mean(1) < 0.5)[:, 0]]
    assert residual(surface, positions, half, coarse) > 0.2
    assert not flipped(surface, positions, whole.mesh.faces).any()
    assert flipped(surface, positions, half[:, ::-1]).all()


class StridingField(SphereField):
    """Two upright legs side by side that step past each other, farther than they are thick."""

    def _legs(self, frame: int) -> Tensor:
        forth = 0.06 * frame
        return torch.tensor([[0.42, 0.5, 0.41 + forth], [0.58, 0.5, 0.59 - forth]])

    def sdfs(self, positions: Tensor, frame: int) -> Tensor:
        self.n_evaluations += len(positions)
        return self._away(positions, frame).norm(dim=2).amin(1) - 0.05

    def normals(self, positions: Tensor, frame: int) -> Tensor:
        away = self._away(positions, frame)
        nearest = away.norm(dim=2).argmin(1)
        return torch.nn.functional.normalize(away[torch.arange(len(away)), nearest], dim=1)

    def _away(self, positions: Tensor, frame: int) -> Tensor:
        """Returns (N, 2, 3) ways from the legs' axes, which are 0.3 long."""
        away = positions[:, None] - self._legs(frame)
        along = away[..., 1].clamp(-0.15, 0.15)
        return away - torch.stack([torch.zeros_like(along), along, torch.zeros_like(along)], -1)


def test_legs_that_pass_each_other_stay_themselves() -> None:
    reconstruction = sphere_reconstruction(4)
    reconstruction.field = StridingField(0.25)
    config = replace(CONFIG, resolution=64)
    found = list(group_meshes(reconstruction, range(4), config))
    assert [each.key for each in found] == [0] * 4
    for each in found:
        positions = reconstruction.space.to_model(each.mesh.vertices, each.frame)
        is_left = reconstruction.space.to_model(found[0].mesh.vertices, 0)[:, 0] < 0.5
        for leg, mine in zip(
            reconstruction.field._legs(each.frame).numpy(), (is_left, ~is_left), strict=True
        ):
            np.testing.assert_allclose(positions[mine].mean(0)[[0, 2]], leg[[0, 2]], atol=0.01)


def test_groups_have_a_size() -> None:
    assert frame_groups(range(5), replace(CONFIG, group_size=2)) == [
        range(0, 2),
        range(2, 4),
        range(4, 5),
    ]
    assert len(frame_groups(range(5), replace(CONFIG, tracking="none"))) == 5


def test_the_manifest_lists_groups(tmp_path) -> None:
    import json

    export_meshes(swelling(3), tmp_path, replace(CONFIG, group_size=2))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [group["key"] for group in manifest["groups"]] == [3, 5]
    assert [group["frames"] for group in manifest["groups"]] == [[3, 4], [5]]
    worst = max(row["residual"] for row in manifest["frames"][:2])
    assert manifest["groups"][0]["largest_residual"] == worst > 0
    assert groups_of([{"frame": 1}]) == {}


@pytest.mark.parametrize("wrong", [{"group_size": 0}, {"group_residual": 0.0}])
def test_options_out_of_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"meshing.{next(iter(wrong))}"):
        MeshingConfig(**wrong)
