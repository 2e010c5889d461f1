"""The colours of a textured mesh where rays meet it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..sequences import TexturedMesh
from .textures import MipTexture, covered_texels


@dataclass(frozen=True)
class Hits:
    """Where N rays of one camera meet a mesh."""

    triangles: np.ndarray
    """(N,) which triangle."""
    points: np.ndarray
    """(N, 3) world."""
    steps: np.ndarray
    """(N, 3, 2) how the point moves from sample to sample, across and down, on its plane."""
    facing: np.ndarray
    """(N,) +1 where the front is seen, -1 for the back."""


class _Chart:
    """A texture and what lies in it, equal where their bytes are."""

    def __init__(self, texture: np.ndarray, corner_uvs: np.ndarray | None) -> None:
        self.texture, self.corner_uvs = texture, corner_uvs
        digest = hashlib.blake2b(texture.tobytes(), digest_size=16)
        digest.update(b"" if corner_uvs is None else corner_uvs.tobytes())
        self._key = (texture.shape, digest.digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Chart) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=2)
def _pyramid(chart: _Chart) -> MipTexture:
    """Returns a texture's levels; animations show the same texture in every frame."""
    covered = None
    if chart.corner_uvs is not None:
        height, width = chart.texture.shape[:2]
        covered = covered_texels(chart.corner_uvs, width, height)
    return MipTexture.build(chart.texture, covered)


class ShadedMesh:
    """A textured mesh in world units, ready to be looked up.

    Args:
        mesh: Its vertices in world units.
        lamp: (3,) unit vector towards a lamp at infinity; None leaves the colours as they are.
        ambient: Share of light that comes from everywhere, in [0, 1].
    """

    def __init__(self, mesh: TexturedMesh, lamp: np.ndarray | None, ambient: float) -> None:
        self.mesh = mesh
        corners = mesh.vertices[mesh.faces]
        self.origins = corners[:, 0]
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        self.crosses = np.cross(first, second)
        squares = np.einsum("fi,fi->f", self.crosses, self.crosses)[:, None]
        # The weights of corners 1 and 2 at a point p are (p - corner 0) times these.
        self._gradients = np.stack(
            [np.cross(second, self.crosses) / squares, np.cross(self.crosses, first) / squares], 1
        )
        self.normals = self.crosses / np.sqrt(squares)
        self._lamp, self._ambient = lamp, ambient
        self._textures = [self._mips(number) for number in range(len(mesh.materials))]

    @property
    def n_without_uv(self) -> int:
        """Faces whose material has a texture, but which have no place in it."""
        bare = np.ones(self.mesh.n_faces, bool)
        if self.mesh.corner_uvs is not None:
            bare = np.isnan(self.mesh.corner_uvs).any(axis=(1, 2))
        textured = np.array([material.texture is not None for material in self.mesh.materials])
        return int((bare & textured[self._face_materials]).sum())

    @property
    def _face_materials(self) -> np.ndarray:
        made_of = self.mesh.face_materials
        return np.zeros(self.mesh.n_faces, np.int64) if made_of is None else made_of

    def _mips(self, number: int) -> MipTexture | None:
        texture, uvs = self.mesh.materials[number].texture, self.mesh.corner_uvs
        if texture is None:
            return None
        mine = None if uvs is None else uvs[self._face_materials == number]
        return _pyramid(_Chart(texture, mine))

    def colours(self, hits: Hits) -> np.ndarray:
        """Returns (N, 3) sRGB in [0, 255]: texture, vertex colour or material, times the light."""
        made_of = self._face_materials[hits.triangles]
        colours = np.empty((len(made_of), 3), np.float32)
        for number in np.unique(made_of):
            rows = np.flatnonzero(made_of == number)
            part = Hits(
                hits.triangles[rows], hits.points[rows], hits.steps[rows], hits.facing[rows]
            )
            colours[rows] = self._unlit(int(number), part)
        if self._lamp is not None:
            light = hits.facing * (self.normals @ self._lamp)[hits.triangles]
            light = self._ambient + (1 - self._ambient) * np.maximum(light, 0)
            colours *= light[:, None].astype(np.float32)
        return colours

    def _unlit(self, number: int, hits: Hits) -> np.ndarray:
        mips = self._textures[number]
        gradients = self._gradients[hits.triangles]
        away = hits.points - self.origins[hits.triangles]
        weights = np.einsum("nki,ni->nk", gradients, away)
        if mips is None:
            return self._plain(number, hits.triangles, weights)
        if self.mesh.corner_uvs is None:
            return np.broadcast_to(mips.mean(), (len(weights), 3))
        corners = self.mesh.corner_uvs[hits.triangles]
        edges = corners[:, 1:] - corners[:, :1]
        uvs = corners[:, 0] + np.einsum("nk,nku->nu", weights, edges)
        footprints = np.einsum("nku,nki,nis->nus", edges, gradients, hits.steps, optimize=True)
        bare = np.isnan(uvs).any(axis=1)
        if not bare.any():
            return mips.sample(uvs, footprints)
        colours = np.tile(mips.mean(), (len(uvs), 1))
        colours[~bare] = mips.sample(uvs[~bare], footprints[~bare])
        return colours

    def _plain(self, number: int, triangles: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Returns the colours of vertices, or of the material where vertices have none."""
        if self.mesh.colours is None:
            plain = 255 * np.array(self.mesh.materials[number].colour, np.float32)
            return np.broadcast_to(plain, (len(weights), 3))
        corners = self.mesh.colours[self.mesh.faces[triangles]].astype(np.float64)
        edges = corners[:, 1:] - corners[:, :1]
        return corners[:, 0] + np.einsum("nk,nku->nu", weights, edges)
