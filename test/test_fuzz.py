"""The fuzz of the importers (`make fuzz`): a slice of it, and that it sees what it looks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from numpy.random import Generator

pytest.importorskip("pyarrow", reason="needs the extra `lerobot`")
pytest.importorskip("rosbags", reason="needs the extra `rosbag`")

from fuzzing import batches, hdf5
from fuzzing.marks import LENGTHS, WrongRow, check_marks
from fuzzing.mutation import Mutation
from fuzzing.trial import Result

COMMAND = Path(__file__).with_name("fuzz_importers.py")
MUTANTS = 12


def test_a_slice_of_it_finds_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(COMMAND), "--mutants", str(MUTANTS), "--seed", "3", "--json", str(figures)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    said = json.loads(figures.read_text())
    assert said["mutants"] == dict.fromkeys(("hdf5", "lerobot", "rosbag"), MUTANTS)
    assert said["faults"] == []


def run_planted(folder: Path, spoil: Callable[[Path, Generator], None], **options: bool) -> list[Result]:
    """Three mutants of HDF5 files, all of them spoiled in one way."""
    form = replace(hdf5.FORMAT, mutations=[Mutation(spoil, **options)])
    return list(batches.run_mutants(form, hdf5.write_sources(folder), 0, range(3), folder / "mutant"))


def untouched(path: Path, rng: Generator) -> None:
    """Good files stay good."""


def frames_moved_on(path: Path, rng: Generator) -> None:
    """Every frame is the one of the next row: no importer can tell."""
    with h5py.File(path, "r+") as file:
        file["camera"][:-1] = file["camera"][1:]


def cut(path: Path, rng: Generator) -> None:
    path.write_bytes(path.read_bytes()[:100])


def crash(path: Path, rng: Generator) -> None:
    os._exit(7)


def hang(path: Path, rng: Generator) -> None:
    time.sleep(60.0)


@pytest.mark.parametrize(
    ("spoil", "options", "fault"),
    [
        (untouched, {}, ""),
        (untouched, {"harmless": True}, ""),
        (frames_moved_on, {"spoils_values": True}, "wrong row: row 0 mixes rows: {'pixels': (0, 1), 'proprio': (0, 0)"),
        (cut, {}, ""),
        (cut, {"harmless": True}, "refused: lewm import: "),
        (crash, {}, "crash: the process ended with 7"),
    ],
)
def test_faults_are_told_from_what_is_right(
    tmp_path: Path, spoil: Callable[[Path, Generator], None], options: dict[str, bool], fault: str
) -> None:
    results = run_planted(tmp_path, spoil, **options)
    assert [result.number for result in results] == [0, 1, 2]
    for result in results:
        assert result.fault.startswith(fault) if fault else not result.fault


def test_a_mutant_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "TIMEOUT_S", 0.5)
    assert [result.fault for result in run_planted(tmp_path, hang)] == ["hangs: nothing in 0.5 s"] * 3


@pytest.mark.parametrize(
    ("rows", "readable", "right"),
    [
        ([(1, 0), (1, 1), (1, 2)], True, True),
        ([(1, 3), (1, 4)], True, True),  # a stretch of an episode
        ([(1, 0), None, (1, 2)], False, True),
        ([(1, 0), None, (1, 2)], True, False),
        ([(1, 0), (1, 2)], True, False),
        ([(1, 1), (1, 0)], True, False),
        ([(0, LENGTHS[0] - 1), (1, LENGTHS[0])], True, False),
    ],
)
def test_rows_must_be_those_of_one_episode(rows: list[tuple[int, int] | None], readable: bool, right: bool) -> None:
    if right:
        check_marks({"action": rows}, readable)
    else:
        with pytest.raises(WrongRow):
            check_marks({"action": rows}, readable)
