"""What a device takes, between events or replayed from a recording; what it can do at most."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from resfields_ngp.transfers import collected

_MOST_SECONDS = 0.3
"""Of one measurement, as far as plain torch lets it."""
_REPEATED = 4
"""Times that a recording does its work: to start one takes some microseconds."""


def ceilings(device: torch.device, small: bool) -> tuple[float, float]:
    """Returns bytes per ms of a copy, and operations per ms of a half-precision product."""
    side = 256 if small else 8192
    kind = torch.float32 if small else torch.float16
    data = torch.randn(side, side, device=device).to(kind)
    target = torch.empty_like(data)
    copied = 2 * data.nbytes / milliseconds(lambda: target.copy_(data), device, small)
    multiplied = 2 * side**3 / milliseconds(lambda: data @ data, device, small)
    return copied, multiplied


def milliseconds(run: Callable[[], Any], device: torch.device, small: bool) -> float:
    """Returns the median ms of up to 20 runs, between events where there is a device."""
    n_warm, n_runs = (0, 1) if small else (2, 20)
    begun = time.perf_counter()
    for _ in range(n_warm):
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if time.perf_counter() > begun + _MOST_SECONDS:
            break
    found, until = [], time.perf_counter() + _MOST_SECONDS
    for _ in range(n_runs):
        if found and time.perf_counter() > until:
            break
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end))
        else:
            begun = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - begun))
    return max(median(found), 1e-6)


def recorded_milliseconds(run: Callable[[], Any], device: torch.device) -> float | None:
    """Returns the ms of work that is replayed from a CUDA graph, as training's steps are.

    Nothing of the host's time is in it. None where the work waits for the device, or else cannot be
    recorded; then the device's generator of random numbers begins anew.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        run()
        torch.cuda.synchronize(device)
        try:
            graph.capture_begin()
            try:
                with collected() as constants:
                    for _ in range(_REPEATED):
                        run()
            finally:
                graph.capture_end()
        except RuntimeError as error:
            print(f"not recorded: {str(error).splitlines()[0]}", file=sys.stderr)
            # A recording that failed leaves it waiting for the recording's end.
            fresh = torch.Generator(device).graphsafe_get_state()
            torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(fresh)
            return None
        taken = milliseconds(graph.replay, device, small=False)
    torch.cuda.current_stream(device).wait_stream(stream)
    del constants  # not before: the recording reads them
    return taken / _REPEATED
