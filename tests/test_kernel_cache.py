"""Laws of where compiled kernels are kept: the usual place, else one of the user's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from resfields_ngp import kernel_cache
from resfields_ngp.kernel_cache import VARIABLE, keep_kernels


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is writable but the temporary folder; root may write anywhere, so access is asked."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(kernel_cache.os, "access", lambda path, mode: "temporary" in str(path))
    return tmp_path


def test_where_nothing_else_is_writable_kernels_lie_in_a_folder_of_ones_own(places: Path):
    keep_kernels(places / "package")
    folder = Path(os.environ[VARIABLE])
    assert folder.parent == places / "temporary" and folder.stat().st_mode & 0o77 == 0
    keep_kernels(places / "package")
    assert os.environ[VARIABLE] == str(folder)


@pytest.mark.parametrize("writable", ["package", "home"])
def test_usual_places_come_first(places: Path, writable: str, monkeypatch: pytest.MonkeyPatch):
    (places / writable).mkdir()
    monkeypatch.setattr(kernel_cache.os, "access", lambda path, mode: writable in str(path))
    keep_kernels(places / "package")
    assert VARIABLE not in os.environ


def test_what_the_user_says_stays(places: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "/elsewhere")
    keep_kernels(places / "package")
    assert os.environ[VARIABLE] == "/elsewhere"


def test_a_link_or_a_file_in_its_place_is_not_taken(places: Path):
    folder = places / "temporary" / f"resfields-ngp-kernels-{os.getuid()}"
    folder.symlink_to(places)
    keep_kernels(places / "package")
    assert VARIABLE not in os.environ
    folder.unlink()
    folder.write_text("")
    keep_kernels(places / "package")
    assert VARIABLE not in os.environ
