"""Small numbers on their way to the device and back, without the host waiting for it.

A copy from ordinary memory, or the reading of a number, waits until the device has done all that
it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor


class MovingFrames(tuple[int, ...]):
    """Frames whose numbers the device reads from a tensor of its own, which can be overwritten.

    What is recorded with them can be replayed with others. As a tuple they are those they were
    made with: only how many they are holds for all.
    """

    numbers: Tensor
    """(T,) int64, where the device computes."""

    def __new__(cls, frames: tuple[int, ...], device: torch.device) -> MovingFrames:
        moving = super().__new__(cls, frames)
        moving.numbers = on_device(frames, device).clone()
        return moving

    def move(self, frames: tuple[int, ...]) -> None:
        """Writes as many other frames."""
        self.numbers.copy_(sent(torch.tensor(frames), self.numbers.device))


def on_device(
    values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Returns numbers as a tensor on the device; not to be written to, it is kept for a while."""
    if isinstance(values, MovingFrames):
        return values.numbers
    kept = _kept(values, device, dtype)
    for collection in _collections:
        collection.append(kept)
    return kept


_collections: list[list[Tensor]] = []


@contextmanager
def collected() -> Iterator[list[Tensor]]:
    """Collects what `on_device` returns meanwhile: who reads it again later must hold on to it."""
    found: list[Tensor] = []
    _collections.append(found)
    try:
        yield found
    finally:
        _collections.pop()


@lru_cache(maxsize=256)
def _kept(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns numbers on the device; a step asks for the same few again and again."""
    return sent(torch.tensor(values, dtype=dtype), device)


def sent(host: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor of the CPU's on the device."""
    if device.type == "cpu":
        return host
    return host.pin_memory().to(device, non_blocking=True)


class Follower:
    """A number of the device's as the host knows it: as it was when it was last asked for.

    The copy is under way from one time to the next; a step waits once in between, for its samples.
    """

    def __init__(self) -> None:
        self._seen: Tensor | None = None

    def known(self, value: Tensor) -> float:
        """Returns what `value` () was the last time; the first time it waits."""
        if self._seen is None:
            self._seen = value.detach().to("cpu", copy=True)
            self._seen = self._seen.pin_memory() if value.is_cuda else self._seen
        known = float(self._seen.numpy())
        self._seen.copy_(value.detach(), non_blocking=True)
        return known
