"""Laws of texture look-ups: exact where magnified, averages where minified, no seams."""

from __future__ import annotations

import numpy as np
import pytest

from resfields_ngp.prepare.textures import MipTexture, covered_texels


def _footprints(n: int, across: float, down: float) -> np.ndarray:
    """Returns (n, 2, 2) footprints along the axes, in uv."""
    return np.broadcast_to(np.diag([across, -down]), (n, 2, 2))


def _uvs(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, 2))


@pytest.mark.parametrize("size", [(16, 16), (13, 27), (1, 1)])
@pytest.mark.parametrize("width", [1e-4, 0.05, 3.0])
def test_one_colour_stays_that_colour(size: tuple[int, int], width: float):
    texture = np.full((*size, 3), (10, 100, 250), np.uint8)
    found = MipTexture.build(texture).sample(_uvs(50), _footprints(50, width, width / 7))
    np.testing.assert_allclose(found, np.tile([[10, 100, 250]], (50, 1)), atol=1e-3)


def test_a_magnified_ramp_is_linear_between_texel_centres():
    texture = np.repeat(np.arange(0, 256, 16, dtype=np.uint8)[None, :, None], 16, axis=0)
    uvs = np.stack([np.linspace(0.5 / 16, 15.5 / 16, 40), np.full(40, 0.4)], 1)
    found = MipTexture.build(np.repeat(texture, 3, 2)).sample(uvs, _footprints(40, 1e-3, 1e-3))
    np.testing.assert_allclose(found[:, 0], (uvs[:, 0] * 16 - 0.5) * 16, atol=1e-2)


def test_the_first_row_is_at_the_top_of_v():
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[0] = 255
    uvs = np.array([[0.5, 15 / 16], [0.5, 1 / 16]])
    assert MipTexture.build(texture).sample(uvs, _footprints(2, 1e-3, 1e-3))[:, 0].tolist() == [
        255,
        0,
    ]


def test_outside_the_square_a_texture_repeats():
    texture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mips, uvs = MipTexture.build(texture), _uvs(100)
    footprints = _footprints(100, 0.07, 0.02)
    expected = mips.sample(uvs, footprints)
    for shift in ([1, 0], [0, -1], [-3, 2]):
        # Single precision of the shifted coordinates is all that differs.
        np.testing.assert_allclose(mips.sample(uvs + shift, footprints), expected, atol=0.02)


def test_a_fine_checker_seen_from_afar_is_grey_not_noise():
    rows, columns = np.mgrid[:256, :256]
    texture = np.repeat((255 * ((rows + columns) % 2))[..., None], 3, 2).astype(np.uint8)
    mips = MipTexture.build(texture)
    for across, down in ((8 / 256, 8 / 256), (8 / 256, 2 / 256), (2 / 256, 30 / 256)):
        found = mips.sample(_uvs(500), _footprints(500, across, down))
        assert np.abs(found - 127.5).max() < 3


def test_a_slanted_look_keeps_stripes_along_its_footprint():
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:, 16:48] = 255
    uvs = np.array([[0.5, 0.5], [0.1, 0.5]])
    # Eight texels along the stripes, one across: an even blur of eight would mix both colours
    # near the rim, an anisotropic one does not.
    found = MipTexture.build(texture).sample(uvs, _footprints(2, 1 / 64, 8 / 64))
    np.testing.assert_allclose(found[:, 0], [255, 0], atol=1e-3)
    near_rim = MipTexture.build(texture).sample(
        np.array([[18 / 64, 0.5]]), _footprints(1, 1 / 64, 8 / 64)
    )
    assert near_rim[0, 0] > 250


def test_filtering_approaches_the_mean_over_the_footprint():
    texture = np.random.default_rng(3).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    mips = MipTexture.build(texture)
    side = 32
    means = texture.reshape(128 // side, side, 128 // side, side, 3).mean(axis=(1, 3))
    rows, columns = np.mgrid[: 128 // side, : 128 // side]
    uvs = np.stack([(columns + 0.5) * side / 128, 1 - (rows + 0.5) * side / 128], -1)
    found = mips.sample(uvs.reshape(-1, 2), _footprints(16, side / 128, side / 128))
    # The level of 32 texels holds the blocks' means, rounded once a level.
    np.testing.assert_allclose(found.reshape(means.shape), means, atol=1.0)


def test_black_gutters_do_not_bleed_into_a_chart():
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[20:40, 10:30] = (200, 100, 50)
    square = np.array([[10, 24], [30, 24], [30, 44], [10, 44]]) / 64  # rows 20 to 40 from below
    corners = square[[[0, 1, 2], [0, 2, 3]]]
    covered = covered_texels(corners, 64, 64)
    mips = MipTexture.build(texture, covered)
    uvs = square[0] + _uvs(300) * (square[2] - square[0])
    for width in (0.3 / 64, 4 / 64, 12 / 64):
        found = mips.sample(uvs, _footprints(300, width, width))
        np.testing.assert_allclose(found, np.tile([[200, 100, 50]], (300, 1)), atol=1.5)


def test_covered_texels_agree_with_brute_force():
    random = np.random.default_rng(5)
    corners = random.uniform(0, 1, (20, 3, 2))
    width, height = 37, 23
    x, y = (np.arange(width) + 0.5) / width, 1 - (np.arange(height) + 0.5) / height
    centres = np.stack(np.meshgrid(x, y), -1)[:, :, None]
    a, b, c = (corners[:, i] for i in range(3))
    sides = [
        (q[:, 0] - p[:, 0]) * (centres[..., 1] - p[:, 1])
        - (q[:, 1] - p[:, 1]) * (centres[..., 0] - p[:, 0])
        for p, q in ((a, b), (b, c), (c, a))
    ]
    inside = (np.stack(sides) >= 0).all(0) | (np.stack(sides) <= 0).all(0)
    large = inside.any(axis=(0, 1))
    assert large.sum() > 15
    covered = covered_texels(corners[large], width, height)
    np.testing.assert_array_equal(covered, inside.any(axis=2))


def test_a_triangle_that_is_a_point_covers_what_a_look_up_there_reads():
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[3:5, 1:3] = 200
    point = np.full((1, 3, 2), (2 / 8, 0.5))
    covered = covered_texels(point, 8, 8)
    assert covered is not None and covered.sum() == 4
    found = MipTexture.build(texture, covered).sample(point[0, :1], _footprints(1, 0, 0))
    assert found.tolist() == [[200, 200, 200]]


def test_repeating_textures_have_no_gutters():
    corners = np.array([[[0, 0], [2, 0], [0, 1.0]]])
    assert covered_texels(corners, 8, 8) is None
    assert covered_texels(np.full((1, 3, 2), np.nan), 8, 8) is None
