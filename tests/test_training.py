from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from ball_scene import (
    N_FRAMES,
    SHARP,
    ball_capture,
    ball_space,
    seeded,
)
from ball_training import make_trainer, parameters, run_fit, task_of

from resfields_ngp import training
from resfields_ngp.pixels import PixelSource
from resfields_ngp.rendering import render, render_samples
from resfields_ngp.schedules import TrainingConfig
from resfields_ngp.tasks.capture import coefficient_pace, held_out_psnr, restore_model
from resfields_ngp.trainer import TrainingError


@pytest.mark.parametrize("head", ["neus", "nerf"])
@pytest.mark.parametrize("has_masks", [False, True])
def test_a_budget_of_steps_is_used_to_the_last(head: str, has_masks: bool):
    trainer = make_trainer(head=head, has_masks=has_masks)
    completed, run = run_fit(trainer)
    assert completed and trainer.step_count == 6 and trainer.fraction == 1.0
    assert run.steps[-1] == 6 and run.metrics[-1]["step"] == 6
    assert trainer.task.field.trained_fraction == 1.0
    for name, value in trainer.task.field.named_parameters():
        assert torch.isfinite(value).all(), name


def test_a_budget_of_seconds_is_used_to_the_last():
    trainer = make_trainer(steps=0, seconds=0.2)
    completed, run = run_fit(trainer)
    assert completed and trainer.fraction == 1.0 and trainer.seconds >= 0.2
    assert run.steps == [trainer.step_count] and trainer.step_count > 0


def test_checkpoints_are_written_every_so_often_and_once_at_the_end(monkeypatch):
    monkeypatch.setattr(training, "SAVING_SPACE", 0.0)
    assert run_fit(make_trainer(checkpoint_every=2))[1].steps == [2, 4, 6]
    assert run_fit(make_trainer(checkpoint_every=4))[1].steps == [4, 6]
    monkeypatch.setattr(training, "SAVING_SPACE", 1e9)  # one takes as long as all the training
    assert run_fit(make_trainer(checkpoint_every=1))[1].steps == [1, 6]


def test_asked_to_stop_it_saves_and_says_so():
    trainer = make_trainer(steps=100)
    completed, run = run_fit(trainer, should_stop=lambda: trainer.step_count >= 3)
    assert not completed and run.steps == [3] and trainer.fraction == 0.03


@pytest.mark.parametrize("seconds", [0.85, 0.95])
def test_the_last_step_is_reported_wherever_the_time_runs_out(monkeypatch, seconds: float):
    """In the third step's own time, or in what surrounds it: the clock ticks at each look."""
    ticks = itertools.count()
    monkeypatch.setattr(training.time, "perf_counter", lambda: 0.1 * next(ticks))
    trainer = make_trainer(seconds=seconds, steps=0)
    completed, run = run_fit(trainer)
    assert completed and trainer.step_count == 3
    assert run.metrics[-1]["step"] == trainer.step_count
    assert run.metrics[-1]["fraction"] == 1.0


def test_what_is_cached_in_the_end_has_no_floaters():
    found = []
    for clean in (None, lambda distances, frame: distances + np.float32(frame + 0.5)):
        trainer = make_trainer()
        task_of(trainer).clean = clean
        run_fit(trainer)
        found.append(task_of(trainer).occupancy.distances)
    ways = torch.arange(N_FRAMES)[:, None, None, None] + 0.5
    assert torch.equal(found[1], found[0] + ways)


def test_progress_is_reported_with_losses_and_held_out_quality():
    capture, reports = ball_capture(), []
    source = PixelSource(capture, ball_space(), capture.views[:1])
    trainer = make_trainer()
    task_of(trainer).test_source = source
    _, run = run_fit(trainer, report=reports.append)
    last = reports[-1]
    assert (last.step, last.n_steps, last.fraction) == (6, 6, 1.0)
    assert set(last.losses) >= {"colour", "mask", "eikonal"}
    assert last.test_psnr == pytest.approx(held_out_psnr(task_of(trainer), source), abs=0.5)
    assert run.metrics[-1]["losses"] == last.losses


def test_the_pace_is_that_of_the_device_and_of_steps_alone(monkeypatch):
    """Steps are asked for in no time; reading a loss waits for them. Held-out pixels come apart."""
    clock, waits = [0.0], training.in_numbers

    def read(losses):
        clock[0] += 4.0
        return waits(losses)

    def held_out_psnr() -> float:
        clock[0] += 100.0
        return 20.0

    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(training, "in_numbers", read)
    trainer = make_trainer(steps=40)
    monkeypatch.setattr(trainer.task, "held_out_psnr", held_out_psnr)
    done, advance = [], trainer.advance

    def counted():
        done.append(advance())
        return done[-1]

    monkeypatch.setattr(trainer, "advance", counted)
    _, run = run_fit(trainer)
    assert [row["step"] for row in run.metrics] == [20, 40]
    for row, steps in zip(run.metrics, (done[:20], done[20:]), strict=True):
        assert row["rays_per_second"] == sum(step.n_rays for step in steps) / 4.0 > 0.0
        assert row["samples_per_second"] == sum(step.n_samples for step in steps) / 4.0


