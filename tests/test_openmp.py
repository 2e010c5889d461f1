"""Threads' waiting is set before torch loads OpenMP, and a user's own choice stands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from resfields_ngp.openmp import SPIN_COUNT

PROGRAM = """
import os, sys
import resfields_ngp.cli as cli
seen = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            seen.append(os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, Watch())
cli.main(["scenes"])
import torch
print(seen[0])
"""


@pytest.mark.parametrize(("given", "wanted"), [(None, SPIN_COUNT), ("7", "7")])
def test_spinning_is_set_before_torch_is_loaded(given, wanted):
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    if given is not None:
        environment["GOMP_SPINCOUNT"] = given
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == wanted
