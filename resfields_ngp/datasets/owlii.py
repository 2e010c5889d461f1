"""The ResFields layout ("Owlii captures"): a folder a camera, one image a frame, per-frame cameras.

    ROOT/<camera>/rgb/*.png              8-bit RGB, or RGBA: alpha is the mask without mask/
    ROOT/<camera>/mask/*.png             optional; any value above 0 is the subject
    ROOT/<camera>/depth/*.png            optional; uint16, distance along the ray in steps of
                                         ``capture.depth_scale``, thousandths by default
    ROOT/<camera>/cameras_sphere.npz     world_mat_<i>, scale_mat_<i>: 4x4, one a frame
    ROOT/<camera>/seen.png               optional; 0 where straightened images show nothing
    ROOT/cloud/*.ply, ROOT/aabb.txt      optional; points and box in the normalised space

``world_mat`` takes world points to pixels and gives the cameras; ``scale_mat`` takes normalised
points to the world. The official loader decomposes their product and so works in normalised units;
here cameras stay in world units.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .base import MILLI, Capture, CaptureConfig, CaptureError, View, check_masks
from .camera_files import (
    CAMERA_FILES,
    CameraFile,
    common_scale_mat,
    find_camera_file,
    read_camera_file,
)
from .images import check_size, list_images, read_depth, read_mask, read_rgb_stack, read_stack
from .layout import SEEN_FILE
from .selection import count_alike, frame_order, select_cameras, select_frames


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
        depth_scale=config.depth_scale or MILLI,
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
    unseen = _read_unseen(folder / SEEN_FILE, images.shape[:3])
    cameras = file.cameras(frames, width, height)
    return View(folder.name, cameras, images, masks, depths, unseen=unseen)


def _read_unseen(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns (n_frames, H, W) what `View.unseen` is; None without the file."""
    if not path.is_file():
        return None
    unseen = ~read_mask(path)
    check_size(path, unseen, shape[2], shape[1])
    return np.broadcast_to(unseen, shape) if unseen.any() else None


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
