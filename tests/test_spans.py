from __future__ import annotations

import re

import numpy as np
import pytest

from resfields_ngp.spans import spans


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([5], "5"), ([5, 6], "5, 6"), ([6, 5, 7, 5], "5 to 7"), ([0, 2, 3, 4], "0, 2 to 4")],
)
def test_runs_are_told_by_their_ends(numbers: list[int], text: str):
    assert spans(numbers) == text


def test_text_says_the_same_numbers():
    generator = np.random.default_rng(0)
    for _ in range(50):
        numbers = generator.integers(0, 30, generator.integers(0, 30)).tolist()
        found: list[int] = []
        for part in filter(None, spans(numbers).split(", ")):
            ends = [int(end) for end in re.split(" to ", part)]
            found += range(ends[0], ends[-1] + 1)
        assert found == sorted(set(numbers))
