"""Where compiled CPU kernels are kept between runs; to be said before numba is imported."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def keep_kernels(package: Path = Path(__file__).parent) -> None:
    """Lets numba keep kernels in the system's temporary folder where it has no other place.

    By itself it takes ``__pycache__`` beside the source or the user's cache folder, and where
    neither is writable, as in a container of another user, its kernels cannot even be defined. The
    folder must be this user's own: what lies there is run.
    """
    if VARIABLE in os.environ or any(map(_is_writable, _usual_places(package))):
        return
    folder = Path(tempfile.gettempdir()) / f"resfields-ngp-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        os.environ[VARIABLE] = str(folder)


def _usual_places(package: Path) -> tuple[Path, Path]:
    """Returns where numba keeps kernels by itself."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~"), ".cache"))
    return package / "__pycache__", home / "numba"


def _is_writable(folder: Path) -> bool:
    """Returns whether a folder, or what it would be made in, can be written to."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), None)
    return existing is not None and os.access(existing, os.W_OK | os.X_OK)
