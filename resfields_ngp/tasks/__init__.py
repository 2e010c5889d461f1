"""Tasks of the verb ``fit``; `TASKS` maps a name to its class. `capture` is that of ``train``."""

from __future__ import annotations

from .base import FitTask, Task
from .flow import FlowTask
from .video import VideoTask

TASKS: dict[str, type[FitTask]] = {
    "flow": FlowTask,
    "video": VideoTask,
}

__all__ = ["TASKS", "FitTask", "FlowTask", "Task", "VideoTask"]
