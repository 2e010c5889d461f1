"""The NeuS and IDR layout: one moment, seen by a camera an image.

ROOT/image/*.png                              8-bit RGB, or RGBA with its alpha as mask
ROOT/mask/*.png                               optional; any value above 0 is the subject
ROOT/cameras_sphere.npz or cameras.npz        world_mat_<i>, scale_mat_<i>: image i's camera
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import Capture, CaptureConfig, CaptureError, View, check_masks
from .camera_files import CameraFile, common_scale_mat, find_camera_file, read_camera_file
from .images import list_images, read_mask, read_rgb_stack, read_stack
from .owlii import read_bounds
from .selection import select_cameras, select_frames


def load_neus(config: CaptureConfig) -> Capture:
    """Loads a capture of a single frame; its cameras are named as the images, without suffix.

    Raises:
        CaptureError: Something is missing, damaged or does not fit; one line that names the file.
    """
    root = Path(config.path)
    if not root.is_dir():
        raise CaptureError(f"{root}: no such folder; pass the folder of a capture")
    paths = list_images(root / "image")
    if not paths:
        raise CaptureError(f"{root / 'image'}: no images; expected one PNG a camera")
    select_frames(config.frames, 1, str(root))
    file = read_camera_file(find_camera_file(root), len(paths))
    training, test = select_cameras([path.stem for path in paths], config, str(root))
    mask_paths = list_images(root / "mask") if config.use_masks else []
    if mask_paths and len(mask_paths) != len(paths):
        raise CaptureError(
            f"{root / 'mask'}: {len(mask_paths)} masks for {len(paths)} images; expected one each"
        )
    views = {}
    for name in (*training, *([test] if test else [])):
        index = next(i for i, path in enumerate(paths) if path.stem == name)
        mask_path = mask_paths[index] if mask_paths else None
        views[name] = _load_view(paths[index], mask_path, file, index, config)
    trained = tuple(views[name] for name in training)
    held_out = views[test] if test else None
    return Capture(
        name=root.resolve().name,
        views=trained,
        test_view=held_out,
        frame_numbers=(0,),
        world_from_normalised=common_scale_mat([file]),
        bounds=read_bounds(root / "aabb.txt"),
        warnings=tuple(check_masks(trained, held_out, [0], str(root))),
    )


def _load_view(
    path: Path, mask_path: Path | None, file: CameraFile, index: int, config: CaptureConfig
) -> View:
    images, masks = read_rgb_stack([path])
    if mask_path is not None:
        masks = read_stack([mask_path], read_mask)
        if masks.shape != images.shape[:3]:
            raise CaptureError(
                f"{mask_path}: {masks.shape[2]} x {masks.shape[1]} pixels; "
                f"its image is {images.shape[2]} x {images.shape[1]}"
            )
    cameras = file.cameras([index], images.shape[2], images.shape[1])
    chosen: np.ndarray | None = masks if config.use_masks else None
    return View(path.stem, cameras, images, chosen)
