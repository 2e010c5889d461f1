"""How programs share a frame's rows: a few ways, of which the fastest on the GPU at hand is taken.

A tile's products wait for one another, so what counts is how many rows a multiprocessor has under
way; how many that can be, registers, the compiler's version and the architecture decide. So a
network's first large launch of each kind tries them all, on its own rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, cast

import torch
from torch import Tensor
from triton.testing import do_bench

from ..specs import MlpSpec
from .launching import compiling

Precision = Literal["float16", "bfloat16", "float32"]
"""Operands of matrix products. float16 resolves positions to 1/4000 of the box, bfloat16 only to
1/500; float32 is for comparison."""

LEAST_ROWS = 1 << 17
"""Of a launch that is worth measuring."""
TOLERANCE, LARGEST = 0.003, 0.1
"""Of the results of a tiling against the first one's: by the norm, for all round alike, and of any
of them by the largest, for an activation near its bend may fall to its other side."""
_WAVES = (2, 3, 4, 6, 8)
_WARM_MS, _TIMED_MS = 2, 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tiling:
    """How programs share the rows of a frame, and what of a multiprocessor each takes."""

    rows: int = 16
    """Of a tile's products: the least that tensor cores take. In the backward pass a row of jets
    counts as often as it has parts."""
    n_warps: int = 4
    """Of a program."""
    n_registers: int | None = None
    """Most of a thread; None leaves them to the compiler."""
    n_waves: int = 2
    """Programs for each multiprocessor: as many as run at once, or a multiple."""
    holds_weights: bool = True
    """Whether matrices stay on the chip, or come from the cache each time."""
    is_tall: bool = False
    """Whether a warp has rows of its own, of which there are to be 16 for each, with all columns:
    then warps do not wait for one another between layers, but a thread holds four times as much.
    Otherwise a warp has columns of its own. The compiler shares products by their longer side."""

    def __str__(self) -> str:
        registers = "any" if self.n_registers is None else self.n_registers
        sizes = f"{self.rows} rows, {self.n_warps} warps, {registers} registers, {self.n_waves}"
        return f"{sizes} waves{', tall' * self.is_tall}{', loading' * (not self.holds_weights)}"


@cache
def tilings_of(
    spec: MlpSpec, precision: Precision, is_backward: bool, on_tensor_cores: bool = True
) -> tuple[Tiling, ...]:
    """Returns ways to share a network's rows, first the one to take where none is measured.

    The others are the fastest that ``gpu_check.py --parts tilings`` found of more, and those that
    disassembly lets hope for on other architectures.

    Args:
        spec: The network.
        precision: Operands of its products.
        is_backward: Whether for the way back.
        on_tensor_cores: See `launching.has_tensor_cores`.
    """
    if not on_tensor_cores:
        return (Tiling(16, 8, holds_weights=False),)  # others spill by the thousand bytes
    # What stays in the registers leaves room for the rest of two hidden layers of 64 neurons.
    holds_weights = spec.n_weights <= 1 << 13
    is_wide = max(spec.n_neurons, spec.shapes[0][1]) > 64
    if is_wide or not holds_weights or precision == "float32":
        n_warps = 8 if is_wide or not (holds_weights or is_backward) else 4
        return (Tiling(16, n_warps, None, 4, holds_weights=holds_weights),)
    # With so few registers a third program fits on a multiprocessor.
    is_small = spec.n_hidden_layers <= 1
    if is_backward:
        return (Tiling(32), Tiling(64), *([Tiling(32, 4, 168, 3)] if is_small else []))
    plain, dense = Tiling(), Tiling(16, 4, 168, 3)
    is_dense = is_small and precision == "float16" and spec.activation != "softplus"
    usual = (dense, plain) if is_dense else (plain, dense)
    return (*usual, Tiling(64, 4, None, 4, is_tall=True), Tiling(16, 1, None, 16, is_tall=True))


@dataclass(frozen=True)
class Choice:
    """What was measured for one kind of launch."""

    taken: Tiling
    """The fastest whose results agree with the first one's."""
    milliseconds: dict[Tiling, float]
    """Of each that ran and agrees."""


@dataclass(frozen=True)
class LaunchKind:
    """What a kernel is compiled for besides its tiling, and where it runs."""

    kernel: str
    spec: MlpSpec
    n_inputs: int
    precision: Precision
    constants: tuple[tuple[str, int], ...]
    """Of this kernel: tangents, and which gradients are wanted."""
    device: torch.device


CHOICES: dict[LaunchKind, Choice] = {}
"""What was measured in this process."""


