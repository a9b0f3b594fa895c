"""Collecting where it hurts: killed processes, a Ray cluster, and the same file in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import joint_delta_space, random_model
from test_outputs import held_elsewhere

from lewm_ros.config import ConfigError, PolicyConfig
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.model.policy import make_policy
from lewm_training.collect.recording import CollectConfig, collect
from lewm_training.collect.workers import Result, SpreadError, over_processes, over_ray
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.locking import OutputError

CONFIG = CollectConfig(task="reach", episodes=16, steps=40, image_size=32, seed=5)

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for worker processes in /proc")


def one_after_the_other(work: Callable[[int], Result], numbers: Sequence[int]) -> Iterator[tuple[int, Result]]:
    return ((number, work(number)) for number in numbers)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("uninterrupted") / "reach.h5"
    return collect(CONFIG, out, one_after_the_other).read_bytes()


def start_collecting(out: Path, processes: int = 2) -> subprocess.Popen[str]:
    """`lewm collect`, as the leader of a process group of its own."""
    command = [sys.executable, "-m", "lewm_training", "collect", "--task", CONFIG.task]
    command += ["--processes", str(processes)]
    command += ["--episodes", str(CONFIG.episodes), "--steps", str(CONFIG.steps), "--seed", str(CONFIG.seed)]
    command += ["--image-size", str(CONFIG.image_size), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finished_episodes(out: Path) -> list[Path]:
    return sorted(out.with_name(f"{out.name}.parts").glob("*.h5"))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 120.0
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that simulate, of those that `process` started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in proc(int(child), "cmdline")]


def is_running(pid: int) -> bool:
    return proc(pid, "stat") != "" and ") Z " not in proc(pid, "stat")


def proc(pid: int, file: str) -> str:
    """What the kernel says about a process; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def kill_all(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@needs_proc
def test_whatever_is_killed_nothing_finished_is_lost_and_the_file_is_the_same(
    uninterrupted: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "reach.h5"

    process = start_collecting(out)
    try:
        wait_until(lambda: len(finished_episodes(out)) >= 1, process)
    finally:
        kill_all(process)
    kept = finished_episodes(out)
    assert 1 <= len(kept) < CONFIG.episodes
    assert not out.exists()
    half = kept[0].with_name("000015.h5.writing")
    half.write_bytes(kept[0].read_bytes()[:1000])  # what a kill in the middle of writing leaves
    times = [part.stat().st_mtime_ns for part in kept]

    process = start_collecting(out)
    try:
        wait_until(lambda: len(finished_episodes(out)) > len(kept), process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        _, messages = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 2
    assert messages.splitlines()[-1] == (
        "lewm collect: a worker process was killed (out of memory?); run it again to go on"
    )
    assert "Traceback" not in messages
    assert [part.stat().st_mtime_ns for part in kept] == times  # not recorded again
    assert not out.exists()

    process = start_collecting(out, processes=1)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert out.read_bytes() == uninterrupted
    assert len(EpisodeDataset.open(out).lengths) == CONFIG.episodes
    assert list(tmp_path.iterdir()) == [out]


def test_two_collect_into_one_file_one_after_the_other(tmp_path: Path) -> None:
    out = tmp_path / "reach.h5"
    with held_elsewhere(out), pytest.raises(OutputError, match=r"reach\.h5: is being written by another process"):
        collect(CONFIG, out, one_after_the_other)
    out.touch()  # the other one has finished meanwhile
    with pytest.raises(OutputError, match=r"reach\.h5: exists already"):
        collect(CONFIG, out, one_after_the_other)
    assert out.read_bytes() == b""


def test_episodes_of_another_collection_are_not_mixed_in(tmp_path: Path) -> None:
    def first_two(work: Callable[[int], Result], numbers: Sequence[int]) -> Iterator[tuple[int, Result]]:
        yield from one_after_the_other(work, numbers[:2])
        raise SpreadError("lost")

    out = tmp_path / "reach.h5"
    with pytest.raises(SpreadError):
        collect(CONFIG, out, first_two)
    with pytest.raises(
        DatasetError, match=r"holds 2 finished episodes of other settings \(seed: 5, now 6\); remove it"
    ):
        collect(replace(CONFIG, seed=6), out, one_after_the_other)
    assert len(finished_episodes(out)) == 2


@needs_proc
def test_workers_do_not_outlive_what_they_work_for() -> None:
    script = "import time; from lewm_training.collect.workers import *; list(over_processes(2)(time.sleep, [600, 600]))"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(workers_of(process)) == 2, process)
    workers = workers_of(process)
    process.kill()
    process.wait()
    wait_until(lambda: not any(is_running(worker) for worker in workers))


def test_a_dataset_that_was_half_written_is_not_opened(uninterrupted: bytes, tmp_path: Path) -> None:
    half = tmp_path / "half.h5"
    half.write_bytes(uninterrupted[: len(uninterrupted) // 2])
    with pytest.raises(DatasetError, match=r"half\.h5: not a whole HDF5 file"):
        EpisodeDataset.open(half)


def test_a_ray_cluster_records_the_same_file(
    uninterrupted: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        assert collect(CONFIG, tmp_path / "reach.h5", over_ray("auto")).read_bytes() == uninterrupted
    finally:
        ray.shutdown()


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpreadError, match=r"^--ray needs the package `ray`: pip install 'lewm_ros\[ray\]'$"):
        over_ray("auto")


def test_every_number_is_worked_on_once() -> None:
    assert dict(over_processes(2)(abs, [-3, 1, -2])) == {-3: 3, 1: 1, -2: 2}


def test_what_goes_wrong_in_a_worker_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        list(over_processes(1)((1).__floordiv__, [0]))


def test_episodes_can_begin_where_a_policy_has_led(tmp_path: Path) -> None:
    config = CollectConfig("pick_place", episodes=1, steps=2, cameras=("scene", "wrist"))
    starts_m = []
    for name, after in (("start", ""), ("led", "pick_place")):
        path = collect(replace(config, after=after), tmp_path / f"{name}.h5", one_after_the_other)
        dataset = EpisodeDataset.open(path)
        assert dataset.lengths.tolist() == [2]
        starts_m.append(dataset.columns["ee_position"][0])
    # It leads for ten control steps or more, in which a hand that is on its way goes further than 5 cm.
    assert np.linalg.norm(starts_m[1] - starts_m[0]) > 0.05


@pytest.mark.parametrize(("checkpoint", "complaint"), [("default", "has no policy"), ("push", "camera")])
def test_who_cannot_act_there_does_not_lead(tmp_path: Path, checkpoint: str, complaint: str) -> None:
    config = CollectConfig("push", episodes=1, cameras=("scene",), after=checkpoint)
    with pytest.raises(ConfigError, match=complaint):
        collect(config, tmp_path / "led.h5", one_after_the_other)
    assert not list(tmp_path.glob("*.h5"))


def test_where_no_problem_is_demonstrated_nobody_leads(tmp_path: Path) -> None:
    model, space = random_model(), joint_delta_space()
    policy = make_policy(PolicyConfig(width=8, depth=1), model, space)
    path = save_checkpoint(Checkpoint(model, space, policy=policy), tmp_path / "led")
    with pytest.raises(ConfigError, match="task 'reach' demonstrates no problem"):
        collect(replace(CONFIG, after=str(path)), tmp_path / "reach.h5", one_after_the_other)
