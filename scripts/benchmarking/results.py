"""Results that outlive an interruption: JSON lines, and a Markdown table of them all beside."""

from __future__ import annotations

import datetime
import json
import resource
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import torch

from resfields_ngp.environment import environment
from resfields_ngp.writing import write_whole

Row = dict[str, Any]


@dataclass(frozen=True)
class Ledger:
    """The rows of one benchmark, past ones included."""

    table: Path
    """Markdown file; the rows are beside it, ending in ``.jsonl``."""
    describe: Callable[[list[Row]], str]
    """Makes the Markdown of all rows."""

    def __post_init__(self) -> None:
        if self.table == self.path:
            raise ValueError(f"--table: {self.table} is where its rows would be; end it in .md")

    @property
    def path(self) -> Path:
        """The JSON lines."""
        return self.table.with_suffix(".jsonl")

    def rows(self) -> list[Row]:
        """Returns all rows, oldest first; a line that was cut off is left out."""
        found = []
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def find(self, **figures: Any) -> Row | None:
        """Returns the newest row with these entries, None without."""
        matching = (row for row in reversed(self.rows()) if figures.items() <= row.items())
        return next(matching, None)

    def add(self, row: Row) -> None:
        """Appends a row, with the machine it comes from, and writes the table again."""
        rows = [*self.rows(), {**machine(), **row}]
        self.table.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, "".join(json.dumps(each) + "\n" for each in rows).encode())
        write_whole(self.table, self.describe(rows).encode())


def machine() -> Row:
    """Returns where and when a figure was taken: processor, threads, date, commit, command."""
    found = environment()
    return {
        "cpu": found["cpu"],
        "cpu_count": found["cpu_count"],
        "torch_threads": torch.get_num_threads(),
        "numba_threads": numba.get_num_threads(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": found["git_commit"],
        "command": command_line(sys.argv),
    }


def command_line(arguments: Sequence[str]) -> str:
    """Returns a command as another machine would give it: no output folders, names for paths.

    >>> command_line(["/a/scripts/benchmark.py", "sdf", "/data/fox.anime", "--out", "/data/fox"])
    'python scripts/benchmark.py sdf fox.anime'
    """
    shown = ["/".join(Path(arguments[0]).parts[-2:])]
    for before, argument in pairwise(arguments):
        if not {before, argument} & {"--out", "--table"}:
            path = Path(argument)
            shown.append(path.name if path.is_absolute() or ".." in path.parts else argument)
    return shlex.join(["python", *shown])


def machine_line(row: Row) -> str:
    """Returns `machine` of a row as a sentence under a table."""
    threads = f"torch {row['torch_threads']}, numba {row['numba_threads']}"
    return (
        f"{row['cpu']}, {row['cpu_count']} CPUs, threads: {threads}; "
        f"{row['date']}, commit {row['commit']}.\n\n    {row['command']}\n"
    )


def peak_memory() -> float:
    """Returns the most memory that this process has held so far, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 30 if sys.platform == "darwin" else 1 << 20), 3)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table; all columns but the first are set to the right.

    >>> print(markdown_table(["stage", "ms"], [["march", 1.23456], ["draw", None]]))
    | stage | ms |
    | :-- | --: |
    | march | 1.235 |
    | draw | n/a |
    <BLANKLINE>
    """
    rule = [":--", *["--:"] * (len(columns) - 1)]
    lines = [columns, rule, *([_text(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value}"
