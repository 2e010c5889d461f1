"""One frame's mesh: isosurface, floaters dropped, outlines met, decimated, in world units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from .decimation import decimate, parse_target
from .floaters import needed_parts
from .frame_surface import Surface
from .isosurface import isosurface
from .manifold import as_manifold
from .mesh import Mesh, face_components, largest_components
from .outline_fitting import fit_outlines

if TYPE_CHECKING:
    from .reconstruction import Reconstruction
    from .surfaces import FittedSurfaces


@dataclass(frozen=True)
class MeshingConfig:
    """How surfaces are extracted and which of their parts are kept."""

    resolution: int = 256
    """Cells along the model box's side, 16 to 1024; memory grows with its cube: 0.6 GB at 512."""
    target_faces: str = "full"
    """Triangles left after decimation: full, or a number of 100 or more, such as 20k."""
    watertight: bool = False
    """Refuse frames whose mesh is not a closed 2-manifold; sheets that touch are parted first."""
    tracking: Literal["none", "group"] = "none"
    """group: frames in groups share their connectivity; the first one's mesh follows the field."""
    group_size: int = 20
    """Most frames of a group, 1 or more."""
    group_residual: float = 0.01
    """Distance between tracked mesh and surface above which a new group begins, model units."""
    formats: tuple[Literal["ply", "obj", "glb", "usd"], ...] = ("ply",)
    """File formats to write, any of ply (binary), obj, glb and, with a texture, usd."""
    animate: bool = False
    """Whether glb files are also joined to one that plays them, RUN/meshes.glb, or with a texture
    RUN/textured.glb."""
    frames: str = "::"
    """Frames to mesh, as start:stop:stride (or one number) over the frames that were fitted."""
    level: float = 0.0
    """How far outside the fitted surface to mesh, model units; positive swells it."""
    keep_fraction: float = 0.02
    """Components whose area is below this fraction of the largest one's are dropped, 0 to 1. Where
    meshes are fitted to masks those go that no mask needs, whatever their area; 0 keeps all."""
    keep_largest: int = 0
    """Keep at most so many components, the largest; 0 for no limit."""
    margin: float = 2.0
    """How far outside the occupied region the surface may lie, in cells of the occupancy grid."""
    refine: bool = True
    """Move vertices onto the field's own zero along its normals, by one secant step."""
    outline_reach: float = 4.0
    """Most pixels by which vertices move so that outlines meet the masks', where there are masks; 0
    leaves everything to the field."""
    colours: bool = True
    """Write vertex colours."""

    def __post_init__(self) -> None:
        if not 16 <= self.resolution <= 1024:
            raise ValueError(f"meshing.resolution is {self.resolution}; allowed: 16 to 1024")
        if not 0 <= self.keep_fraction <= 1:
            raise ValueError(f"meshing.keep_fraction is {self.keep_fraction}; allowed: 0 to 1")
        if not 0 <= self.outline_reach <= 16:
            raise ValueError(f"meshing.outline_reach is {self.outline_reach}; allowed: 0 to 16")
        if self.keep_largest < 0:
            raise ValueError(f"meshing.keep_largest is {self.keep_largest}; allowed: 0 or more")
        if not self.formats:
            raise ValueError("meshing.formats is empty; give at least one of ply, obj, glb, usd")
        if self.animate and "glb" not in self.formats:
            raise ValueError(
                f"meshing.animate joins glb files, and meshing.formats is {','.join(self.formats)};"
                " add glb"
            )
        if self.group_size < 1:
            raise ValueError(f"meshing.group_size is {self.group_size}; allowed: 1 or more")
        if self.group_residual <= 0:
            raise ValueError(f"meshing.group_residual is {self.group_residual}; allowed: above 0")
        parse_target(self.target_faces)

    @property
    def wanted_faces(self) -> int:
        """Triangles wanted of a frame; 0 for all."""
        return parse_target(self.target_faces)


def extract_mesh(
    reconstruction: Reconstruction | FittedSurfaces, frame: int, config: MeshingConfig
) -> Mesh:
    """Extracts one frame's surface in world units, decimated; empty if the field has none.

    Args:
        reconstruction: What was fitted.
        frame: Index of the frame among those fitted.
        config: How.
    """
    surface = Surface(reconstruction, frame, config.level, config.margin)
    mesh = kept_surface(surface, config)
    if mesh.n_faces == 0:
        return mesh
    mesh = decimate(outlined(surface, mesh, config.outline_reach), config.wanted_faces)
    return surface.dressed(as_manifold(mesh) if config.watertight else mesh, config.colours)


def kept_surface(surface: Surface, config: MeshingConfig) -> Mesh:
    """Returns the field's own surface at a frame, model space, without floaters and cavities."""
    outside = surface.outside if surface.is_bounded else None
    vertices, faces = isosurface(surface.values, config.resolution, outside)
    mesh = _kept(surface, Mesh(vertices, faces), config)
    if config.refine and mesh.n_faces:
        mesh = replace(mesh, vertices=surface.refined(mesh.vertices, 1 / config.resolution))
    return mesh


def outlined(surface: Surface, mesh: Mesh, reach: float) -> Mesh:
    """Returns a frame's mesh, model space, with outlines that meet the masks' as `fit_outlines`."""
    if reach == 0 or not surface.outlines:
        return mesh
    moved = fit_outlines(_in_world(surface, mesh), surface.outlines, reach)
    return replace(mesh, vertices=surface.space.to_model(moved, surface.frame))


def _kept(surface: Surface, mesh: Mesh, config: MeshingConfig) -> Mesh:
    """Returns what is left of a mesh, model space, without floaters and unseen cavities."""
    if config.outline_reach == 0 or config.keep_fraction == 0 or not surface.outlines:
        return largest_components(mesh, config.keep_fraction, config.keep_largest)
    mesh = largest_components(mesh, 0.0)
    numbers = face_components(mesh)
    n_parts = numbers.max(initial=-1) + 1
    if n_parts < 2:
        return mesh
    world = _in_world(surface, mesh)
    parts = [world.subset(numbers == part) for part in range(n_parts)]
    needed = needed_parts(parts, surface.outlines)
    return largest_components(mesh.subset(needed[numbers]), 0.0, config.keep_largest)


def _in_world(surface: Surface, mesh: Mesh) -> Mesh:
    return replace(mesh, vertices=surface.space.to_world(mesh.vertices, surface.frame))
