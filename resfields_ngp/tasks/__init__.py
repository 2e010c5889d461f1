"""Tasks of the verb ``fit``; `TASKS` maps a name to its class. `capture` is that of ``train``."""

from __future__ import annotations

from .base import FitTask, Task
from .video import VideoTask

TASKS: dict[str, type[FitTask]] = {
    "video": VideoTask,
}

__all__ = ["TASKS", "FitTask", "Task", "VideoTask"]
