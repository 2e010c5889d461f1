"""Laws of other programs: what they read of an export is what was written. Each needs an extra."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from textured_ball import SIZE, ball, textured_ball

from resfields_ngp.textured_files import write_textured

VALIDATE = """
const validator = require('gltf-validator');
const content = new Uint8Array(require('fs').readFileSync(process.argv[1]));
validator.validateBytes(content).then(found => console.log(JSON.stringify(found.issues)));
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the path without suffix of the ball's files."""
    base = tmp_path_factory.mktemp("readers") / "ball_00000001"
    write_textured(textured_ball(), base, ("obj", "glb"), "png")
    return base


def test_pymeshlab_finds_a_textured_two_manifold(base: Path) -> None:
    pymeshlab = pytest.importorskip("pymeshlab", exc_type=ImportError)
    meshes = pymeshlab.MeshSet()
    meshes.load_new_mesh(f"{base}.obj")
    mesh = meshes.current_mesh()
    assert mesh.face_number() == ball()[0].n_faces
    assert mesh.has_wedge_tex_coord() and mesh.texture_number() == 1
    found = meshes.get_topological_measures()
    assert found["is_mesh_two_manifold"] and found["boundary_edges"] == 0


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_open3d_reads_triangles_and_texture(base: Path, suffix: str) -> None:
    open3d = pytest.importorskip("open3d", exc_type=ImportError)
    mesh = open3d.io.read_triangle_mesh(f"{base}.{suffix}", True)
    assert len(mesh.triangles) == ball()[0].n_faces and mesh.has_triangle_uvs()
    assert np.asarray(mesh.textures[-1]).shape[:2] == (SIZE, SIZE)


def test_the_khronos_validator_has_no_complaint(base: Path) -> None:
    """Needs ``npm install gltf-validator`` where node looks for it (NODE_PATH)."""
    if shutil.which("node") is None:
        pytest.skip("no node")
    command = ["node", "-e", VALIDATE, f"{base}.glb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "Cannot find module" in done.stderr:
        pytest.skip("no gltf-validator")
    found = json.loads(done.stdout)
    assert found["numErrors"] == found["numWarnings"] == 0, found["messages"]
