"""The run folder: where one reconstruction keeps its settings, checkpoints, figures and meshes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .checkpoint import latest_checkpoint, save_checkpoint
from .config_tree import differing_keys
from .environment import environment
from .locking import Locked, held
from .writing import write_whole

FREE_TO_CHANGE = (
    "training.backend",
    "training.checkpoint_every",
    "training.cuda_graphs",
    "training.device",
    "training.threads",
    "training.seconds",
    "training.steps",
    "meshing.",
    "texturing.",
    "imaging.",
    "evaluation.",
    "sampling.",
    "export.",
)
"""Settings, or tables of them, that a resumed run may have otherwise than when it began."""


class RunFolderError(ValueError):
    """The run folder cannot be used as asked; the message names it and the option that helps."""


@dataclass(frozen=True)
class RunFolder:
    """An existing folder of ``config.json``, ``env.json``, ``metrics.jsonl``, ``checkpoints/``."""

    path: Path
    """The folder."""

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def config_path(self) -> Path:
        """The resolved settings, which can be passed back with ``--scene``."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line, appended as training goes."""
        return self.path / "metrics.jsonl"

    @staticmethod
    def open(path: str | os.PathLike[str]) -> RunFolder:
        """Returns the run folder of an earlier ``train``, ``reconstruct`` or ``fit``.

        Raises:
            FileNotFoundError: There is none.
        """
        run = RunFolder(Path(path))
        if not run.config_path.is_file():
            raise FileNotFoundError(
                f"{run.path}: no config.json; a run folder of train, reconstruct or fit is needed"
            )
        return run

    @staticmethod
    def create(
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
    ) -> RunFolder:
        """Makes a run folder, or takes up a used one where that is asked for.

        Args:
            path: The folder; its parents are made too.
            settings: The resolved config as a table; written to ``config.json``.
            resume: Go on in a folder with the same settings, from its latest checkpoint.
            overwrite: Delete the run that is there first. Folders that are no run are left alone.

        Raises:
            RunFolderError: The folder is used, or holds a run with other settings.
            OSError: It cannot be written.
        """
        run = RunFolder(Path(path))
        run._check_use(settings, resume, overwrite)
        if overwrite and run.path.is_dir():
            run._clear()
        try:
            run.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"{run.path}: not writable; choose another --out") from None
        for partial in run.checkpoints.glob(".*.partial*"):
            partial.unlink(missing_ok=True)
        write_whole(run.config_path, json.dumps(settings, indent=1).encode())
        write_whole(run.path / "env.json", json.dumps(environment(), indent=1).encode())
        return run

    @staticmethod
    @contextlib.contextmanager
    def reserved(
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
    ) -> Iterator[None]:
        """Says at once what `create` would refuse, and keeps other programs out meanwhile.

        Raises:
            RunFolderError: See `create`; or another program works there.
        """
        run = RunFolder(Path(path))
        run._check_use(settings, resume, overwrite)
        try:
            with held(run.path):
                yield
        except Locked as error:
            raise RunFolderError(f"{error}; wait for it, or choose another --out") from None

    def settings(self) -> dict[str, Any]:
        """Returns the table in ``config.json``.

        Raises:
            ValueError: It is damaged.
        """
        try:
            return json.loads(self.config_path.read_text())
        except ValueError as error:
            raise ValueError(
                f"{self.config_path}: damaged ({error}); put back the settings of this run, or "
                "train again with --overwrite"
            ) from None

    def move_capture(self, path: Path) -> None:
        """Keeps in mind where the run's capture lies now.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such capture; pass where the run's lies now")
        settings = self.settings()
        settings["capture"]["path"] = str(path.absolute())
        write_whole(self.config_path, json.dumps(settings, indent=1).encode())

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Adds one line to ``metrics.jsonl``."""
        with open(self.metrics_path, "ab+") as file:
            if file.tell() and not _ends_line(file):
                file.write(b"\n")
            file.write(json.dumps(metrics).encode() + b"\n")

    def drop_metrics_after(self, step: int) -> None:
        """Removes the lines of steps that a resumed run is going to do again, and cut-off lines."""
        if not self.metrics_path.is_file():
            return
        kept = [
            line for line in self.metrics_path.read_bytes().splitlines() if _step_of(line) <= step
        ]
        write_whole(self.metrics_path, b"".join(line + b"\n" for line in kept))

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Writes a checkpoint atomically; see `checkpoint.save_checkpoint`."""
        return save_checkpoint(self.checkpoints, step, tensors, state)

    def latest_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Returns tensors and state (``step`` among them) of the newest readable checkpoint.

        None where there is none yet; see `checkpoint.latest_checkpoint`.
        """
        found = latest_checkpoint(self.checkpoints)
        return (found.tensors, {"step": found.step} | found.state) if found else None

    def trained(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns tensors and state of the newest readable checkpoint.

        Raises:
            FileNotFoundError: There is none yet.
        """
        found = self.latest_checkpoint()
        if found is None:
            raise FileNotFoundError(f"{self.checkpoints}: no checkpoint; train this run first")
        return found

    def scores(self) -> dict[str, Any]:
        """Returns what is in ``evaluation.json``.

        Raises:
            FileNotFoundError: The run was not scored yet.
        """
        return json.loads((self.path / "evaluation.json").read_text())

    def source(self) -> str:
        """Returns what names a run's weights: its latest step."""
        found = self.latest_checkpoint()
        return f"step {found[1]['step']}" if found else ""

    def _check_use(self, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
        """Checks that a folder is free, or may be taken up or cleared."""
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path}: a file is there; choose another --out")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if not self.config_path.is_file():
            raise RunFolderError(
                f"{self.path}: not empty and not a run folder; choose another --out"
            )
        if resume and not overwrite:
            check_same_settings(self.settings(), settings, self.config_path)
        elif not overwrite:
            raise RunFolderError(
                f"{self.path}: already used; pass --resume to go on with that run,"
                " --overwrite to delete it, or another --out"
            )

    def _clear(self) -> None:
        """Deletes everything in the folder, ``config.json`` last: until then it counts as a run."""
        entries = sorted(self.path.iterdir(), key=lambda entry: entry == self.config_path)
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def check_same_settings(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], source: str | os.PathLike[str]
) -> None:
    """Checks that two tables agree in all that shapes the training.

    A capture that is no longer where it was may have been moved.

    Raises:
        RunFolderError: They differ; the message names the keys.
    """
    path = stored.get("capture", {}).get("path")
    free = FREE_TO_CHANGE + (("capture.path",) if path and not Path(path).exists() else ())
    keys = [key for key in differing_keys(stored, wanted) if not key.startswith(free)]
    if keys:
        shown = ", ".join(keys[:6]) + (", ..." if len(keys) > 6 else "")
        raise RunFolderError(
            f"{source}: the run there has other settings for {shown};"
            " leave them out to resume it, or pass --overwrite"
        )


def _ends_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _step_of(line: bytes) -> float:
    try:
        return json.loads(line).get("step", 0)
    except (ValueError, AttributeError):
        return float("inf")
