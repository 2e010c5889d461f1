from __future__ import annotations

import numpy as np

from resfields_ngp.prepare.matting import MattingConfig, cleaned, mask_from_plate


def test_shadows_are_not_the_figure_but_dark_and_bright_things_are():
    plate = np.full((40, 40, 3), (90, 120, 110), np.uint8)
    image = plate.copy()
    image[:10] = (63, 84, 77)  # the plate's hue, 30 % darker
    image[12:20] = 5
    image[22:30] = (190, 250, 230)
    image[32:] = (120, 90, 110)
    mask = mask_from_plate(image, plate, MattingConfig(clean=0, least=0))
    assert not mask[:9].any()
    assert mask[13:19].all() and mask[23:29].all() and mask[33:].all()


def test_cleaning_drops_specks_and_small_parts_and_closes_gaps():
    mask = np.zeros((60, 60), bool)
    mask[10:40, 10:40] = True
    mask[20, 20:30] = False
    mask[50, 50] = mask[5, 5] = True
    mask[45:55, 5:12] = True
    expected = np.zeros_like(mask)
    expected[10:40, 10:40] = True
    found = cleaned(mask, 2, 0.2)
    assert found[20, 20:30].all() and (found & ~expected).sum() == 0
    assert (found & expected).sum() > 0.97 * expected.sum()
    assert not cleaned(np.zeros((5, 5), bool), 1, 0.5).any()
