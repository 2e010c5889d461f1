"""Trees of frozen dataclasses from nested tables (TOML, JSON, command line) and back.

Nothing here knows a particular setting. A *table* is a nested dict of plain values. A field that
offers alternatives is a union of dataclasses, each with a ``kind``: the table's own ``kind`` picks
the one that the rest of it fills.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A setting is unknown or its value is not allowed; the message says where, and what is."""


def apply_table(config: Any, table: Mapping[str, Any], source: str, prefix: str = "") -> Any:
    """Returns a config with the settings of a table in place of its own.

    Naming another ``kind`` starts that table from the new kind's defaults.

    Args:
        config: A dataclass instance, the settings so far.
        table: Nested settings; text is parsed where the field is not text, as the command line
            has only text.
        source: What errors call the origin: a file name, ``command line``.
        prefix: Dotted name of `config` within the whole, empty or ending in a dot.

    Raises:
        ConfigError: A key is unknown (the nearest is named) or a value is not allowed.
    """
    hints = _field_types(type(config))
    changes: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in hints:
            raise ConfigError(_unknown_key(source, prefix, key, list(hints)))
        current = getattr(config, name)
        where = f"{source}: {prefix}{name}"
        if dataclasses.is_dataclass(current):
            base = _picked(current, hints[name], value, where)
            changes[name] = apply_table(base, _inner(base, value), source, f"{prefix}{name}.")
        else:
            changes[name] = _convert(value, hints[name], where)
    try:
        return dataclasses.replace(config, **changes)
    except ConfigError:
        raise
    except ValueError as error:
        place = "" if str(error).startswith(prefix) else f"{prefix.rstrip('.')}: "
        raise ConfigError(f"{source}: {place}{error}") from None


def to_table(config: Any) -> dict[str, Any]:
    """Returns a config as a nested dict that JSON can hold and `apply_table` reads back."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def flat_items(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and value of every setting of a nested table."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat_items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differing_keys(table: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns the dotted names that two tables do not share with equal values, sorted."""
    first, second = dict(flat_items(table)), dict(flat_items(other))
    absent = object()
    return sorted(
        key
        for key in first.keys() | second.keys()
        if first.get(key, absent) != second.get(key, absent)
    )


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a nested table from dotted names.

    >>> nested({"encoder.n_levels": 14, "encoder.kind": "hash_grid", "seed": 1})
    {'encoder': {'n_levels': 14, 'kind': 'hash_grid'}, 'seed': 1}
    """
    table: dict[str, Any] = {}
    for name, value in dotted.items():
        *path, last = name.split(".")
        inner = table
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return table


_OTHER_NAMES = {"gpu": "cuda", "nvidia": "cuda"}
"""What else users call a value."""


def nearest(name: str, allowed: Sequence[str]) -> str:
    """Returns ``; did you mean "..."?`` for the most similar allowed name, or an empty text."""
    name = _OTHER_NAMES.get(name.lower(), name)
    matches = difflib.get_close_matches(name.replace("-", "_"), allowed, n=1, cutoff=0.5)
    return f'; did you mean "{matches[0]}"?' if matches else ""


def type_name(hint: Any) -> str:
    """Returns what a value of a type looks like, for help and errors: ``auto|cpu|cuda``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "|".join(str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return "|".join(type_name(argument) for argument in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"{type_name(arguments[0])},..."
        return ",".join(type_name(argument) for argument in arguments)
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))


@functools.cache
def _field_types(cls: type) -> dict[str, Any]:
    """Returns field name to resolved type of a dataclass."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _unknown_key(source: str, prefix: str, key: str, allowed: list[str]) -> str:
    return (
        f'{source}: unknown setting "{prefix}{key}"{nearest(key, allowed)}'
        f" (allowed: {', '.join(sorted(allowed))})"
    )


def _alternatives(hint: Any) -> dict[str, type]:
    """Returns kind to dataclass of a union of them; a single dataclass offers no choice."""
    members: tuple[Any, ...] = ()
    if get_origin(hint) in (Union, types.UnionType):
        members = get_args(hint)
    return {member.kind: member for member in members if hasattr(member, "kind")}


def _picked(current: Any, hint: Any, value: Any, where: str) -> Any:
    """Returns what a table's settings go onto: the current config, or the new kind's defaults."""
    registry = _alternatives(hint)
    kind = value.get("kind") if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) and not (registry and isinstance(value, str)):
        raise ConfigError(f"{where}: found {value!r}; a table of settings is needed")
    if not registry or kind is None or kind == current.kind:
        return current
    if kind not in registry:
        found = f'{where}.kind: found "{kind}"{nearest(str(kind), list(registry))}'
        raise ConfigError(f"{found} (allowed: {', '.join(sorted(registry))})")
    return registry[kind]()


def _inner(base: Any, value: Any) -> Mapping[str, Any]:
    """Returns the settings of a table without a ``kind`` that has already picked `base`."""
    if not isinstance(value, Mapping):
        return {}
    is_picked = value.get("kind") == getattr(base, "kind", None)
    return {key: item for key, item in value.items() if not (key == "kind" and is_picked)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_table(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Returns a value as the field's type.

    Raises:
        ConfigError: It is not one.
    """
    try:
        return _as_type(value, hint)
    except (ValueError, TypeError):
        found = f'"{value}"' if isinstance(value, str) else repr(value)
        similar = nearest(str(value), [str(item) for item in get_args(hint)])
        hinted = similar if get_origin(hint) is Literal else ""
        raise ConfigError(f"{where}: found {found}; allowed: {type_name(hint)}{hinted}") from None


def _as_type(value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _as_literal(value, arguments)
    if origin in (Union, types.UnionType):
        return _as_union(value, arguments)
    if origin is tuple:
        return _as_tuple(value, arguments)
    if hint in (bool, type(None)):
        return _as_word(value, hint)
    if hint in (int, float):
        return _as_number(value, hint)
    if hint is str and not isinstance(value, str):
        raise ValueError
    return hint(value)


def _as_literal(value: Any, allowed: tuple[Any, ...]) -> Any:
    for item in allowed:
        if value == item or (isinstance(value, str) and value == str(item)):
            return item
    raise ValueError


def _as_union(value: Any, options: tuple[Any, ...]) -> Any:
    """Returns the value as the first type that takes it; none and numbers are tried before text."""
    for option in sorted(options, key=lambda option: (option is str, option is not type(None))):
        try:
            return _as_type(value, option)
        except (ValueError, TypeError):
            continue
    raise ValueError


def _as_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",")] if value.strip() else []
    if not isinstance(value, list | tuple):
        raise ValueError
    hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(hints) != len(value):
        raise ValueError
    return tuple(_as_type(item, hint) for item, hint in zip(value, hints, strict=True))


def _as_word(value: Any, hint: type) -> bool | None:
    if hint is type(None):
        if value is None or value == "none":
            return None
        raise ValueError
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError


def _as_number(value: Any, hint: type) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    if hint is int and isinstance(value, float) and not value.is_integer():
        raise ValueError
    number = hint(value)
    if math.isnan(number):
        raise ValueError
    return number
