"""Jobs on all cores: a process each, one thread in each, and a stop that leaves whole files."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import TypeVar

from ..environment import count_cores

Job = TypeVar("Job")
Result = TypeVar("Result")

Report = Callable[[int, int], None]
"""Called with the jobs done and their number."""


class Stopped(Exception):
    """Somebody asked to stop before all jobs were done."""


def count_workers(asked: int) -> int:
    """Returns how many processes to use: those asked for, or with 0 the cores that we may use."""
    return asked or count_cores()


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    n_workers: int,
    report: Report,
    stop: Callable[[], object] = lambda: False,
) -> list[Result]:
    """Calls a function of a module with each job, in several processes, and keeps their order.

    Args:
        function: Can be sent to another process, as its jobs and results can.
        jobs: What it is called with.
        n_workers: Processes; with 1 all happens in this one.
        report: Told the progress.
        stop: Asked between jobs; those begun are finished.

    Raises:
        Stopped: `stop` returned true.
        Exception: The first error of a job.
    """
    report(0, len(jobs))
    if n_workers == 1 or len(jobs) < 2:
        results = []
        for job in jobs:
            if stop():
                raise Stopped
            results.append(function(job))
            report(len(results), len(jobs))
        return results
    # A clean server process imports the package once, and all workers are forked from it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.capture"])
    with ProcessPoolExecutor(min(n_workers, len(jobs)), context, _begin) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                report(len(futures) - len(waiting), len(futures))
                if stop() and waiting:
                    raise Stopped
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _begin() -> None:
    """Leaves Ctrl-C to the parent, and keeps libraries from starting threads of their own."""
    import cv2
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    cv2.setNumThreads(1)
