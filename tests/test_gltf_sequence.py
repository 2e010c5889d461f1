"""Laws of the GLB that plays frames: at a frame's time it is that frame, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from textured_ball import textured_ball

from resfields_ngp import gltf_sequence
from resfields_ngp.atlas import TexturedMesh
from resfields_ngp.gltf import coloured_glb, textured_glb
from resfields_ngp.gltf_sequence import TooLargeError, animated_glb
from resfields_ngp.mesh import Mesh
from resfields_ngp.sequences import SequenceConfig, open_sequence
from resfields_ngp.sequences.gltf import Gltf
from resfields_ngp.sequences.gltf_motion import Motion
from resfields_ngp.textured_files import encode_picture


def coloured(frame: int, n_frames: int = 4) -> Mesh:
    """Returns another mesh for each frame, the last one far from the origin."""
    ball = trimesh.creation.icosphere(subdivisions=frame % 3)
    vertices = np.asarray(ball.vertices) + [frame, 0, 0]
    if frame == n_frames - 1:
        vertices = vertices + [4e5, 5.2e6, 300.0]
    colours = np.random.default_rng(frame).integers(0, 256, vertices.shape).astype(np.uint8)
    return Mesh(vertices, np.asarray(ball.faces), np.asarray(ball.vertices), colours)


def textured(frame: int) -> tuple[TexturedMesh, bytes]:
    """Returns a textured ball, darker from frame to frame, and its GLB."""
    ball = textured_ball()
    ball = TexturedMesh(ball.mesh, ball.atlas, ball.texture // (1 + frame))
    mesh, uvs = ball.split()
    return ball, textured_glb(mesh, uvs, encode_picture(ball.texture, "png"), "png")


def played(frames: list[bytes], rate: float, folder: Path) -> Motion:
    path = folder / "animation.glb"
    path.write_bytes(animated_glb(frames, rate))
    return Motion.find(Gltf.open(path))


@pytest.mark.parametrize("rate", [12.0, 24.0, 25.0, 29.97, 30.0, 60.0])
def test_each_frame_is_alone_at_its_time_and_until_the_next(rate: float, tmp_path: Path) -> None:
    frames = [coloured(frame) for frame in range(4)]
    motion = played([coloured_glb(frame) for frame in frames], rate, tmp_path)
    assert motion.duration == pytest.approx(4 / rate)
    for index, frame in enumerate(frames):
        for time in (index / rate, (index + 0.99) / rate):
            found = motion.mesh(time)
            np.testing.assert_allclose(found.vertices, frame.vertices, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(found.faces, frame.faces)
            np.testing.assert_array_equal(found.colours, frame.colours)
    assert len(motion.mesh(100.0).vertices) == len(frames[-1].vertices)


def test_frames_that_it_plays_are_read_as_a_sequence(tmp_path: Path) -> None:
    played([coloured_glb(coloured(frame)) for frame in range(4)], 24.0, tmp_path)
    sequence = open_sequence(SequenceConfig(str(tmp_path / "animation.glb"), fps=24.0))
    counts = [sequence.read(index).n_faces for index in sequence.frame_numbers]
    assert counts == [coloured(frame).n_faces for frame in range(4)]


def test_textures_stay_with_their_frames(tmp_path: Path) -> None:
    balls = [textured(frame) for frame in range(3)]
    motion = played([content for _, content in balls], 10.0, tmp_path)
    for frame, (ball, _) in enumerate(balls):
        found = motion.mesh(frame / 10)
        (used,) = set(np.asarray(found.face_materials).tolist())
        np.testing.assert_array_equal(found.materials[used].texture, ball.texture)
        corners = ball.mesh.vertices[ball.mesh.faces]
        np.testing.assert_allclose(found.vertices[found.faces], corners, atol=1e-6)
        uvs = ball.atlas.uvs[ball.atlas.faces]
        np.testing.assert_allclose(found.corner_uvs, uvs, atol=1e-6)


def test_one_frame_does_not_move_and_an_empty_one_leaves_a_gap(tmp_path: Path) -> None:
    ball, empty = (
        coloured_glb(coloured(1)),
        coloured_glb(Mesh(np.zeros((0, 3)), np.zeros((0, 3), int))),
    )
    assert "animations" not in played([ball], 24.0, tmp_path).file.tree
    motion = played([ball, empty, ball], 1.0, tmp_path)
    assert motion.mesh(0.5).n_faces == motion.mesh(2.5).n_faces == coloured(1).n_faces
    with pytest.raises(ValueError, match="no triangles"):
        motion.mesh(1.5)


def test_without_playing_the_first_frame_is_seen(tmp_path: Path) -> None:
    motion = played([coloured_glb(coloured(frame)) for frame in (2, 1)], 24.0, tmp_path)
    assert Motion(motion.file, ()).mesh(0.0).n_faces == coloured(2).n_faces


def test_frames_that_are_too_many_are_refused(monkeypatch) -> None:
    content = coloured_glb(coloured(2))
    monkeypatch.setattr(gltf_sequence, "MOST_BYTES", 2 * len(content))
    animated_glb([content, content], 24.0)
    with pytest.raises(TooLargeError, match="--target-faces"):
        animated_glb(iter([content] * 3), 24.0)
