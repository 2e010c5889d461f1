"""COLMAP: a sparse reconstruction of a rig of synchronised cameras.

Pixel centres are at +0.5 and cameras have OpenCV's axes there as here; poses are stored from world
to camera. The world is the reconstruction's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...datasets.base import CaptureError
from ...datasets.selection import frame_order
from ...extras import required
from .base import (
    Footage,
    FootageView,
    checked_views,
    count_frames,
    files_of,
    folder_in_use,
    names_in,
    pose_of,
)

MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0")
STILL = 5e-3
"""What poses of a camera that stands still may differ by: of the rig's size, and radians.

Twice what bundle adjustment leaves between images with a hundred features off by 2 pixels."""

_PINHOLE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_FISHEYE = (
    "OPENCV_FISHEYE",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "SIMPLE_FISHEYE",
    "FISHEYE",
)


@dataclass(frozen=True)
class _Shot:
    """One image of the reconstruction."""

    path: PurePosixPath
    """Its name there."""
    camera: Any
    """pycolmap's camera."""
    pose: np.ndarray
    """(4, 4) `world_from_camera`."""

    @property
    def view(self) -> str:
        """The camera's name: the image's folder, or the image's own without one."""
        return self.path.parent.name or self.path.stem


def read_colmap(root: Path, images: str, masks: str) -> Footage:
    """Reads COLMAP's ``cameras`` and ``images`` (.bin or .txt) in one of `MODEL_FOLDERS`.

    A camera is called as its image's folder (``cam03/000000.png``), or as its image
    (``cam03.png``). Where it stands still, the pose of its first image is its own; where it moves,
    there has to be a pose for every frame.

    Args:
        root: The folder that has the model's folder in it.
        images: Folder of the cameras' folders or videos; empty: ``images``, or ``videos`` where
            that has none.
        masks: Folder of the masks' folders; empty: ``masks`` or ``mask``.

    Raises:
        CaptureError: The model is damaged, a lens cannot be straightened, a camera moves and has
            other numbers of poses and frames, or no camera has footage.
        ImportError: pycolmap is not installed.
    """
    model, remarks = _model_folder(root)
    shots = _read_shots(model)
    size = float(np.linalg.norm(np.ptp([shot.pose[:3, 3] for shot in shots], axis=0)))
    cameras: dict[str, list[_Shot]] = {}
    for shot in sorted(shots, key=lambda shot: (shot.view, frame_order(Path(shot.path)))):
        cameras.setdefault(shot.view, []).append(shot)
    folder = images or folder_in_use(root, "images", "videos")
    masks = masks or folder_in_use(root, "masks", "mask")
    views = []
    for name in sorted(cameras, key=lambda name: frame_order(Path(name))):
        stored, cut_out = files_of(root, name, folder, masks)
        if stored:
            view = replace(_view(name, cameras[name], model), images=stored, masks=cut_out)
            views.append(replace(view, poses=_poses(cameras[name], view, size, model)))
    if not views:
        raise CaptureError(
            f"{root / folder}: no footage of the cameras in {model} ({_listed(cameras)}); expected "
            "a folder of images or a video of that name for each; --footage.images names another"
        )
    without = {
        "pose": [name for name in names_in(root / folder) if name not in cameras],
        "footage": sorted(set(cameras) - {view.name for view in views}),
    }
    for what, names in without.items():
        if names:
            remarks.append(f"{model}: no {what} of {_listed(names)}; left out")
    return Footage(checked_views(views, root / folder), {}, tuple(remarks))


def _model_folder(root: Path) -> tuple[Path, list[str]]:
    """Returns the folder of the model, and what to say of it."""
    for each in MODEL_FOLDERS:
        folder = root / each
        for kind in ("bin", "txt"):
            if not (folder / f"cameras.{kind}").is_file():
                continue
            for name in ("images", "points3D"):
                if not (folder / f"{name}.{kind}").is_file():
                    raise CaptureError(
                        f"{folder}: no {name}.{kind} beside cameras.{kind}; COLMAP's model has "
                        "cameras, images and points3D (without points, points3D.txt is empty, and "
                        "points3D.bin is eight zero bytes)"
                    )
            others = [path.name for path in folder.parent.iterdir() if path.name.isdecimal()]
            if folder.name == "0" and len(others) > 1:
                return folder, [f"{folder.parent}: {len(others)} models; 0 is read"]
            return folder, []
    raise CaptureError(
        f"{root}: no COLMAP model; expected cameras.bin or cameras.txt in one of "
        f"{', '.join(MODEL_FOLDERS)}"
    )


