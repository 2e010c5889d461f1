from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch

from resfields_ngp.encoders import harmonic_quadrics, spherical_harmonics


def sphere_quadrature(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns directions and weights that integrate polynomials up to degree 2 n - 1 exactly."""
    heights, weights = np.polynomial.legendre.leggauss(n)
    angles = 2 * np.pi * np.arange(2 * n) / (2 * n)
    z, around = (grid.ravel() for grid in np.meshgrid(heights, angles, indexing="ij"))
    radii = np.sqrt(1 - z * z)
    directions = np.stack([radii * np.cos(around), radii * np.sin(around), z], axis=1)
    areas = np.repeat(weights, 2 * n) * np.pi / n
    return torch.from_numpy(directions), torch.from_numpy(areas)


def test_harmonics_are_orthonormal():
    directions, areas = sphere_quadrature()
    values = spherical_harmonics(directions, 4)
    products = values.T @ (areas[:, None] * values)
    assert torch.allclose(products, torch.eye(16, dtype=torch.float64), atol=1e-12)


def test_harmonics_are_scipys_real_ones():
    directions = sphere_quadrature()[0]
    x, y, z = directions.T.numpy()
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    values = spherical_harmonics(directions, 4).numpy()
    for degree in range(4):
        for order in range(-degree, degree + 1):
            # With the Condon-Shortley phase, as Sloan's and tiny-cuda-nn's.
            harmonic = scipy.special.sph_harm_y(degree, abs(order), polar, azimuth)
            part = harmonic.imag if order < 0 else harmonic.real
            expected = part * (np.sqrt(2.0) if order else 1.0)
            assert np.allclose(values[:, degree * (degree + 1) + order], expected, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_fewer_bands_are_the_first_columns(degree: int):
    directions = sphere_quadrature(3)[0]
    expected = spherical_harmonics(directions, 4)[:, : degree**2]
    assert torch.equal(spherical_harmonics(directions, degree), expected)


def test_bands_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="degree is 5; allowed: 1 to 4"):
        spherical_harmonics(torch.zeros(1, 3), 5)
    with pytest.raises(ValueError, match="directions has shape"):
        spherical_harmonics(torch.zeros(3), 2)


def test_quadrics_are_the_harmonics_up_to_degree_2_on_the_sphere():
    directions = sphere_quadrature()[0].float()
    homogeneous = torch.cat([directions, torch.ones(len(directions), 1)], dim=1)
    found = torch.einsum("ni,ijk,nj->nk", homogeneous, harmonic_quadrics(), homogeneous)
    assert torch.allclose(found, spherical_harmonics(directions, 3), atol=1e-6)
