"""Parts of the benchmark scripts, which work in a checkout even if nothing is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""

if importlib.util.find_spec("resfields_ngp") is None:
    sys.path.insert(0, str(ROOT))

from resfields_ngp.openmp import spin_shortly  # noqa: E402 - found only now

spin_shortly()
