"""Laws of the measures: closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from resfields_ngp.metrics import (
    chamfer_resfields,
    psnr,
    silhouette_iou,
    ssim,
    surface_scores,
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape)


def test_psnr_of_known_noise() -> None:
    truth = noise(200, 200, 3)
    picture = truth + np.random.default_rng(1).normal(0, 0.1, truth.shape)
    assert psnr(picture, truth) == pytest.approx(20.0, abs=0.05)
    assert psnr(truth, truth) == 100.0


def test_masked_psnr_sees_the_mask_only() -> None:
    truth, mask = np.zeros((8, 8, 3)), np.zeros((8, 8), bool)
    mask[2:4] = True
    picture = np.where(mask[..., None], 0.1, 0.7)
    assert psnr(picture, truth, mask) == pytest.approx(20.0)
    assert np.isnan(psnr(picture, truth, np.zeros_like(mask)))


def test_ssim_of_a_picture_with_itself_is_one() -> None:
    picture = noise(32, 40, 3)
    assert ssim(picture, picture) == pytest.approx(1.0)
    assert np.isnan(ssim(picture[:5], picture[:5]))


def test_ssim_equals_brute_force() -> None:
    x, y = noise(16, 18, 3), noise(16, 18, 3, seed=1)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window = (window / window.sum())[..., None]
    found = []
    for row in range(5, 11):
        for column in range(5, 13):
            place = np.s_[row - 5 : row + 6, column - 5 : column + 6]
            mean_x, mean_y = (window * x[place]).sum((0, 1)), (window * y[place]).sum((0, 1))
            var_x = (window * (x[place] - mean_x) ** 2).sum((0, 1))
            var_y = (window * (y[place] - mean_y) ** 2).sum((0, 1))
            both = (window * (x[place] - mean_x) * (y[place] - mean_y)).sum((0, 1))
            top = (2 * mean_x * mean_y + 1e-4) * (2 * both + 9e-4)
            found.append(top / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4)))
    assert ssim(x, y) == pytest.approx(np.mean(found), rel=1e-9)


def test_ssim_equals_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x = noise(40, 50, 3)
    y = np.clip(x + 0.1 * noise(40, 50, 3, seed=1), 0, 1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = metrics.structural_similarity(x, y, channel_axis=2, data_range=1.0, **options)
    assert ssim(x, y) == pytest.approx(expected, rel=1e-6)


def plane(height: float, seed: int) -> np.ndarray:
    return np.hstack([noise(20_000, 2, seed=seed), np.full((20_000, 1), height)])


def test_scores_of_parallel_planes() -> None:
    upwards = np.tile([0.0, 0.0, 1.0], (20_000, 1))
    tilted = np.tile([0.6, 0.0, -0.8], (20_000, 1))
    found = surface_scores(plane(0.05, 0), upwards, plane(0.0, 1), tilted, threshold=0.01)
    # Neighbours on the other plane are off to the side by about half the spacing of the samples.
    assert found["accuracy"] == pytest.approx(0.05, rel=0.01)
    assert found["chamfer"] == pytest.approx(found["accuracy"] + found["completeness"])
    assert found["normal_consistency"] == pytest.approx(0.8)
    assert found["f_score"] == 0.0


def test_f_score_is_the_harmonic_mean() -> None:
    near = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    truth = np.array([[0.005, 0, 0], [5.0, 0, 0], [6.0, 0, 0], [7.0, 0, 0]])
    found = surface_scores(near, near, truth, None, threshold=0.01)
    assert found["f_score"] == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    assert "normal_consistency" not in found


def test_chamfer_resfields_is_l1_summed_and_in_thousandths() -> None:
    points, truth = np.array([[0.0, 0.0, 0.0]]), np.array([[0.01, 0.02, -0.03]])
    assert chamfer_resfields(points, truth) == pytest.approx(120.0)
    assert surface_scores(points, points, truth, None)["chamfer"] == pytest.approx(0.02 * 14**0.5)


def test_chamfer_resfields_takes_neighbours_in_its_own_norm() -> None:
    # The Euclidean neighbour of the origin is the diagonal point, the L1 neighbour the other.
    truth = np.array([[0.9, 0.0, 0.0], [0.5, 0.5, 0.5]])
    there, back = 0.9, (0.9 + 1.5) / 2
    assert chamfer_resfields(np.zeros((1, 3)), truth) == pytest.approx(1000 * (there + back))


def test_iou_of_shifted_squares() -> None:
    a, b = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    a[5:15, 2:12], b[5:15, 7:17] = True, True
    assert silhouette_iou(a, b) == pytest.approx(50 / 150)
    assert np.isnan(silhouette_iou(a & ~a, b & ~b))
