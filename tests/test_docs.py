"""Laws of README and docs: links lead somewhere, command lines are understood, settings exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from resfields_ngp.cli import VERBS, Verb, _module, main
from resfields_ngp.config import Config
from resfields_ngp.config_tree import ConfigError, apply_table, flat_items, nested, to_table
from resfields_ngp.encoders import EncoderConfig
from resfields_ngp.heads import HeadConfig
from resfields_ngp.motion import MotionConfig
from resfields_ngp.tasks import TASKS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _command_lines(text: str) -> Iterator[str]:
    """Yields the command lines of this program in indented blocks and in code spans."""
    joined = text.replace("\\\n", " ")
    yield from re.findall(r"^    resfields-ngp (.*)$", joined, re.MULTILINE)
    yield from re.findall(r"`resfields-ngp ([^`]*)`", joined)


def _lines_of_pages() -> list[str]:
    found = {line for page in PAGES for line in _command_lines(page.read_text())}
    # What a word in capitals stands for is no verb.
    return sorted(line for line in found if not line.startswith("VERB"))


def _trees(verb: Verb) -> list[Any]:
    """Returns the defaults of the configs that a verb's settings may belong to."""
    if verb.settings != "Config":
        return [getattr(_module(verb, "config"), verb.settings)()]
    tasks = [task.Config() for task in TASKS.values()]
    return tasks if verb.area == "fit_" else [Config(), *tasks]


def _known_settings() -> set[str]:
    """Returns the dotted names of all settings, of all alternatives."""
    trees = [tree for verb in VERBS.values() for tree in _trees(verb)]
    tables = [to_table(tree) for tree in trees]
    for name, union in (("encoder", EncoderConfig), ("head", HeadConfig), ("motion", MotionConfig)):
        tables += [{name: to_table(kind())} for kind in get_args(union)]
    return {name for table in tables for name, _ in flat_items(table)}


def _takes(tree: Any, settings: dict[str, str]) -> bool:
    try:
        apply_table(tree, nested(settings), "docs")
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing


def test_there_are_command_lines_to_check():
    verbs = {line.split()[0] for line in _lines_of_pages()}
    assert verbs >= {name.split()[0] for name in VERBS}


@pytest.mark.parametrize("line", _lines_of_pages())
def test_command_lines_are_understood(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    seen: list[tuple[Verb, dict[str, str]]] = []
    for verb in VERBS.values():

        def command(options: Any, settings: dict[str, str], verb: Verb = verb) -> int:
            seen.append((verb, settings))
            return 0

        monkeypatch.setattr(_module(verb, "commands"), verb.command, command)
    words = shlex.split(line, comments=True)
    if len(words) == 1:  # a verb by name, such as `resfields-ngp prepare`
        words.append("--help")
    assert main(words) == 0, capsys.readouterr().err
    for verb, settings in seen:
        assert any(_takes(tree, settings) for tree in _trees(verb)), settings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_exist(page: Path):
    known = _known_settings()
    named = re.findall(r"--([a-z][a-z-]*(?:\.[a-z0-9-]+)+)", page.read_text())
    unknown = {name.replace("-", "_") for name in named} - known - {"table.name"}
    assert not unknown
