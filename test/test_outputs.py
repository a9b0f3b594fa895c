"""Outputs have one writer at a time, and none that has died is in the way of the next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lewm_training.data.locking import OutputError, exclusive, exclusive_new

HOLD = """
import sys
from pathlib import Path
from lewm_training.data.locking import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes `out` until its standard input is closed, or it is killed."""
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process


@pytest.mark.parametrize("name", ["new.h5", "folder/new.h5", "run"])
def test_the_second_writer_is_refused_until_the_first_has_ended(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    with held_elsewhere(out) as process:
        with pytest.raises(OutputError, match=f"^{out}: is being written by another process$"), exclusive(out):
            pass
        process.communicate()
    with exclusive(out):
        pass
    assert list(out.parent.iterdir()) == []


def test_a_killed_writer_refuses_nobody(tmp_path: Path) -> None:
    out = tmp_path / "new.h5"
    with held_elsewhere(out) as process:
        process.kill()
    assert [file.name for file in tmp_path.iterdir()] == ["new.h5.lock"]
    with exclusive(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_outputs_beside_one_another_are_written_at_the_same_time(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run.1"), exclusive(tmp_path / "run.2"), exclusive(tmp_path / "run"):
        pass


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "new.h5"):
        raise ZeroDivisionError
    with exclusive(tmp_path / "new.h5"):
        pass


def test_what_is_there_is_not_written_anew(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with (
        pytest.raises(OutputError, match="there: exists already; choose another --out"),
        exclusive_new(tmp_path / "there"),
    ):
        pass
    with exclusive_new(tmp_path / "new"):
        pass
