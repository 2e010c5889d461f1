"""What the meshes of a sequence are like: size, holes, parts, repairs; told, never a failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..mesh import Mesh, distinct_edges, face_components
from ..sequences import MeshSequence, TexturedMesh


@dataclass(frozen=True)
class FrameSurvey:
    """What a frame's mesh is like, in the file's own unit, after welding equal positions."""

    number: int
    """The file's own number."""
    vertices: int
    """Distinct positions."""
    faces: int
    """Triangles."""
    bounds: list[list[float]]
    """The lowest and the highest corner."""
    components: int
    """Parts that share no edge."""
    boundary_edges: int
    """Edges of one triangle only."""
    holes: int
    """Rims of such edges that hang together."""
    non_manifold_edges: int
    """Edges of more than two triangles."""
    notes: list[str]
    """What was repaired on reading."""

    @staticmethod
    def from_table(table: dict[str, Any]) -> FrameSurvey:
        """Returns a survey that was stored as JSON."""
        return FrameSurvey(**table)

    def to_table(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return asdict(self)

    def height(self, up: str) -> float:
        """Returns how tall the figure is along an axis, y or z."""
        axis = "xyz".index(up)
        return self.bounds[1][axis] - self.bounds[0][axis]


@dataclass(frozen=True)
class SurveyJob:
    """A frame to look at."""

    sequence: MeshSequence
    """Which sequence."""
    index: int
    """Position in it."""


def survey_frame(job: SurveyJob) -> FrameSurvey:
    """Reads a frame and looks at it.

    Raises:
        SequenceError: It cannot be read.
    """
    mesh = job.sequence.read(job.index)
    return survey_mesh(mesh, job.sequence.frame_numbers[job.index])


def survey_mesh(mesh: TexturedMesh, number: int) -> FrameSurvey:
    """Returns what a mesh is like."""
    used = np.unique(mesh.faces)
    positions, places = np.unique(mesh.vertices[used], axis=0, return_inverse=True)
    row_of = np.zeros(len(mesh.vertices), np.int64)
    row_of[used] = places.reshape(-1)
    welded = Mesh(positions, row_of[mesh.faces])
    edges, counts = distinct_edges(welded.faces, len(welded.vertices))
    rims = edges[counts == 1]
    return FrameSurvey(
        number=number,
        vertices=len(positions),
        faces=mesh.n_faces,
        bounds=[positions.min(axis=0).tolist(), positions.max(axis=0).tolist()],
        components=int(face_components(welded).max(initial=-1)) + 1,
        boundary_edges=len(rims),
        holes=_count_rims(rims),
        non_manifold_edges=int((counts > 2).sum()),
        notes=list(mesh.notes),
    )


def _count_rims(edges: np.ndarray) -> int:
    if len(edges) == 0:
        return 0
    corners, numbers = np.unique(edges, return_inverse=True)
    # A rim is a part of the graph of its edges; triangles with a doubled corner are such edges.
    lines = numbers.reshape(-1, 2)[:, [0, 1, 1]]
    return int(face_components(Mesh(np.zeros((len(corners), 3)), lines)).max()) + 1


def describe(surveys: Sequence[FrameSurvey]) -> list[str]:
    """Returns lines on all frames together: counts as ranges, repairs with their frames."""
    lines = [
        f"{_range(surveys, 'faces')} triangles, {_range(surveys, 'vertices')} vertices a frame",
        f"components {_range(surveys, 'components')}, holes {_range(surveys, 'holes')} "
        f"({_range(surveys, 'boundary_edges')} open edges), "
        f"non-manifold edges {_range(surveys, 'non_manifold_edges')}",
    ]
    frames_of: dict[str, list[int]] = {}
    for each in surveys:
        for note in each.notes:
            frames_of.setdefault(note, []).append(each.number)
    for note, numbers in list(frames_of.items())[:20]:
        where = "all frames" if len(numbers) == len(surveys) else f"frame {numbers[0]}"
        more = f" and {len(numbers) - 1} more" if 1 < len(numbers) < len(surveys) else ""
        lines.append(f"{where}{more}: {note}")
    if len(frames_of) > 20:
        lines.append(f"and {len(frames_of) - 20} more repairs; capture.json has them all")
    return lines


def _range(surveys: Sequence[FrameSurvey], name: str) -> str:
    values = [getattr(each, name) for each in surveys]
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"
