"""Masks for captures without any, whose subject stands before a plain backdrop: they are keyed.

A surface the colour of a black backdrop explains what is seen of the backdrop as well as empty
space does; nothing but the mask tells the two apart. Where a stage is not plain, ``prepare video``
takes masks from pictures of it (`prepare.matting`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from .base import Capture, check_masks

BORDER_SHARE = 0.75
"""Part of each picture's border that has to show the backdrop; the rest may cut the subject."""
MOST_NOISE = 6.0
"""Grey levels out of 255 by which that part may differ from the backdrop's colour."""
LEAST_DIFFERENCE = 4.0
"""Grey levels from which a pixel may be the subject, where the backdrop has no noise."""
EDGE_SHARE = 0.3
"""A pixel at the edge is taken to be half covered where it differs by this part of the largest
difference around it: less than a half, for what it shows may differ by less than that neighbour."""
SPECK = 1e-4
"""Part of a picture below which spots of subject, and holes in it, are noise."""


def with_keyed_masks(capture: Capture) -> Capture:
    """Returns the capture with masks if it has none and every picture shows a plain backdrop.

    Each camera may have a backdrop of its own. The held-out view gets masks where it can.
    """
    if any(view.masks is not None for view in capture.views):
        return capture
    keyed = []
    for view in capture.views:
        masks = keyed_masks(view.images, view.unseen)
        if masks is None:
            return capture
        keyed.append(replace(view, masks=masks))
    if not np.any([view.masks.any(axis=(1, 2)) for view in keyed], axis=0).all():
        return capture
    test = capture.test_view
    if test is not None and test.masks is None:
        test = replace(test, masks=keyed_masks(test.images, test.unseen))
    note = (
        "no masks, but a plain backdrop: what differs from it is taken for the subject "
        "(capture.use_masks = false takes the pictures as they are)"
    )
    faults = check_masks(keyed, test, capture.frame_numbers, capture.name)
    warnings = (*capture.warnings, note, *faults)
    return replace(capture, views=tuple(keyed), test_view=test, warnings=warnings)


def keyed_masks(
    images: np.ndarray,  # (n_frames, H, W, 3) uint8
    unseen: np.ndarray | None = None,  # (n_frames, H, W) bool
) -> np.ndarray | None:  # (n_frames, H, W) bool
    """Returns where pictures of one camera differ from its backdrop; None where one is not plain.

    A picture's mask depends on that picture alone: it is the same whichever frames are loaded.

    Args:
        images: The pictures.
        unseen: Where they show nothing, which is no part of the backdrop; None where all is seen.
    """
    masks = []
    for frame, image in enumerate(images):
        seen = np.ones(image.shape[:2], bool) if unseen is None else ~unseen[frame]
        border = image[seen & ~ndimage.binary_erosion(seen, np.ones((3, 3)))]
        colour = np.median(border, axis=0)
        off = np.abs(border - colour).max(axis=1)
        noise = float(np.quantile(off, BORDER_SHARE))
        if noise > MOST_NOISE:
            return None
        masks.append(_keyed(image, colour, max(LEAST_DIFFERENCE, 3.0 * noise), seen))
    return np.stack(masks)


def _keyed(image: np.ndarray, colour: np.ndarray, least: float, seen: np.ndarray) -> np.ndarray:
    """Returns (H, W) where a picture differs from a colour by more than `least`."""
    differences = np.abs(image - colour).max(axis=2) * seen
    mask = differences > least
    # At its edge a pixel shows both; it is the subject's where that covers half of it or more.
    is_edge = mask & ndimage.binary_dilation(~mask)
    mask &= ~(is_edge & (differences < EDGE_SHARE * ndimage.maximum_filter(differences, 3)))
    return ~_without_specks(~_without_specks(mask)) & seen


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Returns a mask without its connected parts that are smaller than a `SPECK`."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3)), output=labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= SPECK * mask.size)[labels]
