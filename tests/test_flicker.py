"""Laws of flicker: none for what stays or moves evenly, and the noise that was put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from textured_ball import CENTRE, SIZE, ball, moved, painted, textured_ball

from resfields_ngp.atlas import TexturedMesh, unwrap
from resfields_ngp.decimation import decimate
from resfields_ngp.flicker import measure_flicker


def test_a_still_sequence_does_not_flicker() -> None:
    found = measure_flicker([textured_ball()] * 4)
    assert found["vertex_noise"] == pytest.approx(0, abs=1e-12)
    assert found["texture_change"] == 0
    assert found["static_part"] == 1


def test_even_motion_is_not_noise() -> None:
    frames = [moved(textured_ball(), np.array([0.004, 0.002, 0]) * i) for i in range(4)]
    found = measure_flicker(frames)
    assert found["vertex_noise"] < 1e-4
    assert found["static_part"] > 0.99


def test_other_connectivity_is_hardly_noise() -> None:
    mesh = decimate(ball(4)[0], 4000)
    other = replace(mesh, normals=(mesh.vertices - CENTRE))
    atlas = unwrap(other, SIZE, 4)
    fine = TexturedMesh(*ball(4), painted(*ball(4)))
    found = measure_flicker([fine, TexturedMesh(other, atlas, painted(other, atlas)), fine])
    assert found["vertex_noise_of_extent"] < 1e-3


def test_breathing_is_measured() -> None:
    mesh = ball()[0]
    swollen = moved(textured_ball(), 0.006 * (mesh.vertices - CENTRE))
    found = measure_flicker([textured_ball(), swollen, textured_ball()])
    # The sphere is 0.006 higher than its neighbours before and after.
    assert found["vertex_noise"] == pytest.approx(0.006, rel=0.05)


def test_a_change_of_the_texture_is_measured() -> None:
    first = textured_ball()
    dark = replace(first, texture=np.maximum(first.texture, 40) - 30)
    bright = replace(first, texture=np.maximum(first.texture, 40))
    found = measure_flicker([bright, bright, dark.__class__(first.mesh, first.atlas, dark.texture)])
    assert found["texture_change"] == pytest.approx(30, abs=0.1)


def test_where_nothing_stays_nothing_is_measured() -> None:
    frames = [moved(textured_ball(), np.array([5.0, 0, 0]) * i) for i in range(3)]
    found = measure_flicker(frames)
    assert found["static_part"] == 0
    assert found["vertex_noise"] is None and found["texture_change"] is None
    assert measure_flicker(frames[:2])["vertex_noise"] is None
