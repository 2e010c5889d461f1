from __future__ import annotations

import pytest

from resfields_ngp.prepare.workers import Stopped, run_jobs


def _negative(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return -number


@pytest.mark.parametrize("n_workers", [1, 2])
def test_jobs_keep_their_order_and_pass_their_errors_on(n_workers: int):
    told: list[tuple[int, int]] = []
    found = run_jobs(_negative, [2, 1, 5], n_workers, lambda done, of: told.append((done, of)))
    assert found == [-2, -1, -5] and told[0] == (0, 3) and told[-1] == (3, 3)
    with pytest.raises(ValueError, match="three"):
        run_jobs(_negative, [1, 3, 2], n_workers, lambda done, of: None)


def test_a_stop_before_the_first_job_does_nothing():
    with pytest.raises(Stopped):
        run_jobs(_negative, [1, 2], 1, lambda done, of: None, stop=lambda: True)
