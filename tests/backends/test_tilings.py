"""However the rows of a frame are shared among programs, the networks' kernels give the same."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from interpreted import EXACT
from kernel_cases import assert_alike, mlp_inputs, mlp_outputs, sloped_outputs
from test_triton import REFERENCE

from resfields_ngp.backends import MlpSpec
from resfields_ngp.backends.triton import TritonBackend
from resfields_ngp.backends.triton import tilings as TILINGS
from resfields_ngp.backends.triton.launching import has_tensor_cores
from resfields_ngp.backends.triton.tilings import (
    LEAST_ROWS,
    Choice,
    LaunchKind,
    Tiling,
    fastest,
    measured,
    tilings_of,
)
from resfields_ngp.records import FrameSlices

MLP = importlib.import_module("resfields_ngp.backends.triton.mlp")
SLICES = FrameSlices((0, 2, 1), (0, 70, 70, 333))


@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(16, 8, 80, 6),
        Tiling(32, 8),
        Tiling(64, 4, holds_weights=False),
        Tiling(64, 4, is_tall=True),
    ],
)
def test_kernels_agree_with_any_tiling(tiling: Tiling, monkeypatch):
    monkeypatch.setattr(MLP, "tilings_of", lambda *_, **__: (tiling,))
    spec = MlpSpec(19, 5, 32, 2)
    jets, weights = mlp_inputs(spec, SLICES, 3)
    for outputs in (mlp_outputs, sloped_outputs):
        found, expected = (
            outputs(backend, jets, SLICES, weights, spec) for backend in (EXACT, REFERENCE)
        )
        assert_alike(found, expected, 2e-6)


def first(spec: MlpSpec, precision: str, is_backward: bool) -> Tiling:
    return tilings_of(spec, precision, is_backward)[0]


def test_small_networks_take_few_registers_and_large_ones_reload_their_weights():
    small = MlpSpec(27, 16, 64, 1)
    assert first(small, "float16", False) == Tiling(16, 4, 168, 3)
    assert first(small, "bfloat16", False).n_registers is None
    assert not first(MlpSpec(27, 16, 128, 2), "float16", True).holds_weights
    assert first(MlpSpec(27, 16, 128, 1), "float16", True).n_warps == 8


@pytest.mark.parametrize("is_backward", [False, True])
def test_without_tensor_cores_weights_come_from_the_cache(is_backward: bool):
    (only,) = tilings_of(MlpSpec(27, 16, 64, 1), "float16", is_backward, on_tensor_cores=False)
    assert only.n_warps == 8 and not only.holds_weights
    assert has_tensor_cores(torch.device("cpu"))  # the interpreter takes what they take


@pytest.mark.parametrize("is_backward", [False, True])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_ways_differ_and_large_networks_have_one(n_layers: int, is_backward: bool):
    tilings = tilings_of(MlpSpec(27, 16, 64, n_layers), "float16", is_backward)
    assert len(set(tilings)) == len(tilings) == (4 - n_layers if is_backward else 4)
    assert len({str(tiling) for tiling in tilings}) == len(tilings)
    assert len(tilings_of(MlpSpec(27, 16, 128, n_layers), "float16", is_backward)) == 1


SLOW, QUICK, WRONG, BROKEN, LARGE = (Tiling(rows) for rows in (16, 32, 64, 128, 256))
MILLISECONDS = {SLOW: 2.0, QUICK: 1.0, WRONG: 0.1}
BEST_WAVES = 3


def best(tiling: Tiling) -> Tiling:
    return replace(tiling, n_waves=BEST_WAVES)


def tried(choice: Choice | None) -> set[tuple[int, int]]:
    """Returns rows and waves of the tilings that were measured."""
    assert choice is not None
    return {(tiling.rows, tiling.n_waves) for tiling in choice.milliseconds}


def waves_of(tiling: Tiling) -> set[tuple[int, int]]:
    return {(tiling.rows, n_waves) for n_waves in (2, 3, 4, 6, 8)}


class Kernel:
    """Stands for one that adds to its results: differently with one tiling, not at all by another.

    A bench runs it over and over on the same results, as one does on a GPU. It takes longer the
    further the programs are from `BEST_WAVES`.
    """

    def __init__(self) -> None:
        self.last: Tiling | None = None
        self.results: list[torch.Tensor] = []

    def __call__(self, tiling: Tiling, results: Sequence[torch.Tensor]) -> None:
        if tiling == BROKEN:
            raise RuntimeError("out of registers")
        if tiling == LARGE:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.last = tiling
        for each in results:
            each += torch.arange(1.0, 5.0) * (1.5 if tiling == WRONG else 1.0)

    def bench(self, run: Callable[[], None]) -> float:
        for _ in range(3):
            run()
        assert self.last is not None
        away = abs(self.last.n_waves - BEST_WAVES)
        return MILLISECONDS[replace(self.last, n_waves=SLOW.n_waves)] + 0.01 * away


@pytest.mark.parametrize("order", list(permutations([SLOW, QUICK, BROKEN])))
def test_the_fastest_that_runs_is_taken_in_any_order(order: tuple[Tiling, ...]):
    kernel, results = Kernel(), [torch.zeros(4), torch.zeros(4)]
    choice = measured(order, kernel, results, kernel.bench)
    assert choice is not None and choice.taken == best(QUICK)
    assert tried(choice) == waves_of(QUICK) | {(SLOW.rows, SLOW.n_waves)}
    assert choice.milliseconds[best(QUICK)] == 1.0 and choice.milliseconds[SLOW] == 2.01
    assert not any(each.any() for each in results)


def test_measuring_ends_where_memory_does_and_never_ends_the_run():
    kernel, results = Kernel(), [torch.zeros(4)]
    found = measured((SLOW, LARGE, QUICK), kernel, results, kernel.bench)
    assert found is not None and found.taken == best(SLOW) and tried(found) == waves_of(SLOW)
    assert measured((LARGE, QUICK), kernel, results, kernel.bench) is None

    def bench(run: Callable[[], None]) -> float:
        raise torch.OutOfMemoryError("no room for its buffer")

    assert measured((SLOW, QUICK), kernel, results, bench) is None


def test_results_that_are_not_finite_tell_nothing(caplog):
    def start(tiling: Tiling, results: Sequence[torch.Tensor]) -> None:
        results[0][1] = torch.nan

    assert measured((SLOW, QUICK), start, [torch.zeros(4)], Kernel().bench) is None
    assert not caplog.text


def test_one_wrong_row_among_many_is_noticed(caplog):
    def start(tiling: Tiling, results: Sequence[torch.Tensor]) -> None:
        results[0] += 1.0
        if tiling == QUICK:
            results[0][-1] = 0.0

    kernel = Kernel()
    kernel.last = SLOW
    choice = measured((SLOW, QUICK), start, [torch.zeros(1 << 18)], kernel.bench)
    assert tried(choice) == waves_of(SLOW) and str(QUICK) in caplog.text


def test_nothing_of_a_trial_stays_in_memory():
    gc.disable()
    try:
        results, seen = [torch.zeros(4)], []

        def start(tiling: Tiling, written: Sequence[torch.Tensor]) -> None:
            seen.append(weakref.ref(written[0]))
            if tiling == BROKEN:
                raise RuntimeError("out of registers")
            written[0] += 1.0

        kernel = Kernel()
        kernel.last = SLOW
        measured((SLOW, BROKEN, QUICK), start, results, kernel.bench)
        assert len(seen) > 3 and all(each() is None for each in seen)
    finally:
        gc.enable()


def test_one_that_computes_something_else_is_not_taken_however_fast(caplog):
    kernel = Kernel()
    choice = measured((SLOW, WRONG, QUICK), kernel, [torch.zeros(4)], kernel.bench)
    assert choice is not None and choice.taken == best(QUICK)
    assert tried(choice) == waves_of(QUICK) | {(SLOW.rows, SLOW.n_waves)}
    assert str(WRONG) in caplog.text


def test_the_error_of_the_first_is_raised_where_none_runs():
    kernel = Kernel()
    with pytest.raises(RuntimeError, match="out of registers"):
        measured((BROKEN, BROKEN), kernel, [torch.zeros(4)], kernel.bench)


def test_few_rows_and_cpus_take_the_first_and_what_was_measured_stays(monkeypatch):
    kind = LaunchKind("f", MlpSpec(27, 16, 64, 1), 27, "float16", (), torch.device("cpu"))
    monkeypatch.setattr(TILINGS, "CHOICES", {})
    kernel = Kernel()
    given = ((SLOW, QUICK), kernel, [torch.zeros(4)])
    assert fastest(kind, *given, LEAST_ROWS) == SLOW and kernel.last is None
    monkeypatch.setattr(TILINGS, "_can_measure", lambda device: True)
    monkeypatch.setattr(TILINGS, "_bench", kernel.bench)
    assert fastest(kind, *given, LEAST_ROWS - 1) == SLOW and kernel.last is None
    assert fastest(kind, *given, LEAST_ROWS) == best(QUICK)
    kernel.last = None
    assert fastest(kind, *given, 1) == best(QUICK) and kernel.last is None


def test_results_are_the_same_when_all_ways_are_tried(monkeypatch):
    """The launches themselves, interpreted: each is tried on results of its own."""
    monkeypatch.setattr(TILINGS, "CHOICES", {})
    monkeypatch.setattr(TILINGS, "LEAST_ROWS", 1)
    monkeypatch.setattr(TILINGS, "_WAVES", (2, 8))
    monkeypatch.setattr(TILINGS, "_can_measure", lambda device: True)
    times = iter(range(100, 0, -1))  # the last is the fastest

    def bench(run: Callable[[], None]) -> float:
        run()
        return next(times)

    monkeypatch.setattr(TILINGS, "_bench", bench)
    spec, slices = MlpSpec(19, 5, 32, 1), FrameSlices((0, 2, 1), (0, 20, 20, 113))
    jets, weights = mlp_inputs(spec, slices, 3)
    backend = TritonBackend("cpu", "bfloat16")
    for outputs in (mlp_outputs, sloped_outputs):
        found = outputs(backend, jets, slices, weights, spec)
        assert_alike(found, outputs(REFERENCE, jets, slices, weights, spec), 2e-2)
    kernels = {"mlp_forward", "mlp_backward", "sloped_forward", "sloped_backward"}
    assert {kind.kernel for kind in TILINGS.CHOICES} == kernels
    for kind, choice in TILINGS.CHOICES.items():
        tilings = tilings_of(spec, "bfloat16", kind.kernel.endswith("backward"))
        assert tuple(choice.milliseconds)[: len(tilings)] == tilings
        assert choice.taken == tuple(choice.milliseconds)[-1]  # with most programs
        assert replace(choice.taken, n_waves=tilings[-1].n_waves) == tilings[-1]
