"""Laws of the settings of a run: every source is read, later ones win, mistakes are named."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from resfields_ngp.config import (
    HEAD_SETTINGS,
    PRESETS,
    Config,
    SynthConfig,
    load_config,
    read_scene,
)
from resfields_ngp.config_tree import ConfigError, apply_table, flat_items, nested, to_table
from resfields_ngp.heads import HEADS, RadianceHead
from resfields_ngp.motion import MOTIONS
from resfields_ngp.options import SETTING_OF_OPTION
from resfields_ngp.tasks import TASKS

SCENES = sorted((Path(__file__).parents[1] / "scenes").glob("*.toml"))


def _config_classes() -> Iterator[type]:
    """Yields every config dataclass of the trees, alternatives included, each once."""
    trees = [Config, SynthConfig, *(task.Config for task in TASKS.values())]
    hints = [hint for tree in trees for hint in (tree, *get_type_hints(tree).values())]
    found = [cls for hint in hints for cls in (get_args(hint) or (hint,))]
    yield from dict.fromkeys(cls for cls in found if dataclasses.is_dataclass(cls))


def _documented(cls: type) -> set[str]:
    """Returns the fields of a dataclass, inherited ones too, that are followed by a docstring."""
    inherited = [_documented(base) for base in cls.__bases__ if dataclasses.is_dataclass(base)]
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    pairs = zip(body.body, body.body[1:], strict=False)
    return set().union(*inherited) | {
        field.target.id
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _changed() -> Config:
    settings = {"encoder.kind": "frequency", "head.kind": "nerf", "capture.cameras": "a,b"}
    return load_config(overrides=nested(settings))


def test_config_to_json_and_back_is_the_same_config():
    for config in (Config(), _changed()):
        assert apply_table(Config(), json.loads(json.dumps(to_table(config))), "json") == config


def test_a_runs_config_json_can_be_passed_back_as_scene(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_table(_changed())))
    assert load_config(path) == _changed()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads(preset: str):
    assert isinstance(load_config(preset=preset), Config)


def test_presets_differ_and_standard_is_the_defaults():
    configs = [load_config(preset=preset) for preset in PRESETS]
    assert len({json.dumps(to_table(config)) for config in configs}) == len(PRESETS)
    assert load_config(preset="standard") == Config()


@pytest.mark.parametrize("scene", SCENES, ids=lambda path: path.stem)
def test_every_scene_loads_and_says_only_what_differs(scene: Path):
    table = read_scene(scene)
    task = table.get("task")
    kind, input_table = (TASKS[task].Config, "input") if task else (Config, "capture")
    assert isinstance(load_config(scene, base=kind()), kind)
    assert not Path(table.get(input_table, {}).get("path", "")).is_absolute()


@pytest.mark.parametrize("kind", [c.kind for c in get_args(get_type_hints(Config)["encoder"])])
def test_every_encoder_is_picked_by_its_kind(kind: str):
    config = load_config(overrides={"encoder": kind})
    assert config.encoder.kind == kind


@pytest.mark.parametrize("kind", [k for k in HEADS if issubclass(HEADS[k], RadianceHead)])
def test_every_head_is_picked_by_its_kind(kind: str):
    assert load_config(overrides={"head": {"kind": kind}}).head.kind == kind


@pytest.mark.parametrize("kind", MOTIONS)
def test_every_motion_is_picked_by_its_kind(kind: str):
    assert load_config(overrides={"motion": {"kind": kind}}).motion.kind == kind


def test_a_motions_network_has_settings_of_its_own():
    settings = {"motion.kind": "se3", "motion.network.n_code": "3"}
    config = load_config(overrides=nested(settings))
    assert config.motion.network.n_code == 3
    assert apply_table(Config(), json.loads(json.dumps(to_table(config))), "json") == config


@pytest.mark.parametrize("head", HEAD_SETTINGS)
def test_what_suits_a_head_is_taken_unless_any_source_says_otherwise(head: str, tmp_path: Path):
    suited = HEAD_SETTINGS[head]
    found = to_table(load_config(overrides={"head": head}))
    plain = to_table(Config())
    for table, settings in suited.items():
        assert settings.items() <= found[table].items()
        assert all(plain[table][name] != value for name, value in settings.items())
    (table, settings), *_ = suited.items()
    kept = {table: {name: plain[table][name] for name in settings}}
    scene = tmp_path / "scene.json"
    scene.write_text(json.dumps(kept | {"head": head}))
    for config in (load_config(scene), load_config(overrides=kept | {"head": head})):
        assert to_table(config)[table] == plain[table]


def test_later_sources_win(tmp_path: Path):
    scene = tmp_path / "scene.toml"
    scene.write_text("[meshing]\nresolution = 200\n")
    default = Config().meshing.resolution
    preview = load_config(preset="preview").meshing.resolution
    assert len({default, preview, 200, 96}) == 4
    assert load_config(scene, "preview").meshing.resolution == 200
    overrides = nested({"meshing.resolution": "96"})
    assert load_config(scene, "preview", overrides).meshing.resolution == 96


def test_unknown_key_suggests_the_right_one(tmp_path: Path):
    scene = tmp_path / "scene.toml"
    scene.write_text("[encoder]\nn_level = 14\n")
    with pytest.raises(
        ConfigError, match='unknown setting "encoder.n_level"; did you mean'
    ) as error:
        load_config(scene)
    assert str(error.value).startswith(str(scene)) and "n_levels" in str(error.value)


@pytest.mark.parametrize("content", ["[encoder", "a = = 3"])
def test_a_scene_that_is_no_toml_is_named(tmp_path: Path, content: str):
    scene = tmp_path / "scene.toml"
    scene.write_text(content)
    with pytest.raises(ConfigError, match="scene.toml: "):
        load_config(scene)


def test_a_missing_scene_and_an_unknown_preset_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.toml: no such scene"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match='--preset: found "previw"; did you mean "preview"'):
        load_config(preset="previw")


_UNLIMITED = {"hull.slack", "residual.deviation", "meshing.level", "meshing.margin"}
_UNLIMITED |= {"encoder.n_residuals", "head.colour_grid.n_residuals"}  # -1 is automatic


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in flat_items(to_table(Config()))
        if type(value) in (int, float) and name not in _UNLIMITED
    ],
)
def test_no_number_may_be_below_zero(name: str):
    with pytest.raises(ConfigError, match=rf"{name.split('.')[-1]}.*allowed"):
        load_config(overrides=nested({name: "-1"}))


def test_nan_is_no_number():
    with pytest.raises(ConfigError, match=r'losses\.mask: found "nan"; allowed: float'):
        load_config(overrides=nested({"losses.mask": "nan"}))


@pytest.mark.parametrize("cls", list(_config_classes()), ids=lambda cls: cls.__name__)
def test_every_setting_is_frozen_and_documented(cls: type[Any]):
    assert cls.__dataclass_params__.frozen
    assert {field.name for field in dataclasses.fields(cls)} == _documented(cls)
    assert cls.__doc__


def test_short_options_stand_for_settings_that_exist():
    configs = [Config(), SynthConfig(), *(task.Config() for task in TASKS.values())]
    known = {name for config in configs for name, _ in flat_items(to_table(config))}
    assert set(SETTING_OF_OPTION.values()) <= known


@pytest.mark.parametrize(
    ("background", "has_masks", "expected"),
    [("auto", False, 0.0), ("white", False, 1.0), ("white", True, 0.0), ("random", False, 0.0)],
)
def test_renderings_lie_on_white_only_where_pictures_do(
    background: str, has_masks: bool, expected: float
):
    config = load_config(overrides={"training": {"background": background}})
    assert config.training.rendered_background(has_masks) == expected


def test_an_unknown_background_is_refused():
    with pytest.raises(ConfigError, match=r"training\.background: found \"grey\"; allowed: auto"):
        load_config(overrides={"training": {"background": "grey"}})
