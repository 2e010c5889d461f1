"""Triton's kernels in its interpreter; test modules that import this are skipped without Triton."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

import triton.language as tl
from triton.runtime import interpreter

from resfields_ngp.backends.triton import TritonBackend


def _called(self: Any, *arguments: Any, **named: Any) -> Any:
    """Takes the place of `InterpretedFunction.__call__`, of a function that kernels call.

    That one puts the interpreter's builtins into Triton's language at each call and leaves them
    there, over those of the call before: each call makes all later ones slower. The running kernel
    has put them into `triton.language` already; what asks for its core besides is done by the
    original, and its changes are taken back.
    """
    run = self.rewrite()
    if not any(value is tl.core for value in self.fn.__globals__.values()):
        return run(*arguments, **named)
    scope = interpreter._patch_lang(self.fn)
    try:
        return run(*arguments, **named)
    finally:
        scope.restore()


if hasattr(interpreter, "_LangPatchScope"):
    interpreter.InterpretedFunction.__call__ = _called

EXACT = TritonBackend("cpu", "float32")
