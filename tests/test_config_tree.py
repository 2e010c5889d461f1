"""Laws of the settings machinery, on a small tree of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from resfields_ngp.config_tree import (
    ConfigError,
    apply_table,
    differing_keys,
    flat_items,
    nested,
    to_table,
)


@dataclass(frozen=True)
class Grid:
    kind: Literal["grid"] = "grid"
    n_levels: int = 12
    scale: float = 1.35


@dataclass(frozen=True)
class Waves:
    kind: Literal["waves"] = "waves"
    n_octaves: int = 6


@dataclass(frozen=True)
class Loop:
    seconds: float | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    sizes: tuple[int, int] = (2, 64)
    names: tuple[str, ...] = ()
    is_quiet: bool = False

    def __post_init__(self) -> None:
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds is {self.seconds}; must be above 0")


@dataclass(frozen=True)
class Tree:
    encoder: Grid | Waves = field(default_factory=Grid)
    loop: Loop = field(default_factory=Loop)


def test_an_empty_table_changes_nothing():
    assert apply_table(Tree(), {}, "here") == Tree()


def test_json_round_trip_gives_the_same_config():
    table = {"encoder": {"kind": "waves", "n_octaves": 3}, "loop": {"names": ["a", "b"]}}
    config = apply_table(Tree(), table, "here")
    assert apply_table(Tree(), json.loads(json.dumps(to_table(config))), "json") == config


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("loop.seconds", "1e2", 100.0),
        ("loop.seconds", "none", None),
        ("loop.sizes", "3,128", (3, 128)),
        ("loop.names", "a,b", ("a", "b")),
        ("loop.names", "", ()),
        ("loop.is_quiet", "true", True),
        ("loop.is_quiet", "off", False),
        ("encoder.n-levels", "14", 14),
    ],
)
def test_text_of_the_command_line_becomes_the_fields_type(name: str, text: str, value: object):
    config = apply_table(Tree(), nested({name: text}), "command line")
    table, key = name.replace("-", "_").split(".")
    assert getattr(getattr(config, table), key) == value


def test_unknown_key_suggests_the_right_one():
    with pytest.raises(
        ConfigError, match=r'scene.toml: unknown setting "encoder.n_level"'
    ) as error:
        apply_table(Tree(), {"encoder": {"n_level": 3}}, "scene.toml")
    assert 'did you mean "n_levels"?' in str(error.value)
    assert "allowed: kind, n_levels, scale" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"loop": {"device": "gpu"}}, r'loop.device: found "gpu"; allowed: auto\|cpu\|cuda'),
        ({"encoder": {"n_levels": 2.5}}, r"encoder.n_levels: found 2.5; allowed: int"),
        ({"encoder": {"n_levels": True}}, r"encoder.n_levels: found True; allowed: int"),
        ({"encoder": {"scale": "big"}}, r'encoder.scale: found "big"; allowed: float'),
        ({"loop": {"sizes": [1, 2, 3]}}, r"loop.sizes: found \[1, 2, 3\]; allowed: int,int"),
        ({"loop": {"seconds": -1.0}}, r"loop: seconds is -1.0; must be above 0"),
        ({"loop": 3}, r"loop: found 3; a table of settings is needed"),
        ({"encoder": {"kind": "wave"}}, r'encoder.kind: found "wave"; did you mean "waves"'),
    ],
)
def test_wrong_value_names_file_key_and_what_is_allowed(table: dict, complaint: str):
    with pytest.raises(ConfigError, match="scene.toml: " + complaint):
        apply_table(Tree(), table, "scene.toml")


def test_another_kind_starts_from_its_own_defaults():
    config = apply_table(Tree(), {"encoder": {"n_levels": 3}}, "scene")
    assert apply_table(config, {"encoder": "waves"}, "command line").encoder == Waves()
    assert apply_table(config, {"encoder": "grid"}, "command line").encoder == Grid(n_levels=3)


def test_differing_keys_are_named_in_full():
    changed = apply_table(Tree(), nested({"encoder.n_levels": 3, "loop.seconds": 5}), "here")
    assert differing_keys(to_table(Tree()), to_table(changed)) == [
        "encoder.n_levels",
        "loop.seconds",
    ]
    assert differing_keys(to_table(Tree()), to_table(Tree())) == []


def test_nested_undoes_flat_items():
    table = {"encoder": {"kind": "grid", "scale": 2.0}, "seed": 3}
    assert nested(dict(flat_items(table))) == table
