"""Values with their derivatives by position (jets): the rules that push them through a warp.

Vocabulary
    jets   (N, 1 + D, F): row 0 the F values, rows 1..D their derivatives by the D = 3 axes; D = 0
           where no derivative is wanted. Reverse-mode autograd goes through all rules, so that
           losses on normals need first-order autograd only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..backends.base import Backend
from ..encoders import Encoder
from ..records import FrameSlices
from ..transfers import on_device

_SERIES_TERMS = 8
_SERIES_END = 2.0
"""Squared angle up to which the series serve: eight terms are exact to float32 there, and the
closed forms lose digits only below it."""


def of_positions(
    positions: Tensor,  # (N, F)
    n_tangents: int,
) -> Tensor:  # (N, 1 + n_tangents, F)
    """Returns positions as jets: each coordinate has derivative 1 by itself."""
    values = positions[:, None]
    if not n_tangents:
        return values
    tangents = torch.eye(3, dtype=positions.dtype, device=positions.device)
    return torch.cat([values, tangents.expand(positions.shape[0], 3, 3)], dim=1)


def of_frames(
    values: Tensor,  # (T, F) one row a distinct frame
    slices: FrameSlices,
    n_tangents: int,
) -> Tensor:  # (N, 1 + n_tangents, F)
    """Returns values of each row's frame as jets, constant in space."""
    rows = slices.spread(values)[:, None]
    if not n_tangents:
        return rows
    return torch.cat([rows, rows.new_zeros(rows.shape[0], n_tangents, rows.shape[2])], dim=1)


def of_constant(value: float, like: Tensor) -> Tensor:  # (1, 1 + D, 1)
    """Returns a constant as a jet that can be added to others."""
    tangents = [0.0] * (like.shape[1] - 1)
    return on_device((value, *tangents), like.device, like.dtype)[None, :, None]


def bilinear(
    operation: Callable[[Tensor, Tensor], Tensor],
    first: Tensor,  # (N, 1 + D, F)
    second: Tensor,  # (N, 1 + D, G)
) -> Tensor:  # (N, 1 + D, H)
    """Returns a bilinear operation of two jets, with Leibniz's rule."""
    values = operation(first[:, :1], second[:, :1])
    if first.shape[1] == 1:
        return values
    tangents = operation(first[:, 1:], second[:, :1]) + operation(first[:, :1], second[:, 1:])
    return torch.cat([values, tangents], dim=1)


def product(first: Tensor, second: Tensor) -> Tensor:
    """Returns the product of two jets of equal width, or of a scalar jet and another."""
    return bilinear(torch.mul, first, second)


def cross(first: Tensor, second: Tensor) -> Tensor:
    """Returns the cross product of two jets of vectors."""
    return bilinear(_cross, first, second)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return torch.linalg.cross(*torch.broadcast_tensors(first, second))


def dot(first: Tensor, second: Tensor) -> Tensor:  # (N, 1 + D, 1)
    """Returns the scalar product of two jets of vectors."""
    return bilinear(lambda a, b: (a * b).sum(2, keepdim=True), first, second)


def along(jets: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
    """Returns a function of jets from its (N, 1, F) values and slopes at their values."""
    return torch.cat([values, slopes * jets[:, 1:]], dim=1)


def sine(jets: Tensor) -> Tensor:
    """Returns the sine of jets."""
    return along(jets, jets[:, :1].sin(), jets[:, :1].cos())


def cosine(jets: Tensor) -> Tensor:
    """Returns the cosine of jets."""
    return along(jets, jets[:, :1].cos(), -jets[:, :1].sin())


def octaves(
    jets: Tensor,  # (N, 1 + D, F)
    n_octaves: int,
    active: float,
) -> Tensor:  # (N, 1 + D, 2 * n_octaves * F)
    """Returns sines and cosines of ``2^k pi x``, the first `active` octaves of them (Nerfies)."""
    orders = torch.arange(n_octaves, device=jets.device)
    angles = (math.pi * 2.0**orders)[:, None] * jets[:, :, None, :]  # (N, 1 + D, K, F)
    weights = (active - orders).clamp(0.0, 1.0)[:, None]
    waves = torch.cat([sine(angles) * weights, cosine(angles) * weights], dim=3)
    return waves.flatten(2)


def encoded(
    encoder: Encoder,
    positions: Tensor,  # (N, 1 + D, 3) jets
    slices: FrameSlices,
    backend: Backend,
    released: float,
) -> Tensor:  # (N, 1 + D, n_features)
    """Returns an encoder's features at jets of positions, derivatives by the chain rule.

    Outside the box the encoder goes on as at its border.
    """
    n_tangents = positions.shape[1] - 1
    inside = positions[:, 0].clamp(0.0, 1.0)
    features = encoder(inside, slices, backend, n_tangents, released)
    if not n_tangents:
        return features
    jacobian = positions[:, 1:] * (inside == positions[:, 0])[:, None]
    return torch.cat([features[:, :1], jacobian @ features[:, 1:]], dim=1)


def screw_motion(
    rotations: Tensor,  # (N, 1 + D, 3) axis times angle, w
    translations: Tensor,  # (N, 1 + D, 3) v
    positions: Tensor,  # (N, 1 + D, 3) x
) -> Tensor:  # (N, 1 + D, 3)
    """Returns ``exp([w; v]) x``, the exponential map of SE(3) applied to positions.

    With s = |w|^2, a = sin|w| / |w|, b = (1 - cos|w|) / s and c = (1 - a) / s this is Rodrigues'
    ``R x + G v``: ``x + a w x x + b w x (w x x) + v + b w x v + c w x (w x v)``; no division by
    the angle remains (Nerfies, arXiv:2011.12948, Eq. 7 to 9).
    """
    squared = dot(rotations, rotations)
    a, b, c = (along(squared, *pair) for pair in _screw_factors(squared[:, :1]))
    turned, pushed = cross(rotations, positions), cross(rotations, translations)
    return (
        positions
        + product(a, turned)
        + product(b, cross(rotations, turned))
        + translations
        + product(b, pushed)
        + product(c, cross(rotations, pushed))
    )


def _screw_factors(squared: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns values and slopes, by the squared angle s, of a, b and c in `screw_motion`."""
    is_small = squared < _SERIES_END
    small = torch.where(is_small, squared, 0.0)
    large = torch.where(is_small, _SERIES_END, squared)
    angles = large.sqrt()
    a = angles.sin() / angles
    b = (1.0 - angles.cos()) / large
    c = (1.0 - a) / large
    closed = [(a, (c - b) / 2.0), (b, (a - 2.0 * b) / (2.0 * large))]
    closed.append((c, (b - 3.0 * c) / (2.0 * large)))
    factors = []
    for first, (value, slope) in zip((1, 2, 3), closed, strict=True):
        terms = [(-1.0) ** k / math.factorial(2 * k + first) for k in range(_SERIES_TERMS)]
        slopes = [k * term for k, term in enumerate(terms)][1:]
        factors.append(
            (
                torch.where(is_small, _polynomial(terms, small), value),
                torch.where(is_small, _polynomial(slopes, small), slope),
            )
        )
    return factors


def _polynomial(coefficients: list[float], at: Tensor) -> Tensor:
    total = torch.zeros_like(at)
    for coefficient in reversed(coefficients):
        total = total * at + coefficient
    return total