def _read_shots(model: Path) -> list[_Shot]:
    """Returns the images that have a pose."""
    pycolmap = required("pycolmap")
    try:
        read = pycolmap.Reconstruction(str(model))
        stored = [
            (image.name, read.cameras[image.camera_id], image.cam_from_world())
            for image in (read.images[each] for each in read.reg_image_ids())
        ]
    except (ValueError, LookupError, RuntimeError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "cut off"
        raise CaptureError(f"{model}: not a COLMAP model ({reason}); copy it again") from None
    if not stored:
        raise CaptureError(f"{model}: no image with a pose; COLMAP registered none")
    shots = []
    for name, camera, camera_from_world in stored:
        world_from_camera = camera_from_world.inverse()
        pose = pose_of(world_from_camera.rotation.matrix(), world_from_camera.translation)
        shots.append(_Shot(PurePosixPath(name), camera, pose))
    return shots


def _view(name: str, shots: Sequence[_Shot], model: Path) -> FootageView:
    """Returns a camera without its footage and its poses."""
    first = shots[0].camera
    for shot in shots:
        other = shot.camera
        if (other.model, other.width, other.height) != (
            first.model,
            first.width,
            first.height,
        ) or not np.allclose(other.params, first.params):
            raise CaptureError(
                f"{model}: images of {name} have lenses that differ ({shots[0].path.name}, "
                f"{shot.path.name}); expected one; COLMAP's feature_extractor makes one with "
                "--ImageReader.single_camera_per_folder 1"
            )
    intrinsics, distortion, is_fisheye = _lens(first, f"{model}: {name}")
    size = first.width, first.height
    return FootageView(
        name, (), None, intrinsics[None], np.eye(4)[None], *size, distortion, is_fisheye
    )


def _lens(camera: Any, where: str) -> tuple[np.ndarray, tuple[float, ...], bool]:
    """Returns the intrinsics, the distortion, and whether it is the fisheye's, as a `Lens` has."""
    model = camera.model.name
    if model not in (*_PINHOLE, *_FISHEYE):
        raise CaptureError(
            f"{where}: its lens is {model}; allowed: {', '.join((*_PINHOLE, *_FISHEYE))}; "
            "calibrate with --ImageReader.camera_model OPENCV, or straighten with colmap "
            "image_undistorter and pass its images/ and sparse/"
        )
    values = dict(zip(camera.params_info.split(", "), camera.params, strict=True))
    focal_x, focal_y = (values.get(key, values.get("f", 0.0)) for key in ("fx", "fy"))
    if not np.isfinite(camera.params).all() or min(focal_x, focal_y) <= 0:
        raise CaptureError(f"{where}: {camera.params_to_string()} is no lens; run COLMAP again")
    intrinsics = np.array([[focal_x, 0, values["cx"]], [0, focal_y, values["cy"]], [0, 0, 1]])
    values["k1"] = values.get("k1", values.get("k", 0.0))
    if model in _FISHEYE:
        keys = ("k1", "k2", "k3", "k4")
        return intrinsics, tuple(float(values.get(key, 0.0)) for key in keys), True
    keys = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    distortion = tuple(float(values.get(key, 0.0)) for key in keys)
    if not any(distortion):
        return intrinsics, (), False
    return intrinsics, distortion if any(distortion[5:]) else distortion[:5], False


def _poses(shots: Sequence[_Shot], view: FootageView, size: float, model: Path) -> np.ndarray:
    """Returns the one pose of a camera that stands still, or one for each frame."""
    poses = np.stack([shot.pose for shot in shots])
    shift = float(np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1).max())
    chords = np.linalg.norm(poses[:, :3, :3] - poses[0, :3, :3], axis=(1, 2)) / np.sqrt(8)
    turn, shift = float(2 * np.arcsin(chords.clip(0, 1).max())), shift / max(size, 1e-12)
    if shift <= STILL and turn <= STILL:
        return poses[:1]
    row_of_image = {shot.path.stem: row for row, shot in enumerate(shots)}
    if not view.is_video and all(path.stem in row_of_image for path in view.images):
        return poses[[row_of_image[path.stem] for path in view.images]]
    n_frames = count_frames(view)
    if len(poses) != n_frames:
        raise CaptureError(
            f"{model}: {view.name} has {len(poses)} poses for {n_frames} frames, which differ by "
            f"{100 * shift:.1f} % of the rig's size and {np.degrees(turn):.1f} degrees; "
            "expected one pose, or one for every frame. Of a rig that stands still, give COLMAP "
            "one image a camera"
        )
    return poses


def _listed(names: Iterable[str]) -> str:
    """Returns the first few names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - 4} more" if len(known) > 4 else ""
    return ", ".join(known[:4]) + more
