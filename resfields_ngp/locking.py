"""One program at a time in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - not on Windows
    fcntl = None


class Locked(OSError):
    """Another program works in the folder."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other programs that ask out of a folder, which is made if missing.

    The lock is on the folder itself and ends with the process, however that ends. Where the file
    system knows no locks, or the folder cannot be made, nothing is kept.

    Raises:
        Locked: Another program holds it.
    """
    is_new = not folder.exists()
    number = _opened(folder)
    if number is None or fcntl is None:
        yield
        return
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"{folder}: another program works there") from None
        except OSError:
            pass  # no locks here
        yield
    finally:
        os.close(number)
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing came of it


def _opened(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None
