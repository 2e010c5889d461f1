"""A run's scores as a table for the terminal, as wide as that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def score_table(result: dict[str, Any], console: Console) -> Table:
    """Returns a table of `evaluate_run`'s result: a row a frame and means below.

    Where the console is too narrow for that there is a row a score: its mean, and the lowest and
    highest of any frame.
    """
    names = list(result["definitions"])
    where = "held out" if result["held_out"] else "a training camera: not novel views"
    title = f"{result['capture']}, {result['camera']} ({where}), protocol {result['protocol']}"
    table = _table(title, ("frame", *names))
    for row in result["frames"]:
        table.add_row(str(row["frame"]), *(_text(row.get(name)) for name in names))
    table.add_section()
    table.add_row("mean", *(_text(result["mean"].get(name)) for name in names), style="bold")
    unbounded = console.options.update(max_width=1 << 16)
    if console.measure(table, options=unbounded).maximum <= console.width:
        return table
    table = _table(title, ("score", "mean", "lowest", "highest"))
    for name in names:
        values = [row[name] for row in result["frames"] if row.get(name) is not None]
        ends = (min(values), max(values)) if values else (None, None)
        table.add_row(name, *map(_text, (result["mean"].get(name), *ends)))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    """Returns an empty table whose numbers are flush right and never cut."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == "score" else "right", no_wrap=True)
    return table


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
