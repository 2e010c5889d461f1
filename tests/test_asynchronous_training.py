"""Training where no number is read within a step, as on a GPU."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from ball_training import LOSSES, make_trainer, parameters, run_fit, task_of

from resfields_ngp.backends.reference import ReferenceBackend
from resfields_ngp.trainer import TrainingError


class AsynchronousBackend(ReferenceBackend):
    """Stands in for a GPU backend: no number is read within a step but the march's."""

    is_asynchronous = True
    step_samples = 3000


def test_an_asynchronous_backend_trains_the_same_field_up_to_samples_that_hardly_count():
    # Albedos are compared at as many random places as count, which sets later draws apart.
    losses = replace(LOSSES, albedo=0.0)
    backends = (AsynchronousBackend(), ReferenceBackend())
    trainers = [make_trainer(backend, losses=losses) for backend in backends]
    results = [run_fit(trainer)[1].metrics[-1] for trainer in trainers]
    for name, value in results[1]["losses"].items():
        assert results[0]["losses"][name] == pytest.approx(value, rel=0.05, abs=1e-3), name


def test_without_a_size_in_the_settings_the_backend_says_how_many_samples():
    trainer = make_trainer(AsynchronousBackend(), samples_per_batch=0, max_rays=0)
    assert (task_of(trainer).n_samples, task_of(trainer).max_rays) == (3000, 3000)
    assert task_of(make_trainer(samples_per_batch=0)).n_samples == 16384
    assert task_of(make_trainer(samples_per_batch=70)).n_samples == 70


class Overflowing(torch.autograd.Function):
    """As half precision on the way back: a finite loss, an infinite gradient."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradients * math.inf


def test_a_step_whose_gradient_alone_is_lost_leaves_the_parameters_alone(monkeypatch):
    trainer = make_trainer(AsynchronousBackend(), steps=60)
    trainer.advance()
    before = parameters(trainer)
    with monkeypatch.context() as patched:
        patched.setattr(
            "resfields_ngp.step.colour_loss", lambda rgbs, *_: Overflowing.apply(rgbs).mean()
        )
        trainer.advance()
        for name, value in parameters(trainer).items():
            assert name == "trained" or torch.equal(value, before[name]), name
    trainer.advance()  # the next one counts again
    assert any(not torch.equal(value, before[name]) for name, value in parameters(trainer).items())
    monkeypatch.setattr(
        "resfields_ngp.step.colour_loss", lambda rgbs, *_: Overflowing.apply(rgbs).mean()
    )
    with pytest.raises(TrainingError, match="step 40: no gradient was finite for 20 steps"):
        for _ in range(50):
            trainer.advance()


def test_a_lost_step_on_an_asynchronous_backend_leaves_the_parameters_alone(monkeypatch):
    trainer = make_trainer(AsynchronousBackend(), steps=30)
    for _ in range(3):
        trainer.advance()
    before = parameters(trainer)

    def lose(*_: object) -> torch.Tensor:
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr("resfields_ngp.step.colour_loss", lose)
    with pytest.raises(TrainingError, match="the colour loss is nan"):
        for _ in range(25):
            trainer.advance()
    assert trainer.step_count == 20  # where somebody looks next
    for name, value in parameters(trainer).items():
        assert name == "trained" or torch.equal(value, before[name]), name
