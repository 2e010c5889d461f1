"""Real spherical harmonics of directions, for colours that depend on the view."""

from __future__ import annotations

import torch
from torch import Tensor

from ..records import check_shape


def spherical_harmonics(
    directions: Tensor,  # (N, 3) unit
    degree: int,
) -> Tensor:  # (N, degree**2)
    """Evaluates the real spherical harmonics of bands 0 .. degree - 1, as tiny-cuda-nn's
    SphericalHarmonics.

    Orthonormal on the sphere (Sloan, Efficient Spherical Harmonic Evaluation, 2013); tiny-cuda-nn
    takes directions mapped to [0, 1] and undoes that, here they are plain unit vectors.

    Raises:
        ValueError: `degree` is not 1 to 4.
    """
    check_shape("directions", directions, "N 3")
    if not 1 <= degree <= 4:
        raise ValueError(f"degree is {degree}; allowed: 1 to 4")
    x, y, z = directions.unbind(1)
    bands = [torch.full_like(x, 0.28209479177387814)]
    if degree > 1:
        bands += [-0.48860251190291987 * y, 0.48860251190291987 * z, -0.48860251190291987 * x]
    if degree > 2:
        bands += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.94617469575755997 * z * z - 0.31539156525251999,
            -1.0925484305920792 * x * z,
            0.54627421529603959 * (x * x - y * y),
        ]
    if degree > 3:
        bands += [
            0.59004358992664352 * y * (-3.0 * x * x + y * y),
            2.8906114426405538 * x * y * z,
            0.45704579946446572 * y * (1.0 - 5.0 * z * z),
            0.3731763325901154 * z * (5.0 * z * z - 3.0),
            0.45704579946446572 * x * (1.0 - 5.0 * z * z),
            1.4453057213202769 * z * (x * x - y * y),
            0.59004358992664352 * x * (-x * x + 3.0 * y * y),
        ]
    return torch.stack(bands, dim=1)


def harmonic_quadrics() -> Tensor:  # (4, 4, 9) float32
    """Returns matrices M with ``h^T M[..., k] h`` the k-th harmonic of a unit vector v up to degree
    2, where h is (v, 1).

    They are found from the harmonics' values: of those that agree on the sphere, the smallest.
    """
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn((64, 3), generator=generator, dtype=torch.float64)
    normals = torch.nn.functional.normalize(normals, dim=1)
    homogeneous = torch.cat([normals, torch.ones_like(normals[:, :1])], dim=1)
    products = homogeneous[:, :, None] * homogeneous[:, None, :]
    found = torch.linalg.pinv(products.flatten(1)) @ spherical_harmonics(normals, 3)
    return found.view(4, 4, 9).float()
