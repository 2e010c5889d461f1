"""The ResFields layout ("Owlii captures"): a folder a camera, one image a frame, per-frame cameras.

    ROOT/<camera>/rgb/*.png              8-bit RGB, or RGBA: alpha is the mask without mask/
    ROOT/<camera>/mask/*.png             optional; any value above 0 is the subject
    ROOT/<camera>/depth/*.png            optional; uint16, 1000 times the distance along the ray
    ROOT/<camera>/cameras_sphere.npz     world_mat_<i>, scale_mat_<i>: 4x4, one a frame
    ROOT/cloud/*.ply, ROOT/aabb.txt      optional; points and box in the normalised space

``world_mat`` takes world points to pixels and gives the cameras; ``scale_mat`` takes normalised
points to the world. The official loader decomposes their product and so works in normalised units;
here cameras stay in world units.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cameras import Cameras, decompose_projection
from .base import Capture, CaptureConfig, CaptureError, View, check_masks
from .images import list_images, read_depth, read_mask, read_rgb_stack, read_stack
from .selection import count_alike, frame_order, select_cameras, select_frames

CAMERA_FILES = ("cameras_sphere.npz", "cameras.npz")


@dataclass(frozen=True)
class CameraFile:
    """The matrices of one camera file."""

    path: Path
    """The npz file."""
    world_mats: np.ndarray
    """(n, 3, 4) float64, world to pixels."""
    scale_mats: np.ndarray
    """(n, 4, 4) float64 similarities, normalised to world."""
    numbers: tuple[int, ...]
    """What each frame's matrices are called in the file."""

    def cameras(self, frames: Sequence[int], width: int, height: int) -> Cameras:
        """Returns the cameras of some of its frames, in world units.

        Raises:
            CaptureError: A matrix is singular or has a mirror in it.
        """
        parts = []
        for frame in frames:
            try:
                parts.append(decompose_projection(self.world_mats[frame]))
            except ValueError as error:
                key = f"world_mat_{self.numbers[frame]}"
                raise CaptureError(f"{self.path}: {key}: {error}") from error
        intrinsics, poses = (np.stack(part) for part in zip(*parts, strict=True))
        return Cameras(intrinsics, poses, width, height)


def load_owlii(config: CaptureConfig) -> Capture:
    """Loads a capture in the ResFields layout.

    Raises:
        CaptureError: Something is missing, damaged or does not fit; one line that names the file.
    """
    root = Path(config.path)
    folders = camera_folders(root)
    names = [folder.name for folder in folders]
    training, test = select_cameras(names, config, str(root))
    n_frames = _count_frames(root, [*training, *([test] if test else [])])
    frames = select_frames(config.frames, n_frames, str(root))
    files = {
        name: read_camera_file(find_camera_file(root / name), n_frames)
        for name in (*training, *([test] if test else []))
    }
    views = tuple(_load_view(root / name, files[name], frames, config) for name in training)
    held_out = _load_view(root / test, files[test], frames, config, True) if test else None
    clouds, notes = _find_clouds(root, n_frames, frames)
    return Capture(
        name=root.resolve().name,
        views=views,
        test_view=held_out,
        frame_numbers=tuple(frames),
        world_from_normalised=common_scale_mat(files.values()),
        bounds=read_bounds(root / "aabb.txt"),
        clouds=clouds,
        warnings=(
            *check_masks(views, held_out, frames, str(root)),
            *_misnumbered(root, list(files)),
            *notes,
        ),
    )


def camera_folders(root: Path) -> list[Path]:
    """Returns the folders of a capture that hold a camera's images, sorted by name.

    Raises:
        CaptureError: The capture does not exist, or has none.
    """
    if not root.is_dir():
        raise CaptureError(f"{root}: no such folder; pass the folder of a capture")
    folders = sorted(
        path
        for path in root.iterdir()
        if (path / "rgb").is_dir() or (path / CAMERA_FILES[0]).is_file()
    )
    if not folders:
        raise CaptureError(
            f"{root}: no camera folders; expected <camera>/rgb/*.png and "
            "<camera>/cameras_sphere.npz"
        )
    return folders


def find_camera_file(folder: Path) -> Path:
    """Returns the camera file of a folder.

    Raises:
        CaptureError: It has none.
    """
    for name in CAMERA_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CaptureError(f"{folder}: no camera file; expected {' or '.join(CAMERA_FILES)}")


