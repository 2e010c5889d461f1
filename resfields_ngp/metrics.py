"""Measures of pictures and surfaces, each one a pure function named for its convention.

Vocabulary
    pictures    (H, W, 3) floats in [0, 1]; masks (H, W) bool, True on the subject.
    points      (N, 3) samples of the surface found; `truth` (M, 3) samples of the true one.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import KDTree

from .interruption import interrupts_held

_LEAST_ERROR = 1e-10  # 100 dB: identical pictures have a finite PSNR, so that means stay finite


def psnr(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Returns the peak signal-to-noise ratio in dB for a peak of 1, over the mask if one is given.

    One mean squared error over all pixels and channels; 100 dB at most, NaN for an empty mask.
    """
    errors = (picture.astype(np.float64) - truth) ** 2
    if mask is not None:
        errors = errors[mask]
    if errors.size == 0:
        return float("nan")
    return float(-10 * np.log10(max(errors.mean(), _LEAST_ERROR)))


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Returns the structural similarity of Wang et al. 2004: Gaussian window 11 x 11, sigma 1.5.

    The mean over channels and over the pixels whose window lies in the picture, for a peak of 1;
    K1 = 0.01, K2 = 0.03. NaN for pictures smaller than the window.
    """
    if min(picture.shape[:2]) < 11:
        return float("nan")
    x, y = picture.astype(np.float64), truth.astype(np.float64)

    def local_mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x**2
    variance_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((luminance * structure).mean())


def surface_distances(
    points: np.ndarray,  # (N, 3)
    truth: np.ndarray,  # (M, 3)
    norm: int = 2,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Finds the nearest neighbours of two point sets in each other.

    Args:
        points: Samples of the surface found.
        truth: Samples of the true surface.
        norm: 2 for Euclidean distances, 1 for sums of absolute differences.

    Returns:
        (N,) distances of points to truth, (N,) indices of those neighbours, (M,) distances of truth
        to points, (M,) indices.
    """
    # Two workers at most: more would crowd out whatever else shares the machine. Left alone by an
    # interrupt, they write into memory that is gone.
    with interrupts_held():
        to_truth, of_points = KDTree(truth).query(points, p=norm, workers=2)
        to_points, of_truth = KDTree(points).query(truth, p=norm, workers=2)
    return to_truth, np.asarray(of_points), to_points, np.asarray(of_truth)


def surface_scores(
    points: np.ndarray,  # (N, 3)
    normals: np.ndarray,  # (N, 3) unit
    truth: np.ndarray,  # (M, 3)
    truth_normals: np.ndarray | None,  # (M, 3) unit
    threshold: float = 0.01,
) -> dict[str, float]:
    """Compares samples of a surface with samples of the true one, Euclidean.

    Returns:
        accuracy: mean distance from the points to the truth; completeness: from the truth to the
        points; chamfer: their **sum**; f_score: harmonic mean of the parts within `threshold`;
        normal_consistency: mean absolute cosine between nearest neighbours, both ways averaged,
        where the truth has normals.
    """
    to_truth, of_points, to_points, of_truth = surface_distances(points, truth)
    accuracy, completeness = to_truth.mean(), to_points.mean()
    precision, recall = (to_truth < threshold).mean(), (to_points < threshold).mean()
    scores = {
        "chamfer": accuracy + completeness,
        "accuracy": accuracy,
        "completeness": completeness,
        "f_score": 2 * precision * recall / max(precision + recall, 1e-12),
    }
    if truth_normals is not None:
        there = np.abs((normals * truth_normals[of_points]).sum(1)).mean()
        back = np.abs((truth_normals * normals[of_truth]).sum(1)).mean()
        scores["normal_consistency"] = (there + back) / 2
    return {name: float(score) for name, score in scores.items()}


def chamfer_resfields(
    points: np.ndarray,  # (N, 3)
    truth: np.ndarray,  # (M, 3)
) -> float:
    """Returns the Chamfer distance as ResFields' code prints it: L1 norm, both ways summed, x 1000.

    Neighbours are nearest in the L1 norm too, as with ``chamfer_distance(norm=1)`` of PyTorch3D.
    """
    to_truth, _, to_points, _ = surface_distances(points, truth, norm=1)
    return float(1000 * (to_truth.mean() + to_points.mean()))


def silhouette_iou(silhouette: np.ndarray, mask: np.ndarray) -> float:
    """Returns the intersection over union of two (H, W) masks; NaN where both are empty."""
    union = (silhouette | mask).sum()
    return float((silhouette & mask).sum() / union) if union else float("nan")