def frames_drawn(frames_per_batch: int, n_steps: int) -> list[tuple[int, ...]]:
    trainer = make_trainer(frames_per_batch=frames_per_batch, steps=n_steps)
    source = task_of(trainer).source
    drawn, draw = [], source.draw

    def recording(frames, *arguments):
        drawn.append(frames)
        return draw(frames, *arguments)

    source.draw = recording
    run_fit(trainer)
    return drawn


@pytest.mark.parametrize("frames_per_batch", [1, 2, 3, 8])
def test_every_frame_comes_once_before_any_comes_again(frames_per_batch: int):
    counts: Counter[int] = Counter({frame: 0 for frame in range(N_FRAMES)})
    for frames in frames_drawn(frames_per_batch, 8):
        assert len(set(frames)) == len(frames) == min(frames_per_batch, N_FRAMES)
        counts.update(frames)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_long_sequences_take_more_frames_a_step():
    config = TrainingConfig()
    assert [config.frames_of_step(n) for n in (1, 12, 25, 60, 100, 300)] == [1, 4, 4, 10, 16, 16]
    assert TrainingConfig(frames_per_batch=6).frames_of_step(300) == 6
    assert task_of(make_trainer()).coefficient_pace == coefficient_pace(N_FRAMES) == 1.0
    paces = [coefficient_pace(n) for n in (1, 24, 54, 96, 1000)]
    assert paces == pytest.approx([1.0, 1.0, 3.375, 8.0, 8.0])


@pytest.mark.parametrize("warmup_steps", [0, 1])
@pytest.mark.parametrize("has_masks", [False, True])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_nan_stops_with_term_and_step(backend: str, has_masks: bool, warmup_steps: int):
    settings = {"warmup_steps": warmup_steps, "steps": 100}
    trainer = make_trainer(backend, has_masks=has_masks, **settings)
    for _ in range(3):
        trainer.advance()
    trainer.step_count = 0 if warmup_steps else 3
    task_of(trainer).field.trunk.weights.base.data[0] = math.nan
    before = parameters(trainer)
    with pytest.raises(TrainingError, match=rf"step {trainer.step_count}: the \w+ loss is nan"):
        trainer.advance()
    for name, value in parameters(trainer).items():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name


@pytest.mark.parametrize(
    ("head", "has_masks", "warms_up"),
    [("neus", True, True), ("neus", False, True), ("nerf", True, True), ("nerf", False, False)],
)
def test_what_has_a_shape_to_begin_with_is_warmed_up_at_first(head, has_masks, warms_up):
    trainer = make_trainer(head=head, has_masks=has_masks, warmup_steps=2, steps=100)
    terms = ["warmup" in trainer.advance().losses for _ in range(3)]
    assert terms == [warms_up, warms_up, False]


def test_the_same_seed_gives_the_same_weights():
    found = []
    for seed in (3, 3, 4):
        trainer = make_trainer(seed=seed)
        run_fit(trainer)
        found.append(parameters(trainer))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not torch.equal(found[0]["encoder.table"], found[2]["encoder.table"])


def test_learning_rates_decay_to_their_last_part():
    trainer = make_trainer(steps=40)
    rates = []
    for _ in range(40):
        trainer.advance()
        rates.append(trainer.optimiser.param_groups[0]["lr"])
    assert rates[0] < rates[10] and rates[30] > rates[39]
    assert rates[39] == pytest.approx(0.01 * 0.1 ** (39 / 40))


@pytest.mark.parametrize(("first", "second"), [("cpu", "reference"), ("reference", "cpu")])
def test_a_checkpoint_of_one_backend_renders_the_same_in_the_other(first: str, second: str):
    settings = {"steps": 25, "warmup_steps": 0, "network_rate": 0.01}
    trainer, other = make_trainer(first, **settings), make_trainer(second, seed=9)
    run_fit(trainer)
    # A settled cache: walks through the jagged one of an unfinished field magnify rounding.
    tasks = task_of(trainer), task_of(other)
    tasks[0].occupancy.distances.copy_(tasks[0].occupancy.hull)
    restore_model(tasks[1].field, tasks[1].occupancy, trainer.state()[0])
    batch = tasks[0].source.draw((0, 1), 120, 0.7, seeded(5))
    one, two = (render(task.field, task.occupancy, batch.rays, 0.2) for task in tasks)
    assert one.opacities.max() > 0.1
    # Now and then a step at the very edge of the band falls on either side of it. The same samples
    # give the same picture to rounding.
    assert (one.rgbs - two.rgbs).square().mean().sqrt() < 0.01  # 40 dB
    samples = tasks[0].occupancy.march(batch.rays, tasks[0].field.backend, SHARP, None)
    pictures = [render_samples(task.field, batch.rays, samples, 1.0, 0.2)[0] for task in tasks]
    for name in ("rgbs", "opacities", "depths", "normals"):
        one, two = (getattr(picture, name) for picture in pictures)
        assert torch.allclose(one, two, atol=2e-4), name


def test_budgets_and_counts_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"training\.seconds and training\.steps are both 0"):
        TrainingConfig(seconds=0.0, steps=0)
    with pytest.raises(ValueError, match=r"training\.frames_per_batch is -1; allowed: 0 or more"):
        TrainingConfig(frames_per_batch=-1)
    with pytest.raises(ValueError, match=r"training\.max_rays is -1; allowed: 0 or more"):
        TrainingConfig(max_rays=-1)