def read_camera_file(path: Path, n_frames: int) -> CameraFile:
    """Reads ``world_mat_<i>`` and ``scale_mat_<i>`` of `n_frames` frames.

    i counts from 0; where there are as many matrices as frames, their order counts instead, so that
    a sequence cut from a longer one may keep its numbers.

    Raises:
        CaptureError: The file is unreadable, lacks a matrix, or one is not finite, not 4x4 or, for
            ``scale_mat``, not a similarity.
    """
    try:
        with np.load(path) as stored:
            matrices = {key: stored[key].astype(np.float64) for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CaptureError(f"{path}: not a readable npz file ({error}); copy it again") from error
    found = sorted(int(key[10:]) for key in matrices if re.fullmatch(r"world_mat_\d+", key))
    numbers = tuple(found if len(found) == n_frames else range(n_frames))
    world_mats = np.empty((n_frames, 3, 4))
    scale_mats = np.empty((n_frames, 4, 4))
    for frame, number in enumerate(numbers):
        world_mats[frame] = _matrix(path, matrices, f"world_mat_{number}", n_frames)[:3]
        scale_mats[frame] = _matrix(path, matrices, f"scale_mat_{number}", n_frames)
        _check_similarity(scale_mats[frame], f"{path}: scale_mat_{number}")
    return CameraFile(path, world_mats, scale_mats, numbers)


def _matrix(path: Path, matrices: dict[str, np.ndarray], key: str, n_frames: int) -> np.ndarray:
    if key not in matrices:
        kind = key.rsplit("_", 1)[0]
        n_found = sum(name.startswith(f"{kind}_") and "inv" not in name for name in matrices)
        raise CaptureError(
            f"{path}: no {key}; it has {n_found} {kind} matrices for {n_frames} images, "
            "expected one each"
        )
    matrix = matrices[key]
    if matrix.shape not in ((4, 4), (3, 4)) or (key.startswith("scale") and len(matrix) < 4):
        raise CaptureError(f"{path}: {key} has shape {matrix.shape}; expected (4, 4)")
    if not np.isfinite(matrix).all():
        raise CaptureError(f"{path}: {key} has NaN or infinite entries; expected finite numbers")
    return matrix


def _check_similarity(matrix: np.ndarray, what: str) -> None:
    square = matrix[:3, :3].T @ matrix[:3, :3]
    scale = np.trace(square) / 3
    if scale <= 0 or np.linalg.det(matrix[:3, :3]) <= 0:
        raise CaptureError(f"{what} is singular or mirrored; expected a scale above 0")
    even = np.allclose(square, scale * np.eye(3), atol=1e-4 * scale)
    if not even or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise CaptureError(f"{what} is not a similarity; expected one scale for all axes")


def common_scale_mat(files: Iterable[CameraFile]) -> np.ndarray:
    """Returns the (4, 4) ``scale_mat`` that all frames of all camera files share.

    Raises:
        CaptureError: They differ, so that no one normalised space belongs to the capture.
    """
    files = list(files)
    shared = files[0].scale_mats[0]
    for file in files:
        differences = np.abs(file.scale_mats - shared).max(axis=(1, 2))
        worst = int(differences.argmax())
        if differences[worst] > 1e-4 * np.abs(shared).max():
            raise CaptureError(
                f"{file.path}: scale_mat_{file.numbers[worst]} differs from "
                f"scale_mat_{files[0].numbers[0]} of {files[0].path}; "
                "expected the same in all frames and cameras"
            )
    return shared


def _count_frames(root: Path, names: Sequence[str]) -> int:
    """Returns how many images each camera has."""
    counts = {name: len(list_images(root / name / "rgb")) for name in names}
    expected = counts[names[0]]
    for name, count in counts.items():
        if count == 0:
            raise CaptureError(f"{root / name / 'rgb'}: no images; expected one PNG a frame")
        if count != expected:
            raise CaptureError(
                f"{root / name / 'rgb'}: {count} images where {names[0]} has {expected}; "
                "expected one a frame in every camera"
            )
    return expected


def _misnumbered(root: Path, names: Sequence[str]) -> list[str]:
    """Returns a warning for each folder whose files are not numbered as the first camera's."""
    first = root / names[0] / "rgb"
    folders = [root / name / part for name in names for part in ("rgb", "mask", "depth")]
    return [
        f"{folder}: the numbers in its names are not those of {first}; files are matched by order"
        for folder in folders
        if not count_alike(list_images(folder) or list_images(first), list_images(first))
    ]


def _load_view(
    folder: Path, file: CameraFile, frames: Sequence[int], config: CaptureConfig, test: bool = False
) -> View:
    """Returns a camera's footage; only a training camera must have the depth asked for."""
    paths = list_images(folder / "rgb")
    images, masks = read_rgb_stack([paths[frame] for frame in frames])
    height, width = images.shape[1:3]
    depths = None
    if not config.use_masks:
        masks = None
    elif (folder / "mask").is_dir():
        masks = _read_beside(folder / "mask", len(paths), frames, read_mask, width, height)
    if config.use_depth and ((folder / "depth").is_dir() or not test):
        depths = _read_beside(folder / "depth", len(paths), frames, read_depth, width, height)
    return View(folder.name, file.cameras(frames, width, height), images, masks, depths)


def _read_beside(
    folder: Path,
    n_images: int,
    frames: Sequence[int],
    read: Callable[[Path], np.ndarray],
    width: int,
    height: int,
) -> np.ndarray:
    """Returns masks or depths, which must match the images in number and size."""
    paths = list_images(folder)
    if len(paths) != n_images:
        raise CaptureError(
            f"{folder}: {len(paths)} files for {n_images} images in rgb; expected one each"
        )
    stack = read_stack([paths[frame] for frame in frames], read)
    if stack.shape[1:3] != (height, width):
        raise CaptureError(
            f"{paths[frames[0]]}: {stack.shape[2]} x {stack.shape[1]} pixels; "
            f"its camera's images are {width} x {height}"
        )
    return stack


def read_bounds(path: Path) -> np.ndarray | None:
    """Returns the (2, 3) corners in ``aabb.txt``, lower first; None without that file.

    Raises:
        CaptureError: It does not hold six numbers, or the box is empty.
    """
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    numbers = re.findall(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf", text, re.IGNORECASE)
    if len(numbers) != 6:
        raise CaptureError(f"{path}: {len(numbers)} numbers; expected six: the two corners")
    bounds = np.array(numbers, np.float64).reshape(2, 3)
    if not (np.isfinite(bounds).all() and (bounds[0] < bounds[1]).all()):
        raise CaptureError(f"{path}: an empty box {numbers}; expected the lower corner first")
    return bounds


def _find_clouds(
    root: Path, n_frames: int, frames: Sequence[int]
) -> tuple[tuple[Path, ...], list[str]]:
    paths = sorted((root / "cloud").glob("*.ply"), key=frame_order)
    if paths and len(paths) != n_frames:
        return (), [f"{root / 'cloud'}: {len(paths)} clouds for {n_frames} frames; not used"]
    return tuple(paths[frame] for frame in frames) if paths else (), []
