from __future__ import annotations

from pathlib import Path

import pytest
from tiny_capture import write_tiny


@pytest.fixture
def root(tmp_path) -> Path:
    """Returns a whole small capture."""
    return write_tiny(tmp_path / "tiny")
