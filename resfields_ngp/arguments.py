"""A verb's arguments: its options, parsed by tyro, and settings given as ``--table.name value``.

Settings with a dot in their name are taken out first and checked against the config dataclasses, so
that a mistake on the command line and one in a scene file read the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from .config_tree import flat_items, nearest, to_table
from .options import RENAMED, SETTING_OF_OPTION, UsageError

Options = TypeVar("Options")


def split_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes ``--table.name value`` and ``--table.name=value`` out of a command line.

    A setting followed by another option, or by nothing, is a switch that is turned on.

    Returns:
        The other arguments, and dotted name to text.

    >>> split_settings(["in", "--encoder.n-levels", "14", "--out", "run", "--hull.stabilise"])
    (['in', '--out', 'run'], {'encoder.n_levels': '14', 'hull.stabilise': 'true'})
    """
    others: list[str] = []
    settings: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        name, has_value, value = token.partition("=")
        if not (name.startswith("--") and "." in name):
            others.append(token)
            continue
        if not has_value:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        settings[name[2:].replace("-", "_")] = value
    return others, settings


def parse_options(kind: type[Options], verb: str, arguments: Sequence[str]) -> Options:
    """Returns a verb's options.

    Raises:
        UsageError: An option is unknown, or one that is needed is missing.
    """
    _check_names(kind, verb, arguments)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, prog=f"resfields-ngp {verb}", args=list(arguments))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(complaint.getvalue())) from None


def print_help(kind: type, verb: str, config: Any) -> None:
    """Prints a verb's options and, where it takes settings, those of a config with their values.

    Args:
        kind: The verb's options class.
        verb: Its name.
        config: A dataclass of tables, or None.
    """
    shown: Any = kind
    if config is not None:
        kind = _with_defaults(kind, config)
        settings = Annotated[
            type(config),
            tyro.conf.arg(name=""),
            tyro.conf.AvoidSubcommands,
            tyro.conf.FlagConversionOff,
        ]
        shown = dataclasses.make_dataclass(
            kind.__name__, [("settings", settings, config)], bases=(kind,), frozen=True
        )
        shown.__doc__ = kind.__doc__
    about = inspect.cleandoc(kind.__doc__ or "")
    if config is not None:
        about += "\n\nItems of a list are separated by commas: --table.name a,b"
    with contextlib.suppress(SystemExit):
        tyro.cli(shown, prog=f"resfields-ngp {verb}", description=about, args=["--help"])
    sys.stdout.flush()


def _with_defaults(kind: type, config: Any) -> type:
    """Returns an options class whose help says what the settings behind its options are."""
    settings = getattr(kind, "SETTING_OF_OPTION", SETTING_OF_OPTION)
    values = dict(flat_items(to_table(config)))
    hints = get_type_hints(kind, include_extras=True)
    fields = []
    for field in dataclasses.fields(kind):
        value = values.get(settings.get(field.name, ""))
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        if value is None or isinstance(value, bool) or text in ("", "::"):
            continue
        notes = [
            dataclasses.replace(note, help_behavior_hint=f"(default: {text})")
            if hasattr(note, "help_behavior_hint")
            else note
            for note in hints[field.name].__metadata__
        ]
        fields.append((field.name, Annotated[hints[field.name].__origin__, *notes], field.default))
    shown = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True
    )
    shown.__doc__ = kind.__doc__
    return shown


def named_settings(options: Any) -> dict[str, str]:
    """Returns the settings that short options stand for, also by their own SETTING_OF_OPTION."""
    settings = getattr(options, "SETTING_OF_OPTION", SETTING_OF_OPTION)
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {
        settings[name]: "true" if value is True else value
        for name, value in given.items()
        if name in settings and value is not None and value is not False
    }


def _check_names(kind: type, verb: str, arguments: Sequence[str]) -> None:
    fields = [field.name for field in dataclasses.fields(kind)]
    names = [RENAMED.get(name, name) for name in fields]
    for token in arguments:
        name = token.partition("=")[0][2:].replace("-", "_")
        if token.startswith("--") and name not in (*names, "help", ""):
            hint = nearest(name, names).replace('"', '"--', 1).replace("_", "-")
            raise UsageError(
                f'unknown option "{token.partition("=")[0]}"{hint}'
                f" (see resfields-ngp {verb} --help)"
            )


def _one_line(box: str) -> str:
    """Returns the text of a message drawn in a box."""
    text = " ".join(re.sub(r"[\u2500-\u257f\u2022]", " ", box).split())
    return text.partition(" For full helptext")[0]
