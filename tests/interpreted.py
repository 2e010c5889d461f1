"""Triton's kernels in its interpreter; test modules that import this are skipped without Triton."""

from __future__ import annotations

import importlib.util
import os

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from resfields_ngp.backends.triton import TritonBackend

EXACT = TritonBackend("cpu", "float32")
