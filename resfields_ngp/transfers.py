"""Small numbers on their way to the device, without the host waiting for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def on_device(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Returns integers as an int64 tensor on the device; not to be written to, it is kept.

    A copy from ordinary memory waits until the device has done all that it was given. A step asks
    for the same few bounds again and again.
    """
    host = torch.tensor(values, dtype=torch.int64)
    if device.type == "cpu":
        return host
    return host.pin_memory().to(device, non_blocking=True)
