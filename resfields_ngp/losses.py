"""Losses: pure functions, one equation each; all are means: weights do not depend on batch size.

Vocabulary: rgbs, opacities and masks in [0, 1]; gradients of the signed distance by model position.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; 0 switches a term off."""

    colour: float = 1.0
    """Colour of all pixels, where there are masks before a random backdrop (see `mask`)."""
    colour_kind: Literal["l1", "huber"] = "huber"
    """l1 (NeuS) or huber (quadratic below 0.1)."""
    mask: float = 0.01
    """Binary cross-entropy of opacity and mask (IDR, NeuS). Colours are compared on a random
    backdrop, which already tells the outline: more than a little of this one freezes the surface
    in the visual hull."""
    eikonal: float = 0.1
    """Unit gradient of the signed distance (IGR, arXiv:2002.10099)."""
    hull: float = 1.0
    """The signed distance is nowhere less than the visual hull's, which contains the subject; and
    pixels of a mask that rays pass through draw the surface near (`surface_losses.silhouette`)."""
    depth: float = 0.1
    """L1 of rendered and measured depth along the ray, model units; needs depth images."""
    sparseness: float = 0.1
    """Pushes the signed distance off 0 away from the surface (SparseNeuS, arXiv:2206.05737)."""
    area: float = 0.015
    """Area of convex parts: draws in what no view holds, such as a wedge behind a flat back. Fades
    out by half of training."""
    albedo: float = 0.15
    """Albedos of one hue change little from place to place (Retinex), so that normals explain the
    shades; counts where the head tells them apart."""
    curvature: float = 0.0
    """Similar normals a small step apart on the surface (after Neuralangelo, arXiv:2306.03092); of
    a density in a visual hull, similar slopes of its logarithm: `bending_loss`."""
    distortion: float = 0.01
    """Density heads without masks: what a ray sees lies close together (mip-NeRF 360,
    arXiv:2111.12077)."""
    smoothness: float = 0.0
    """Time residuals' coefficients change little from frame to frame."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "colour_kind"):
            if getattr(self, name) < 0.0:
                raise ValueError(
                    f"losses.{name} is {getattr(self, name)}; allowed: 0 (off) or more"
                )
        if self.colour_kind not in ("l1", "huber"):
            raise ValueError(f"losses.colour_kind is {self.colour_kind!r}; allowed: l1, huber")


def colour_loss(
    rgbs: Tensor,  # (R, 3) rendered
    targets: Tensor,  # (R, 3)
    weights: Tensor | None,  # (R,) 1 where a pixel counts, else 0; None counts all
    kind: Literal["l1", "huber"] = "l1",
) -> Tensor:  # ()
    """Mean colour error over pixels that count (NeuS, Eq. 15)."""
    errors = rgbs - targets
    if kind == "huber":
        delta = 0.1
        size = errors.abs()
        errors = torch.where(size < delta, errors * errors / (2.0 * delta), size - 0.5 * delta)
    return _mean(errors.abs().mean(1), weights)


def mask_loss(
    opacities: Tensor,  # (R,)
    masks: Tensor,  # (R,)
    weights: Tensor | None = None,  # (R,) 1 where a pixel counts, else 0; None counts all
) -> Tensor:  # ()
    """Binary cross-entropy of opacity and mask (NeuS, Eq. 16), mean over all pixels."""
    clamped = opacities.clamp(1e-3, 1.0 - 1e-3)
    # Written out: torch's own refuses NaN with an error that names neither term nor step.
    likelihoods = masks * clamped.log() + (1.0 - masks) * torch.log1p(-clamped)
    if weights is not None:
        likelihoods = likelihoods * weights
    return -likelihoods.sum() / max(opacities.shape[0], 1)


def eikonal_loss(
    gradients: Tensor,  # (N, 3)
) -> Tensor:  # ()
    """``mean (|grad f| - 1)^2`` (IGR, Eq. 2)."""
    norms = (gradients * gradients).sum(1).clamp(min=1e-12).sqrt()
    return ((norms - 1.0) ** 2).sum() / max(gradients.shape[0], 1)


def hull_loss(
    sdfs: Tensor,  # (N,)
    hull_distances: Tensor,  # (N,) signed distance to the visual hull
) -> Tensor:  # ()
    """``mean max(0, d_hull - f)``: the subject lies in its hull, so is at least as far as it."""
    return (hull_distances - sdfs).relu().sum() / max(sdfs.shape[0], 1)


def depth_loss(
    depths: Tensor,  # (R,) rendered: sum of weight times distance
    opacities: Tensor,  # (R,)
    targets: Tensor,  # (R,) measured, 0 where unknown
) -> Tensor:  # ()
    """Mean absolute error of depth where it was measured, in model units."""
    known = (targets > 0).to(depths.dtype)
    return ((depths - opacities * targets).abs() * known).sum() / known.sum().clamp(min=1.0)


def sparseness_loss(
    sdfs: Tensor,  # (N,)
    sharpness: float = 100.0,
) -> Tensor:  # ()
    """``mean exp(-sharpness |f|)`` (SparseNeuS, Eq. 11)."""
    return torch.exp(-sharpness * sdfs.abs()).sum() / max(sdfs.shape[0], 1)


def area_loss(
    sdfs: Tensor,  # (N,) on the surface
    around: Tensor,  # (N,) mean at the corners of a tetrahedron about each, so far away
    reach: float,
    weights: Tensor | None = None,  # (N,) 1 where it counts, else 0
) -> Tensor:  # ()
    """``-mean max(0, kappa) f`` with kappa held fixed: mean curvature flow of what is convex.

    Surface area changes by ``-integral of kappa df`` where the distance f changes by df; kappa, the
    sum of the principal curvatures, is f's Laplacian, here 6 / reach^2 times what f lacks of the
    mean around it. Unlike curvature itself, whose sum over a ridge is the same wherever that lies,
    it moves a ridge. It comes to rest where the surface is flat or a saddle.
    """
    lacking = (around - sdfs).detach() * (6.0 / reach**2)
    return -_mean(lacking.clamp(0.0, 1.0 / reach) * sdfs, weights)


def curvature_loss(
    gradients: Tensor,  # (N, 3)
    neighbour_gradients: Tensor,  # (N, 3) a small step along the surface away
    weights: Tensor | None = None,  # (N,) 1 where it counts, else 0
) -> Tensor:  # ()
    """``mean (1 - cos)`` of the angle between neighbouring normals."""
    cosines = torch.nn.functional.cosine_similarity(gradients, neighbour_gradients, dim=1, eps=1e-6)
    return _mean(1.0 - cosines, weights)


def albedo_loss(
    albedos: Tensor,  # (N, 3)
    neighbour_albedos: Tensor,  # (N, 3) a small step away
    weights: Tensor | None = None,  # (N,) 1 where it counts, else 0
) -> Tensor:  # ()
    """``mean exp(-|c - c'|_1 / 0.04) |a - a'|``, where c is an albedo a's hue, held fixed.

    Light changes the brightness of a surface, hardly its hue: a change of brightness alone is put
    down to it (colour Retinex; Land and McCann 1971, Grosse et al. 2009).
    """
    changes = (albedos - neighbour_albedos).abs().mean(1)
    hue_changes = (_hues(albedos) - _hues(neighbour_albedos)).abs().sum(1)
    return _mean(changes * torch.exp(-hue_changes / 0.04), weights)


def _hues(
    albedos: Tensor,  # (N, 3)
) -> Tensor:  # (N, 3)
    """Returns colours over their sum; near black they are less sure, and less apart."""
    coloured = albedos.detach().clamp(min=0.0)
    return coloured / (coloured.sum(1, keepdim=True) + 0.1)


def bending_loss(
    levels: Tensor,  # (N,)
    ahead: Tensor,  # (N,) a step away
    behind: Tensor,  # (N,) the same step in the opposite direction
    step: float,
    weights: Tensor | None = None,  # (N,) 1 where it counts, else 0
) -> Tensor:  # ()
    """``mean |f(x + d) - 2 f(x) + f(x - d)| / step``: 0 where f is linear, as a flat wall's is.

    The absolute value lets slopes change in few places (total variation of the gradient), as at a
    subject's outline. Needs no derivatives by position.
    """
    return _mean((ahead + behind - 2.0 * levels).abs() / step, weights)


def _mean(
    values: Tensor,  # (N,)
    weights: Tensor | None,  # (N,) 1 where a value counts, else 0; None counts all
) -> Tensor:  # ()
    """Returns the mean of the values that count, 0 of none."""
    if weights is None:
        return values.sum() / max(values.shape[0], 1)
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def silhouette_loss(
    sdfs: Tensor,  # (N,) along the rays
    ray_indices: Tensor,  # (N,)
    n_rays: int,
    n_pixels: int,
    weights: Tensor | None = None,  # (n_rays,) how often each ray counts
) -> Tensor:  # ()
    """``sum over rays of max(0, min sdf) / n_pixels``: rays of the subject meet it (IDR, Eq. 7).

    Unlike an opacity it has a gradient however far away the surface is. Rays without samples do not
    count.
    """
    lowest = sdfs.new_full((n_rays,), float("inf"))
    lowest = lowest.scatter_reduce(0, ray_indices, sdfs, "amin")
    missed = torch.where(torch.isposinf(lowest), torch.zeros_like(lowest), lowest.relu())
    if weights is not None:
        missed = missed * weights
    return missed.sum() / max(n_pixels, 1)


def distance_loss(
    sdfs: Tensor,  # (N,)
    targets: Tensor,  # (N,)
    epsilon: float | None,
) -> Tensor:  # ()
    """Mean absolute error of signed distances, relative to ``|target| + epsilon`` where given.

    The relative one is ResFields' MAPE (after NGLOD and instant-NGP).
    """
    errors = (sdfs - targets).abs()
    if epsilon is not None:
        errors = errors / (targets.abs() + epsilon)
    return errors.sum() / max(errors.shape[0], 1)


def distortion_loss(
    weights: Tensor,  # (N,)
    middles: Tensor,  # (N,) distances along the rays, model units
    lengths: Tensor,  # (N,)
    ray_indices: Tensor,  # (N,) ascending
    n_rays: int,
) -> Tensor:  # ()
    """``mean sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 d_i`` over rays (mip-NeRF 360, Eq. 15).

    In order of distance the double sum is one over prefix sums.
    """
    if not weights.shape[0]:
        return weights.sum()
    first = torch.searchsorted(ray_indices, ray_indices)
    moments = torch.stack([weights, weights * middles], dim=1).double()
    before = torch.cumsum(moments, 0) - moments
    masses, sums = (before - before[first]).to(weights.dtype).unbind(1)
    between = 2.0 * (weights * (middles * masses - sums)).sum()
    within = (weights * weights * lengths).sum() / 3.0
    return (between + within) / max(n_rays, 1)
