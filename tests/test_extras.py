"""Laws of the optional packages: each is an extra of this one, and its lack names the line."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy
import pytest

from resfields_ngp.extras import EXTRAS, required

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


@pytest.mark.parametrize("module", EXTRAS)
def test_the_extra_that_is_named_brings_the_package(module: str) -> None:
    extra = EXTRAS[module]
    brought = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"][extra.name]
    assert extra.package in [re.split(r"[^\w-]", each)[0] for each in brought]


@pytest.mark.parametrize("module", [name for name, extra in EXTRAS.items() if extra.user])
def test_without_it_the_line_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = EXTRAS[module]
    with pytest.raises(ImportError) as raised:
        required(module)
    line = f"{extra.user} {extra.package}, which is not installed; pip install "
    assert str(raised.value).startswith(f"{line}'resfields-ngp[{extra.name}]'")
    assert str(raised.value).endswith(extra.otherwise or "'")


def test_a_module_within_a_package_that_is_missing_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pxr.Usd", None)
    with pytest.raises(ImportError, match=r"usd-core, .* or leave usd out of --format$"):
        required("pxr.Usd")


def test_what_is_installed_is_returned() -> None:
    assert required("numpy") is numpy
