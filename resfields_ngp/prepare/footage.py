"""Calibrated footage to a capture: lenses straightened, images scaled, masks given or made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..cameras import Cameras
from ..config_tree import to_table
from ..datasets.base import CaptureError
from ..datasets.layout import CAMERA_FILE, SEEN_FILE, write_cameras, write_png
from ..datasets.placement import place_unit_sphere
from ..datasets.selection import select_frames
from ..writing import write_whole
from .calibrations import READERS, Footage, FootageView
from .calibrations.base import count_frames
from .folder import CaptureFolder
from .footage_views import cameras_of, unseen_of, view_job, write_view
from .rigs import TEST_CAMERA
from .workers import run_jobs

if TYPE_CHECKING:
    from .capture import Working
    from .config import PrepareVideoConfig


@dataclass(frozen=True)
class FootageConfig:
    """Which images, and which cameras of them."""

    path: str = ""
    """Folder with the calibration."""
    kind: Literal["auto", "actorshq", "easyvolcap", "neus2", "colmap", "llff"] = "auto"
    """actorshq: calibration.csv; easyvolcap: intri.yml and extri.yml; neus2: a
    transform_<frame>.json a frame; colmap: a sparse reconstruction, sparse/0; llff:
    poses_bounds.npy, as Neural 3D Video has it. auto decides by what is there."""
    images: str = ""
    """Folder of the images or videos below the path; the calibration's usual one by default."""
    masks: str = ""
    """Folder of the masks below the path; the calibration's usual one by default."""
    frames: str = "::"
    """Frames to use, as start:stop:stride."""
    cameras: tuple[str, ...] = ()
    """Training cameras by name; all but the held-out one by default."""
    test_camera: str = ""
    """Camera to hold out, written as cam_test; none by default."""
    longest: int = 0
    """Longer side of the written images, pixels; larger ones are scaled down. 0 leaves them."""
    aabb: tuple[float, ...] = ()
    """The subject's box in world units: the lowest and the highest corner, six numbers. By default
    the calibration's, or the ball that all cameras look at."""

    def __post_init__(self) -> None:
        if self.kind not in ("auto", *READERS):
            raise ValueError(f'kind is "{self.kind}"; allowed: auto, {", ".join(READERS)}')
        if self.longest < 0:
            raise ValueError(f"longest is {self.longest}; allowed: 0 or more")
        if len(self.aabb) not in (0, 6):
            raise ValueError(f"aabb has {len(self.aabb)} numbers; expected six, low then high")


def prepare_video(
    config: PrepareVideoConfig, out: Path, overwrite: bool, working: Working
) -> CaptureFolder:
    """Writes the capture of calibrated footage.

    Args:
        config: What and how.
        out: The capture's folder.
        overwrite: Delete a prepared capture that is there first.
        working: Processes and progress.

    Raises:
        CaptureError: The footage, its calibration or its masks are not usable.
        UsageError: The folder holds something else.
        Stopped: Somebody asked to stop; the same call goes on.
        OSError: The folder is not writable or the disk is full.
    """
    root = Path(config.footage.path)
    CaptureFolder.check_apart(out, (config.footage.path, config.matting.plates))
    kind, footage = _read(config.footage, root)
    n_all = min(count_frames(view) for view in footage.views)
    frames = select_frames(config.footage.frames, n_all, str(root))
    chosen = _chosen(footage, config.footage, str(root))
    jobs = [
        view_job(view.at(frames), name, frames, config.footage.longest, config.matting, out)
        for name, view in chosen.items()
    ]
    folder = CaptureFolder.open(out, _settings(config, chosen), overwrite)
    cameras = {job.name: cameras_of(job, len(frames)) for job in jobs}
    _write_cameras(folder, cameras, _place(config.footage, footage), str(root))
    for job in jobs:
        if (unseen := unseen_of(job, len(frames))) is not None:
            write_png(out / job.name / SEEN_FILE, np.where(unseen, 0, 255).astype(np.uint8))
    facts = {"source": root.resolve().name, "calibration": kind, "frames": frames}
    folder.add_to_record({**facts, "cameras": {job.name: job.view.name for job in jobs}})
    for remark in footage.remarks:
        working.say(remark)
    working.say(f"{root.name}: {kind}, {len(jobs)} cameras, {len(frames)} frames of {n_all}")
    with working.counting("cameras") as report:
        shares = run_jobs(write_view, jobs, working.n_workers, report, working.stop)
    for job, share in zip(jobs, shares, strict=True):
        if share is None:
            working.say(f"{job.name}: no masks; --plates FOLDER makes them")
        elif not 0.002 < share < 0.8:
            working.say(f"{job.name}: masks cover {100 * share:.1f} % of the images; look at them")
    return folder


def _write_cameras(
    folder: CaptureFolder, cameras: dict[str, Cameras], place: dict[str, Any], where: str
) -> None:
    """Writes the cameras, and the subject's box where the calibration has one."""
    sphere, box = place_unit_sphere(place, list(cameras.values()), where)
    for name, each in cameras.items():
        write_cameras(folder.path / name / CAMERA_FILE, each, sphere)
    if box is not None:
        text = "\n".join(" ".join(f"{number:.9g}" for number in corner) for corner in box)
        write_whole(folder.path / "aabb.txt", f"{text}\n".encode())


def _read(config: FootageConfig, root: Path) -> tuple[str, Footage]:
    if not root.is_dir():
        raise CaptureError(f"{root}: no such folder; pass the folder with the calibration")
    kind = config.kind
    if kind == "auto":
        found = [
            name
            for name, (files, _) in READERS.items()
            if any(path for file in files for path in root.glob(file))
        ]
        if not found:
            known = ", ".join(files[0] for files, _ in READERS.values())
            raise CaptureError(f"{root}: no calibration in it; expected one of {known}")
        if found[:2] == ["colmap", "llff"]:
            raise CaptureError(
                f"{root}: a COLMAP model and a poses_bounds.npy; --footage.kind colmap, which "
                "knows distortion, or --footage.kind llff"
            )
        kind = found[0]
    return kind, READERS[kind][1](root, config.images, config.masks)


def _chosen(footage: Footage, config: FootageConfig, where: str) -> dict[str, FootageView]:
    """Returns the views to write by the name they get."""
    views = {view.name: view for view in footage.views}
    for name in (*config.cameras, *([config.test_camera] if config.test_camera else [])):
        if name not in views:
            raise CaptureError(f'{where}: no camera "{name}"; available: {", ".join(views)}')
    training = config.cameras or tuple(name for name in views if name != config.test_camera)
    if config.test_camera in config.cameras:
        raise CaptureError(
            f'{where}: camera "{config.test_camera}" is both trained on and held out'
        )
    chosen = {name: views[name] for name in training}
    if config.test_camera:
        chosen[TEST_CAMERA] = views[config.test_camera]
    return chosen


def _place(config: FootageConfig, footage: Footage) -> dict[str, Any]:
    if config.aabb:
        return {"aabb": [list(config.aabb[:3]), list(config.aabb[3:])]}
    return footage.place


def _settings(config: PrepareVideoConfig, views: dict[str, FootageView]) -> dict[str, Any]:
    """Returns what decides the result; where footage and plates lie does not."""
    table = to_table(config)
    del table["footage"]["path"]
    if config.matting.plates:
        files = sorted(path for path in Path(config.matting.plates).rglob("*") if path.is_file())
        table["matting"]["plates"] = [f"{path.name}:{path.stat().st_size}" for path in files]
    files = {
        name: [f"{path.name}:{path.stat().st_size}" for path in view.images[:1]]
        for name, view in views.items()
    }
    return {**table, "files": files}
