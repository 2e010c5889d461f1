"""Frames' numbers as text: runs of them by their ends."""

from __future__ import annotations

from collections.abc import Iterable


def spans(numbers: Iterable[int]) -> str:
    """Returns distinct numbers in order, runs of three or more by their ends.

    >>> spans([7, 0, 1, 2, 3, 9, 8])
    '0 to 3, 7 to 9'
    >>> spans([4, 5])
    '4, 5'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )
