"""Laws of the lock on a folder: one program at a time, and never longer than it lives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resfields_ngp.locking import Locked, held
from resfields_ngp.run_folder import RunFolder, RunFolderError

PROGRAM = """
import sys
from pathlib import Path
from resfields_ngp.locking import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_program(folder: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stdout.readline() == b"held\n"
        yield program
        program.kill()


def test_another_program_keeps_out_until_it_is_gone(tmp_path: Path):
    folder = tmp_path / "run"
    with another_program(folder) as program:
        with pytest.raises(Locked), held(folder):
            pass
        with pytest.raises(RunFolderError, match="another program works there; wait for it"):
            with RunFolder.reserved(folder, {}):
                pass
        program.kill()
        program.wait()
        with held(folder):
            assert folder.is_dir()


def test_a_folder_of_which_nothing_came_is_gone_and_others_stay(tmp_path: Path):
    with held(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with held(tmp_path / "new"):
        (tmp_path / "new" / "file").write_text("")
    with held(tmp_path / "new"), held(tmp_path / "other"):
        pass
    assert (tmp_path / "new" / "file").is_file()


def test_where_no_folder_can_be_there_is_nothing_to_keep(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with held(tmp_path / "file" / "run"):
        pass
