from __future__ import annotations

import pytest
import torch
from ball_scene import small_field

from resfields_ngp.backends import open_backend
from resfields_ngp.optimising import make_optimiser
from resfields_ngp.resfield import ResFieldConfig, coefficient_modules

CPU = open_backend("cpu", "cpu")


def named(field, parameters) -> set[str]:
    names = {id(parameter): name for name, parameter in field.named_parameters()}
    return {names[id(parameter)] for parameter in parameters}


def test_every_parameter_is_in_one_group():
    field = small_field(CPU)
    for residual in (ResFieldConfig(), ResFieldConfig(coefficient_rate=0.1)):
        groups = make_optimiser(field, 0.02, 0.003, residual).param_groups
        found = [p for group in groups for p in group["params"]]
        assert len(found) == len(named(field, found)) == len(list(field.parameters()))


def test_tables_and_networks_have_their_own_rates():
    groups = make_optimiser(field := small_field(CPU), 0.02, 0.003).param_groups
    assert [group["full_rate"] for group in groups] == [0.02, 0.003]
    assert named(field, groups[0]["params"]) == {"encoder.table"}


@pytest.mark.parametrize(("rate", "decay"), [(0.5, 0.0), (1.0, 0.1)])
def test_coefficients_are_apart_where_they_have_settings(rate: float, decay: float):
    residual = ResFieldConfig(coefficient_rate=rate, coefficient_decay=decay)
    field = small_field(CPU)
    groups = make_optimiser(field, 0.02, 0.004, residual).param_groups
    assert groups[2]["full_rate"] == pytest.approx(0.004 * rate)
    assert [group["weight_decay"] for group in groups] == [0.0, 0.0, decay]
    knots = {id(p) for each in coefficient_modules(field) for p in each.parameters()}
    assert knots and knots == {id(p) for p in groups[2]["params"]}


def test_coefficients_of_long_sequences_learn_faster():
    field = small_field(CPU)
    groups = make_optimiser(field, 0.02, 0.004, ResFieldConfig(), pace=4.0).param_groups
    assert [group["full_rate"] for group in groups] == [0.02, 0.004, pytest.approx(0.016)]
    assert all(name.endswith("knots") for name in named(field, groups[2]["params"]))


def test_decay_shrinks_coefficients_and_nothing_else():
    field = small_field(CPU)
    before = {name: p.detach().clone() for name, p in field.named_parameters()}
    optimiser = make_optimiser(field, 0.02, 0.1, ResFieldConfig(coefficient_decay=0.5))
    for parameter in field.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, parameter in field.named_parameters():
        factor = 0.95 if name.endswith("knots") else 1.0
        assert torch.allclose(parameter, before[name] * factor), name
