"""How the processor's threads wait for each other; to be said before torch loads OpenMP."""

from __future__ import annotations

import os

SPIN_COUNT = "20000"
"""Turns that a waiting thread spins before it sleeps: some ten microseconds."""


def spin_shortly() -> None:
    """Sets `SPIN_COUNT` for GNU's OpenMP, where the environment does not say otherwise.

    Torch's threads and those of the numba kernels take turns within a step. One that spins for
    milliseconds, as by default, holds up the others' start; one that sleeps at once misses its
    own next loop.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
