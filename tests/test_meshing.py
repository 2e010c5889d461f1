"""Laws of meshing: world units, outward normals, restarts, and what happens to empty frames."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from analytic import ring_of_cameras, sphere_reconstruction

from resfields_ngp import frame_jobs
from resfields_ngp.frame_surface import Surface, secant_step, trilinear
from resfields_ngp.mesh import Mesh, largest_components, statistics
from resfields_ngp.mesh_files import read_mesh
from resfields_ngp.meshing import (
    MeshingConfig,
    MeshingError,
    export_meshes,
    extract_mesh,
)
from resfields_ngp.outlines import Outline, drawn_distances
from resfields_ngp.tracking import coarse_surface

COARSE = MeshingConfig(resolution=48)


def test_mesh_of_a_sphere_has_its_radius_in_world_units() -> None:
    reconstruction = sphere_reconstruction(n_frames=2, scale=2.5, radius=0.3)
    mesh = extract_mesh(reconstruction, 1, COARSE)
    centre = reconstruction.space.to_world(np.array([[0.5, 0.5, 0.5]]), 1)
    radii = np.linalg.norm(mesh.vertices - centre, axis=1)
    # The secant step lands on the sphere itself, which linear interpolation would miss.
    np.testing.assert_allclose(radii, 0.75, rtol=1e-4)
    found = statistics(mesh)
    assert found.boundary_edges == found.non_manifold_edges == 0
    assert found.volume == pytest.approx(4 / 3 * np.pi * 0.75**3, rel=0.02)


def test_normals_point_outwards_in_world_axes() -> None:
    reconstruction = sphere_reconstruction()
    mesh = extract_mesh(reconstruction, 0, COARSE)
    centre = reconstruction.space.to_world(np.array([[0.5, 0.5, 0.5]]), 0)
    outwards = (mesh.vertices - centre) / np.linalg.norm(mesh.vertices - centre, axis=1)[:, None]
    np.testing.assert_allclose(mesh.normals, outwards, atol=1e-4)


def test_colours_are_the_fields_at_the_surface() -> None:
    reconstruction = sphere_reconstruction()
    mesh = extract_mesh(reconstruction, 0, COARSE)
    positions = torch.as_tensor(reconstruction.space.to_model(mesh.vertices, 0))
    expected = reconstruction.field.rgbs(positions, 0).numpy() * 255
    assert mesh.colours is not None and mesh.colours.dtype == np.uint8
    assert np.abs(mesh.colours - expected).max() <= 0.51
    assert (
        extract_mesh(reconstruction, 0, MeshingConfig(resolution=48, colours=False)).colours is None
    )


@pytest.mark.parametrize("reach", [0.0, 2.0])
def test_meshes_meet_the_outlines_of_masks_where_they_are_asked_to(reach: float) -> None:
    reconstruction = sphere_reconstruction(n_frames=2, scale=2.5, radius=0.3)
    centre = reconstruction.space.to_world(np.array([[0.5, 0.5, 0.5]]), 1)[0]
    cameras = [ring_of_cameras(centre, 6.0, 1, azimuth) for azimuth in (0.0, 1.6, 3.1, 4.7)]
    pixel = 6.0 / (1.6 * 64)
    found = trimesh.creation.icosphere(subdivisions=4, radius=0.75 + pixel)
    true = Mesh(np.asarray(found.vertices) + centre, np.asarray(found.faces))
    shape = (64, 64)
    reconstruction.outlines = lambda frame: [
        Outline(drawn_distances(c.project(true.vertices, 0)[0], true.faces, shape), c.projection(0))
        for c in cameras
    ]
    mesh = extract_mesh(reconstruction, 1, MeshingConfig(resolution=48, outline_reach=reach))
    grown = (np.linalg.norm(mesh.vertices - centre, axis=1) - 0.75) / pixel
    assert grown.mean() == pytest.approx(1.0 if reach else 0.0, abs=0.35)
    assert statistics(mesh).boundary_edges == 0


@pytest.mark.parametrize(("keep", "components"), [(0.02, 1), (0.0, 2)])
def test_floaters_below_the_threshold_go(keep: float, components: int) -> None:
    reconstruction = sphere_reconstruction(floater=True)
    mesh = extract_mesh(reconstruction, 0, MeshingConfig(resolution=48, keep_fraction=keep))
    assert statistics(mesh).components == components


@pytest.mark.parametrize(("keep", "shown", "components"), [(0.02, 2, 2), (1e-9, 1, 1), (0.0, 1, 2)])
def test_where_there_are_masks_parts_stay_that_they_show(keep, shown, components) -> None:
    reconstruction = sphere_reconstruction(floater=True)
    whole = extract_mesh(reconstruction, 0, MeshingConfig(resolution=48, keep_fraction=0.0))
    true = largest_components(whole, 0.0, count=shown)
    centre = whole.vertices.mean(0)
    cameras = [ring_of_cameras(centre, 6.0, 1, azimuth) for azimuth in (0.0, 1.6, 3.1, 4.7)]
    reconstruction.outlines = lambda frame: [
        Outline(
            drawn_distances(c.project(true.vertices, 0)[0], true.faces, (64, 64)), c.projection(0)
        )
        for c in cameras
    ]
    config = MeshingConfig(resolution=48, keep_fraction=keep)
    assert statistics(extract_mesh(reconstruction, 0, config)).components == components
    followed = coarse_surface(Surface(reconstruction, 0), config)  # by a tracked mesh
    assert statistics(followed).components == components
    one = replace(config, keep_largest=1)
    assert statistics(extract_mesh(reconstruction, 0, one)).components == 1


def test_level_swells_the_surface() -> None:
    mesh = extract_mesh(sphere_reconstruction(scale=1.0), 0, MeshingConfig(level=0.05))
    assert statistics(mesh).area == pytest.approx(4 * np.pi * 0.35**2, rel=1e-3)


def test_nothing_lies_outside_the_occupied_region() -> None:
    reconstruction = sphere_reconstruction(scale=1.0, floater=True)
    distances = reconstruction.occupancy.distances
    distances[:] = 1.0
    distances[:, 1:7, 1:7, 1:7] = -1.0
    config = MeshingConfig(resolution=48, keep_fraction=0.0, margin=0.0)
    assert statistics(extract_mesh(reconstruction, 0, config)).components == 1


def test_finished_frames_are_skipped(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction()
    files = export_meshes(reconstruction, tmp_path, COARSE)
    assert [path.name for path in files] == ["000003.ply", "000004.ply"]
    evaluations = reconstruction.field.n_evaluations
    content = [path.read_bytes() for path in files]
    assert export_meshes(reconstruction, tmp_path, COARSE) == files
    assert reconstruction.field.n_evaluations == evaluations
    files[1].unlink()
    export_meshes(reconstruction, tmp_path, COARSE)
    assert evaluations < reconstruction.field.n_evaluations < 2 * evaluations
    assert [path.read_bytes() for path in files] == content


def test_other_settings_or_weights_mesh_again(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction()
    export_meshes(reconstruction, tmp_path, MeshingConfig(resolution=48, formats=("obj", "ply")))
    for config, source in ((COARSE, "step 2"), (MeshingConfig(resolution=32), "step 2")):
        before = reconstruction.field.n_evaluations
        export_meshes(reconstruction, tmp_path, config, source)
        assert reconstruction.field.n_evaluations > before
    names = sorted(path.name for path in (tmp_path / "meshes").iterdir())
    assert names == ["000003.ply", "000004.ply"]


def test_another_format_joins_the_first(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction()
    export_meshes(reconstruction, tmp_path, COARSE)
    export_meshes(reconstruction, tmp_path, MeshingConfig(resolution=48, formats=("glb",)))
    row = json.loads((tmp_path / "manifest.json").read_text())["frames"][0]
    assert row["files"] == ["meshes/000003.glb", "meshes/000003.ply"]


def test_manifest_says_what_the_files_hold(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction()
    files = export_meshes(reconstruction, tmp_path, COARSE)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["units"] == "capture world units"
    np.testing.assert_array_equal(
        manifest["world_from_normalised"], reconstruction.world_from_normalised
    )
    for row, path in zip(manifest["frames"], files, strict=True):
        found = statistics(read_mesh(path))
        assert row["files"] == [f"meshes/{path.name}"]
        assert (row["n_vertices"], row["n_faces"]) == (found.n_vertices, found.n_faces)
        np.testing.assert_allclose(row["bounds"], found.bounds, atol=1e-5)
        assert row["boundary_edges"] == row["non_manifold_edges"] == 0


def test_chosen_frames_only(tmp_path: Path) -> None:
    config = MeshingConfig(resolution=32, frames="1:")
    assert [p.name for p in export_meshes(sphere_reconstruction(), tmp_path, config)] == [
        "000004.ply"
    ]


def test_empty_frames_are_named_after_the_others_are_done(tmp_path: Path) -> None:
    reconstruction = sphere_reconstruction(n_frames=3, empty=(1,))
    with pytest.raises(MeshingError, match=r"no surface in frames 4 \(1 of 3\)"):
        export_meshes(reconstruction, tmp_path, COARSE)
    assert len(list((tmp_path / "meshes").iterdir())) == 2


def test_interrupted_frame_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    reconstruction = sphere_reconstruction()
    with monkeypatch.context() as patch:
        patch.setattr(frame_jobs, "statistics", stop)
        with pytest.raises(KeyboardInterrupt):
            export_meshes(reconstruction, tmp_path, COARSE)
    files = export_meshes(reconstruction, tmp_path, COARSE)
    assert sorted((tmp_path / "meshes").iterdir()) == files
    assert all(statistics(read_mesh(path)).boundary_edges == 0 for path in files)


def test_secant_step_finds_the_zero_of_a_scaled_plane() -> None:
    positions = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 0.02
    normals = torch.tensor([[0.0, 0.0, 1.0]]).expand(50, 3)
    moved = secant_step(lambda x: 7.0 * (x[:, 2] - 0.01), positions, normals, 0.1)
    torch.testing.assert_close(moved[:, 2], torch.full((50,), 0.01))


def test_trilinear_is_exact_for_linear_grids() -> None:
    centres = (torch.arange(4) + 0.5) / 4
    x, y, z = torch.meshgrid(centres, centres, centres, indexing="ij")
    positions = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 0.7 + 0.15
    weights = torch.tensor([1.0, 2.0, -3.0])
    torch.testing.assert_close(trilinear(x + 2 * y - 3 * z, positions), positions @ weights)


@pytest.mark.parametrize("text", ["a:b", "::0", "9:", "0:99", "1:2:3:4"])
def test_bad_frames_are_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="meshing.frames: .*allowed: start:stop:stride within 0:3"):
        export_meshes(sphere_reconstruction(n_frames=3), tmp_path, MeshingConfig(frames=text))


@pytest.mark.parametrize(
    "wrong", [{"resolution": 8}, {"keep_fraction": 2.0}, {"keep_largest": -1}, {"formats": ()}]
)
def test_options_out_of_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"meshing.{next(iter(wrong))}"):
        MeshingConfig(**wrong)
