"""The command line: finds the verb, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 training diverged or a fault of the program, 2 usage, 3 data, 4 device,
130 and 143 interrupted.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import __version__
from .openmp import spin_shortly


@dataclass(frozen=True)
class Verb:
    """One verb of the command line."""

    command: str
    """Its function in `commands`."""
    options: str
    """Its options class in `options`."""
    summary: str
    """What it does."""
    tables: tuple[str, ...] | None = ()
    """Tables of settings that it takes as ``--table.name value``; None is all of them."""
    area: str = ""
    """What the names of the modules of its command, options and config begin with."""
    settings: str = "Config"
    """Its config class, the tree of tables, in `config`."""


_OF_MESHING = ("meshing", "texturing", "sampling")
_OF_MESHES = ("sequence", "rig", "picture", "clouds")

VERBS: dict[str, Verb] = {
    "reconstruct": Verb(
        "reconstruct", "ReconstructOptions", "inspect, train, mesh, render and eval in one", None
    ),
    "train": Verb("train", "TrainOptions", "fit a capture, with checkpoints", None),
    "mesh": Verb("mesh", "MeshOptions", "one mesh per frame from a run", _OF_MESHING),
    "render": Verb(
        "render", "RenderOptions", "images and videos from a run", ("imaging", "sampling")
    ),
    "eval": Verb(
        "evaluate", "EvalOptions", "a run's PSNR, SSIM, Chamfer, F-score", ("evaluation",)
    ),
    "view": Verb("view", "ViewOptions", "look at a run in a web browser"),
    "fit": Verb("fit", "FitOptions", "fit a video, meshes' distances or scene flow", None, "fit_"),
    "export": Verb("export", "ExportOptions", "lead a mesh by a fitted flow", ("export",), "fit_"),
    "inspect": Verb(
        "inspect", "InspectOptions", "check a capture before any training", ("capture", "hull")
    ),
    "prepare owlii": Verb(
        "prepare_owlii",
        "PrepareOwliiOptions",
        "render a raw Owlii sequence as a capture",
        _OF_MESHES,
        "prepare.",
        "PrepareConfig",
    ),
    "prepare meshes": Verb(
        "prepare_meshes",
        "PrepareMeshesOptions",
        "render meshes, or an animated GLB, as a capture",
        _OF_MESHES,
        "prepare.",
        "PrepareConfig",
    ),
    "prepare video": Verb(
        "prepare_video",
        "PrepareVideoOptions",
        "bring calibrated footage into the capture layout",
        ("footage", "matting"),
        "prepare.",
        "PrepareVideoConfig",
    ),
    "synth": Verb(
        "synth", "SynthOptions", "write the synthetic capture", ("synthetic",), "", "SynthConfig"
    ),
    "scenes": Verb("scenes", "ScenesOptions", "list the scene files"),
    "doctor": Verb("doctor", "DoctorOptions", "what runs here, and what mends the rest"),
}

USAGE, DATA, DEVICE, FAULT = 2, 3, 4, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    Args:
        arguments: Without the program's name; those of the process by default.
    """
    spin_shortly()
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="resfields-ngp: %(message)s", level=logging.WARNING)
    logging.getLogger(__package__).setLevel(logging.INFO)
    try:
        return _run(given)
    except KeyboardInterrupt:
        print("resfields-ngp: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if "--debug" in given or os.environ.get("RESFIELDS_NGP_DEBUG") == "1":
            traceback.print_exc()
        code = exit_code(error)
        print(f"resfields-ngp: error: {describe(error, code)}", file=sys.stderr)
        return code


def exit_code(error: Exception) -> int:
    """Returns the exit code of an error by whose fault it is."""
    if isinstance(error, ImportError) or _is_out_of_memory(error):
        return DEVICE
    from .backends import BackendUnavailable
    from .config_tree import ConfigError
    from .options import UsageError
    from .run_folder import RunFolderError

    if isinstance(error, UsageError | ConfigError | RunFolderError):
        return USAGE
    if isinstance(error, BackendUnavailable):
        return DEVICE
    if isinstance(error, ValueError | OSError):
        return DATA
    return FAULT


def describe(error: Exception, code: int) -> str:
    """Returns an error as one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        text = error.strerror
    line = " ".join(text.split()) or type(error).__name__
    if _is_out_of_memory(error):
        first = line.split(". ")[0]
        return f"{first}; pass a smaller --training.samples-per-batch, or --device cpu"
    if isinstance(error, ImportError) and "install" not in line:
        return f"{line}; run `resfields-ngp doctor`"
    if code == FAULT and type(error).__name__ != "TrainingError":
        return f"{type(error).__name__}: {line} (a fault of the program; --debug shows where)"
    return line


def _is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError"  # of torch, which is slow to import


def _run(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(_overview(), file=sys.stdout if given else sys.stderr)
        return 0 if given else USAGE
    if given[0] == "--version":
        print(f"resfields-ngp {__version__}")
        return 0
    if given == ["doctor"]:  # it has to say which of the imports below fails
        from .doctor import tell

        return tell()
    from .arguments import named_settings, parse_options, print_help, split_settings

    name, rest = _verb_named(given)
    if name not in VERBS:
        print(_overview(f"{name} "))
        return 0
    verb = VERBS[name]
    kind: type[Any] = getattr(_module(verb, "options"), verb.options)
    plain, settings = split_settings(rest)
    _check_tables(name, verb, settings)
    if "-h" in plain or "--help" in plain:
        print_help(kind, name, _settings_shown(verb, plain, settings))
        return 0
    parsed = parse_options(kind, name, plain)
    command = getattr(_module(verb, "commands"), verb.command)
    return command(parsed, named_settings(parsed) | settings)


def _module(verb: Verb, name: str) -> Any:
    """Returns the module `commands`, `options` or `config` of a verb's area."""
    return importlib.import_module(f".{verb.area}{name}", __package__)


def _verb_named(given: list[str]) -> tuple[str, list[str]]:
    """Takes the verb, of one word or two, off a command line.

    Returns:
        The verb, or the first word of a family of verbs whose help is asked for, and the rest.

    Raises:
        UsageError: There is no such verb; the nearest is named.
    """
    from .config_tree import nearest
    from .options import UsageError

    if given[0] in VERBS:
        return given[0], given[1:]
    family = [name.split()[1] for name in VERBS if name.startswith(f"{given[0]} ")]
    if not family:
        known = list(dict.fromkeys(name.split()[0] for name in VERBS))
        hint = nearest(given[0], known)
        raise UsageError(f'unknown verb "{given[0]}"{hint} (allowed: {", ".join(known)})')
    if len(given) > 1 and given[1] in family:
        return f"{given[0]} {given[1]}", given[2:]
    if any(option in given for option in ("-h", "--help")):
        return given[0], []
    found = f'"{given[1]}"{nearest(given[1], family)}' if len(given) > 1 else "nothing"
    raise UsageError(f"{given[0]} what? found {found} (allowed: {', '.join(family)})")


def _overview(family: str = "") -> str:
    """Returns what there is to do: all verbs, or those whose name begins with `family`."""
    lines = [f"  {name:15} {v.summary}" for name, v in VERBS.items() if name.startswith(family)]
    return "\n".join(
        [
            f"usage: resfields-ngp {family}VERB [OPTIONS]",
            "",
            "Multi-view images of something that moves, to one mesh per frame.",
            "",
            *lines,
            "",
            f"resfields-ngp {family}VERB --help shows a verb's options, with units and defaults.",
        ]
    )


def _check_tables(name: str, verb: Verb, settings: dict[str, str]) -> None:
    """Checks that settings belong to the verb's tables; whether they exist is checked later.

    Raises:
        ConfigError: One does not.
    """
    from .config_tree import ConfigError

    for setting in settings if verb.tables is not None else ():
        table = setting.partition(".")[0]
        if table not in (verb.tables or ()):
            allowed = ", ".join(f"--{each}.*" for each in verb.tables or ()) or "none"
            raise ConfigError(f"{name} takes no --{setting} (settings it takes: {allowed})")


def _settings_shown(verb: Verb, plain: list[str], settings: dict[str, str]) -> Any:
    """Returns the config whose values the help shows, None for verbs without settings."""
    if verb.tables == ():
        return None
    from .config import load_config, part
    from .config_tree import apply_table, nested
    from .options import SETTING_OF_OPTION

    if verb.settings != "Config":
        tree = getattr(_module(verb, "config"), verb.settings)
        return apply_table(tree(), nested(settings), "command line")
    given = {token.partition("=")[0]: token.partition("=")[2] for token in plain if "=" in token}
    given |= dict(zip(plain, plain[1:], strict=False))
    kinds = {
        SETTING_OF_OPTION[name]: given[f"--{name}"]
        for name in ("encoder", "head", "motion")
        if f"--{name}" in given
    }
    scene, preset = given.get("--scene"), given.get("--preset")
    base = None
    if verb.command == "fit":
        from .tasks import TASKS

        if not plain or plain[0] not in TASKS:
            return None
        base = TASKS[plain[0]].Config()
    config = load_config(scene, preset, nested(kinds | settings), base)
    return config if verb.tables is None else part(config, verb.tables)