def fastest(
    kind: LaunchKind,
    tilings: Sequence[Tiling],
    start: Callable[[Tiling, Sequence[Tensor]], None],
    results: Sequence[Tensor],
    n_rows: int,
) -> Tiling:
    """Returns the tiling to launch with: the fastest, measured once for each kind of launch.

    Args:
        kind: Of the launch.
        tilings: Candidates. The first is taken without measuring where rows are few, no GPU is
            there or the launch is being recorded.
        start: Launches with a tiling, which writes or adds to results.
        results: What the kernel writes; tried on others of their shape.
        n_rows: Of all frames.

    Raises:
        Exception: No tiling compiles and launches here; the first one's error.
    """
    if len(tilings) == 1:
        return tilings[0]
    if kind not in CHOICES:
        if n_rows < LEAST_ROWS or not _can_measure(results[0].device):
            return tilings[0]
        choice = measured(tilings, start, results, _bench)
        if choice is None:
            return tilings[0]
        CHOICES[kind] = choice
        _log.debug("%s: %s", kind, choice)
    return CHOICES[kind].taken


def measured(
    tilings: Sequence[Tiling],
    start: Callable[[Tiling, Sequence[Tensor]], None],
    results: Sequence[Tensor],
    bench: Callable[[Callable[[], None]], float],
) -> Choice | None:
    """Measures tilings on zeroed results; one that fails, or computes something else, is left out.

    Where memory does not suffice for measuring on, what was measured so far decides.

    Args:
        tilings: Candidates.
        start: See `fastest`.
        results: See `fastest`.
        bench: Returns the ms of a function.

    Returns:
        The choice; None where results are not finite, or nothing could be measured.

    Raises:
        Exception: None runs; the first one's error.
    """
    trial = _Trial(start, results, bench)
    trial.prepare(tilings)
    faults = trial.run(tilings)
    if len(faults) == len(tilings):
        raise faults[0]
    if not trial.is_finite or not trial.found:
        return None
    best = trial.fastest
    trial.run([replace(best, n_waves=n) for n in _WAVES if n != best.n_waves])
    return Choice(trial.fastest, trial.found)


class _Trial:
    """One launch with one tiling after another, each on results of its own."""

    def __init__(
        self,
        start: Callable[[Tiling, Sequence[Tensor]], None],
        results: Sequence[Tensor],
        bench: Callable[[Callable[[], None]], float],
    ) -> None:
        self._start, self._results, self._bench = start, results, bench
        self._expected: list[Tensor] | None = None
        self.is_finite = True
        self.found: dict[Tiling, float] = {}

    @property
    def fastest(self) -> Tiling:
        """The one that took least."""
        return min(self.found, key=lambda tiling: self.found[tiling])

    def prepare(self, tilings: Sequence[Tiling]) -> None:
        """Compiles tilings at once; one that fails does so again when it is measured."""
        with suppress(Exception), compiling():
            scratch = [torch.zeros_like(each) for each in self._results]
            for tiling in tilings:
                self._start(tiling, scratch)

    def run(self, tilings: Sequence[Tiling]) -> list[Exception]:
        """Measures tilings as far as memory and finite results allow; returns the errors."""
        faults: list[Exception] = []
        for tiling in tilings:
            try:
                taken = self._milliseconds(tiling)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            except Exception as error:
                # It does not fit the device, or its assembler fails: each has errors of its own.
                faults.append(error.with_traceback(None))  # which would hold on to the memory
                _log.debug("%s does not run here: %s", tiling, error)
                continue
            if not self.is_finite:
                break
            if taken is None:
                _log.warning("a kernel's %s computes something else here; it is not used", tiling)
            else:
                self.found[tiling] = taken
        return faults

    def _milliseconds(self, tiling: Tiling) -> float | None:
        """Returns the ms of a tiling; None where it computes something else than the first did."""
        scratch = [torch.zeros_like(each) for each in self._results]
        self._start(tiling, scratch)
        if self._expected is None:
            self._expected = [each.clone() for each in scratch]
            self.is_finite = all(bool(each.isfinite().all()) for each in scratch)
        if not all(map(_agree, scratch, self._expected)):
            return None
        return self._bench(lambda: self._start(tiling, scratch))


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Returns whether results are the same but for rounding, on the whole and everywhere."""
    off = found - expected
    is_near = off.norm() <= TOLERANCE * expected.norm()
    return bool(is_near & (off.abs().amax() <= LARGEST * expected.abs().amax()))


def _can_measure(device: torch.device) -> bool:
    return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()


def _bench(run: Callable[[], None]) -> float:
    found = do_bench(run, warmup=_WARM_MS, rep=_TIMED_MS, return_mode="median")
    return cast("float", found)  # one number, without quantiles
