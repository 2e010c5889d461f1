"""Laws of registration: derivatives are right, rigid is free, and bent bars find their bends."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation
from test_deformation_graph import ball

from resfields_ngp.deformation_graph import DeformationGraph, Pose
from resfields_ngp.matching import Pairs
from resfields_ngp.mesh import Mesh
from resfields_ngp.registration import (
    FOLLOW,
    SEARCH,
    Registration,
    Target,
    pair_rows,
    stiff_rows,
)


def some_pose(graph: DeformationGraph, size: float, seed: int = 0) -> Pose:
    """Returns nodes moved at random."""
    generator = np.random.default_rng(seed)
    turns, shifts = size * generator.standard_normal((2, graph.n_nodes, 3))
    return Pose.rest(graph.n_nodes).moved(turns, shifts)


def test_derivatives_agree_with_differences() -> None:
    graph = DeformationGraph(ball(), 0.1)
    generator = np.random.default_rng(1)
    vertices = generator.integers(0, 642, 20)
    normals = generator.standard_normal((20, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    pairs = Pairs(vertices, generator.standard_normal((20, 3)), normals, generator.random(20))
    pose, step = some_pose(graph, 0.3), 1e-6
    change = step * generator.standard_normal((2, graph.n_nodes, 3))
    moved = pose.moved(*change)
    flat = np.concatenate(change, axis=1).ravel()
    rows, misses = pair_rows(graph, pose, pairs, 0.3)
    difference = pair_rows(graph, moved, pairs, 0.3)[1] - misses
    np.testing.assert_allclose(rows @ flat, difference, atol=1e-4 * step)
    rows, strains = stiff_rows(graph, pose)
    difference = stiff_rows(graph, moved)[1] - strains
    # The last third compares turns, where the derivative is that of nodes turned alike.
    pulls = len(strains) // 2
    np.testing.assert_allclose((rows @ flat)[:pulls], difference[:pulls], atol=1e-4 * step)


def test_rigid_motion_is_free() -> None:
    graph = DeformationGraph(ball(), 0.1)
    turn = Rotation.from_rotvec([0.3, -0.5, 0.9])
    shifts = turn.apply(graph.places) + [0.1, 0.2, 0.3] - graph.places
    pose = Pose.rest(graph.n_nodes).moved(np.tile(turn.as_rotvec(), (graph.n_nodes, 1)), shifts)
    np.testing.assert_allclose(stiff_rows(graph, pose)[1], 0, atol=1e-12)
    assert np.abs(stiff_rows(graph, some_pose(graph, 0.1))[1]).max() > 1e-3


def bar(bend: float) -> Mesh:
    """Returns a bar along z, 0.6 long and 0.1 thick, whose far half is bent by an angle, radians.

    Its vertices correspond for all angles.
    """
    found = trimesh.creation.capsule(height=0.5, radius=0.05, count=(16, 16))
    found = found.subdivide_to_size(0.03)
    vertices = np.asarray(found.vertices).copy()
    # An arc of constant length: the angle grows with z beyond the middle.
    along = np.clip(vertices[:, 2], 0, 0.1) / 0.1 * bend
    turns = Rotation.from_rotvec(along[:, None] * [1, 0, 0])
    return Mesh(turns.apply(vertices), np.asarray(found.faces))


def test_a_bar_follows_its_bend() -> None:
    straight, bent = bar(0.0), bar(0.7)
    registration = Registration(straight, 0.06)
    rest = Pose.rest(registration.graph.n_nodes)
    pose = registration.laid(rest, Target(bent), SEARCH)
    apart = np.linalg.norm(registration.graph.posed(pose) - bent.vertices, axis=1)
    before = np.linalg.norm(straight.vertices - bent.vertices, axis=1)
    # The tip goes by three times its thickness; around the bar nothing shows how it turned.
    assert before.max() > 0.15
    assert np.median(apart) < 0.01
    assert np.percentile(apart, 99) < 0.03
    again = registration.laid(pose, Target(bent), FOLLOW)
    moved = registration.graph.posed(again) - registration.graph.posed(pose)
    assert np.linalg.norm(moved, axis=1).max() < 0.01
