"""Ranges of settings: what lies outside is refused in one line, before anything is computed."""

from __future__ import annotations

import math


def check_ranges(table: str, settings: object, **ranges: tuple[float, float]) -> None:
    """Checks some fields of a table of settings.

    Args:
        table: What users call it, as in ``--table.name``.
        settings: The config whose attributes are looked at.
        **ranges: Least and greatest value allowed of each field, by its name; both inclusive.

    Raises:
        ValueError: One lies outside; the message names it, its value and what is allowed.

    >>> from types import SimpleNamespace
    >>> check_ranges("hull", SimpleNamespace(margin=0.5), margin=(0.0, 0.4))
    Traceback (most recent call last):
    ValueError: hull.margin is 0.5; allowed: 0 to 0.4
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            allowed = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
            raise ValueError(f"{table}.{name} is {value}; allowed: {allowed}")


def check_width(table: str, width: int) -> None:
    """Checks ``n_neurons`` of a network, which every backend's kernels have to take.

    Raises:
        ValueError: It is no multiple of 16 up to 128.
    """
    if width % 16 or not 16 <= width <= 128:
        raise ValueError(f"{table}.n_neurons is {width}; allowed: 16, 32, .. 128")
