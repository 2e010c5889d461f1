"""Files that are either whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; on success it becomes `path`, otherwise nothing is left.

    The temporary name keeps the suffix, since some writers choose their format by it, but begins
    with a dot, so that listings skip it.

    Raises:
        OSError: The disk is full or the folder is not writable; one line that names the file.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or str(error)
        message = (
            f"{path}: could not be written ({reason}); free some space or choose another folder"
        )
        raise OSError(error.errno, message) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file in one piece: `path` either holds all of `content` afterwards or is as it was.

    Raises:
        OSError: The disk is full or the folder is not writable; one line that names the file.
    """
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
