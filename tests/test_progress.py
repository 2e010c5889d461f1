"""Laws of progress: everything that matters is in the line, and a log is not flooded."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console

from resfields_ngp import progress
from resfields_ngp.progress import (
    BEFOREHAND,
    PLAIN_SECONDS,
    ProgressReport,
    TensorBoardReport,
    counting,
    line,
)
from resfields_ngp.training import Progress


def _progress(step: int = 50, fraction: float = 0.25) -> Progress:
    losses = {"colour": 0.0512, "eikonal": 0.01}
    return Progress(step, 200, fraction, 10.0, losses, 27.318, 7.94, 51234.0)


def test_the_line_says_speed_time_left_losses_and_held_out_psnr():
    text = line(_progress())
    for part in ("step 50/200", "5.0 steps/s", "0:30 left", "colour 0.0512", "eikonal 0.0100"):
        assert part in text
    assert "held-out 27.32 dB" in text and "7.9 samples/ray" in text and "51234 rays/s" in text


def test_the_first_moment_has_no_time_left_and_no_division_by_zero():
    first = Progress(0, 0, 0.0, 0.0, {}, None, 0.0, 0.0)
    assert "-:-- left" in line(first) and "held-out" not in line(first)


def test_without_a_terminal_lines_are_seconds_apart_and_the_last_is_shown():
    now = 0.0
    stream = io.StringIO()
    with ProgressReport(Console(file=stream, width=40), clock=lambda: now) as report:
        for step in range(100):
            now = 0.2 * step
            report(_progress(step, step / 100))
        report(_progress(100, 1.0))
    first, *lines = stream.getvalue().splitlines()
    assert first == BEFOREHAND
    assert len(lines) == 1 + int(19.8 // PLAIN_SECONDS) + 1
    assert lines[-1].startswith("step 100/200")
    assert all("samples/ray" in text for text in lines)


def test_on_a_terminal_the_line_is_live():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=200)
    with ProgressReport(console) as report:
        report(_progress())
    assert "step 50/200" in stream.getvalue()


def test_a_narrow_terminal_cuts_neither_bar_nor_line():
    stream = io.StringIO()
    with ProgressReport(Console(file=stream, force_terminal=True, width=60)) as report:
        assert BEFOREHAND[:40] in stream.getvalue()
        report(_progress())
    last = stream.getvalue().rpartition("25%")
    assert "\u2501" in last[0]
    shown = " ".join(last[2].split())
    for part in line(_progress()).split("  "):
        assert part in shown
    assert "\u2026" not in shown


def test_counting_is_live_on_a_terminal():
    stream = io.StringIO()
    with counting("meshes", Console(file=stream, force_terminal=True)) as report:
        report(1, 4)
    assert "1/4" in stream.getvalue()


def test_counting_elsewhere_prints_lines_seconds_apart():
    now = 0.0
    stream = io.StringIO()
    with counting("meshes", Console(file=stream), clock=lambda: now) as report:
        for done in range(1, 21):
            now += 0.5
            report(done, 20)
    assert stream.getvalue().splitlines() == ["meshes 10/20", "meshes 20/20"]


def test_curves_are_written_only_where_tensorboard_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
    TensorBoardReport(tmp_path)(_progress())
    assert list(tmp_path.iterdir()) == []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            self.path = Path(folder) / "points"
            self.add_scalar("purged from", purge_step)

        def add_scalar(self, *point: object) -> None:
            with open(self.path, "a") as file:
                file.write(json.dumps(point) + "\n")

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: object())
    TensorBoardReport(tmp_path)(_progress())
    points = [json.loads(text) for text in (tmp_path / "points").read_text().splitlines()]
    assert points[0] == ["purged from", 50]
    assert ["losses/colour", 0.0512, 50] in points and ["held_out_psnr", 27.318, 50] in points
