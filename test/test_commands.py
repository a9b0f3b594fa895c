"""The `lewm` command: what it is given wrongly ends in one line and status 2, and what was measured is never lost."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pyarrow
import pytest
import torch
import yaml
from safetensors import SafetensorError
from toy_training import toy_config, write_bars

from lewm_ros import __version__
from lewm_ros.config import to_mapping
from lewm_training.__main__ import BENCHES, COMMANDS, main
from lewm_training.commands import bench_safety, info
from lewm_training.commands.errors import explain

LEWM = [sys.executable, "-m", "lewm_training"]
COMMANDS_AND_BENCHES = [*COMMANDS, *(f"bench {name}" for name in BENCHES)]
REQUIRED = {
    "collect": "--out new.h5",
    "train": "--dataset bars.h5 --config toy.yaml --out run",
    "train-proposal": "--checkpoint model --dataset bars.h5 --out planning",
    "train-policy": "--checkpoint model --dataset bars.h5 --out acting",
    "train-decoder": "--checkpoint model --dataset bars.h5 --out painting",
    "experiment": "--config toy.yaml --out matrix",
    "probe": "--dataset bars.h5",
    "reconstructions": "--checkpoint model --dataset bars.h5",
    "futures": "--checkpoint model --dataset bars.h5",
    "subgoals": "--dataset bars.h5 --start start.png --goal goal.png --out new",
    "import": "--from hdf5 bars.h5 --out new.h5",
    "export": "--to lerobot bars.h5 --out new",
    "pairs": "--task tworoom --dataset bars.h5 --out new.json",
    "compare": "text",
}
RESUMABLE = ("collect", "train", "import", "experiment")
TRAIN, PROPOSAL = f"train {REQUIRED['train']}", f"train-proposal {REQUIRED['train-proposal']}"
POLICY, DECODER = f"train-policy {REQUIRED['train-policy']}", f"train-decoder {REQUIRED['train-decoder']}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, checkpoint_path: Path) -> Path:
    """A folder with a dataset, a configuration, a checkpoint, and what is none of these."""
    folder = tmp_path_factory.mktemp("prepared")
    write_bars(folder)
    for part in folder.glob("?.h5"):
        part.unlink()
    (folder / "toy.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(to_mapping(toy_config())))))
    for suffix in (".json", ".safetensors"):
        shutil.copy(checkpoint_path.with_suffix(suffix), folder / f"model{suffix}")
    (folder / "folder").mkdir()
    (folder / "text").write_text("text")
    (folder / "locked.json").write_text("{}")
    (folder / "locked.json").chmod(0o444)
    (folder / "empty.yaml").touch()
    (folder / "list.yaml").write_text("- 1\n")
    (folder / "nan.yaml").write_text("{learning_rate: .nan}\n")
    (folder / "zero.yaml").write_text("{model: {encoder: {patch_size: 0}}}\n")
    (folder / "twice.yaml").write_text("epochs: 1\nepochs: 2\n")
    return folder


def status_of(command: str) -> int:
    try:
        return main(shlex.split(command))
    except SystemExit as end:
        return end.code


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def refused(
    command: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str], ends: str | None = None
) -> None:
    before = contents(folder)
    assert status_of(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("lewm")
    assert words in line if ends is None else line.endswith(words + ends)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("juggle", "invalid choice: 'juggle'"),
        ("", "the following arguments are required: COMMAND"),
        ("bench juggle", "lewm bench: argument SUBJECT: invalid choice: 'juggle'"),
        ("train --dataset bars.h5", "the following arguments are required: --config, --out"),
        ("info nowhere", "no file nowhere.json"),
        ("info ''", "no file"),
        ("info .", "no file"),
        ("info text", "no file text.json"),
        # numbers
        ("bench soak --minutes nan", "lewm bench soak: argument --minutes: must be from 0.5 to 10080.0, got nan"),
        ("bench soak --minutes inf", "--minutes: must be from 0.5"),
        ("bench soak --minutes 0.1", "--minutes: must be from 0.5"),
        ("bench soak --minutes long", "--minutes: must be a number, got 'long'"),
        ("bench loader --gigabytes -1", "--gigabytes: must be from 0.001"),
        ("bench loader --gigabytes nan", "--gigabytes: must be from 0.001"),
        ("bench loader --gigabytes 90000", "--gigabytes 90000: . has room for"),
        ("bench loader --image-size 5000", "--image-size: must be from 16 to 448, got 5000"),
        ("bench loader --seconds nan", "--seconds: must be from 0.1"),
        ("bench loader --folder nowhere", "--folder: 'nowhere': no such folder"),
        ("bench loader --folder text", "--folder: 'text': no such folder"),
        ("bench loader --dataset bars.h5 --frames 9", "window"),
        ("bench loader --dataset bars.h5 --batch-size 200", "windows, fewer than two batches of 200"),
        ("bench memory --gigabytes 0.1 nan", "--gigabytes: must be from 0.001"),
        ("bench memory --folder text", "--folder: 'text': no such folder"),
        ("bench surprise --threshold nan", "--threshold: must be from 0.0"),
        ("bench surprise --steps 21", "--steps 21: a goal has 20 that are judged"),
        ("bench surprise --goals 2 --disturbed-goals 3", "--disturbed-goals 3: must be at most --goals 2"),
        ("bench surprise --checkpoint model", "does not say how its errors are distributed"),
        ("bench planning --parts ''", "--parts: '' is unknown; known: work, quality"),
        ("bench planning --parts work,,deadline", "--parts: '' is unknown"),
        ("bench planning --parts quality --without-peer", "--parts quality: compares with the peer"),
        ("bench planning --plans 9", "--plans: must be from 10"),
        ("bench planning --figures text", "--figures: 'text' is a file, a folder is needed"),
        ("bench node --encoding yuv", "--encoding: invalid choice: 'yuv'"),
        ("bench node --rate-hz 1000000", "--rate-hz: must be from 1 to 1000"),
        ("bench training --image-size 60", "image_size: must be a multiple of patch_size 8"),
        ("bench training --image-size 100000", "--image-size: must be from 16 to 2048"),
        ("bench safety --commands 1.5", "--commands: must be a whole number, got '1.5'"),
        ("collect --out new.h5 --episodes 0", "--episodes: must be from 1 to 1000000, got 0"),
        ("collect --out new.h5 --episodes 10000000000", "--episodes: must be from 1"),
        ("collect --out new.h5 --steps 1000000", "--steps: must be from 1 to 10000"),
        ("collect --out new.h5 --steps 10000 --image-size 2048", "--steps 10000: too many frames of 2048 pixels"),
        ("collect --out new.h5 --image-size 8", "--image-size: must be from 16 to 2048"),
        ("collect --out new.h5 --processes 100000", "--processes: must be from 1 to 1024"),
        ("collect --out new.h5 --ray nonsense", "--ray: must be auto, HOST:PORT or ray://HOST:PORT, got 'nonsense'"),
        ("collect --out new.h5 --ray 127.0.0.1:0", "--ray 127.0.0.1:0: nothing answers there"),
        ("collect --out new.h5 --task juggle", "task 'juggle' is unknown; known: reach"),
        ("eval --task juggle", "task 'juggle' is unknown; known: reach"),
        ("eval --episodes 1e3", "--episodes: must be a whole number"),
        # devices
        ("eval --device nonsense", "--device: must be auto, cpu, cuda or cuda:NUMBER, got 'nonsense'"),
        ("eval --device cuda:", "--device: must be auto"),
        ("bench training --device cuda:700", "--device cuda:700: "),
        # configurations
        (f"{TRAIN} --config nowhere.yaml", "nowhere.yaml: cannot be read (No such file or directory)"),
        (f"{TRAIN} --config folder", "folder: cannot be read (Is a directory)"),
        (f"{TRAIN} --config empty.yaml", "empty.yaml: is empty"),
        (f"{TRAIN} --config list.yaml", "list.yaml: expected a mapping of settings, got list"),
        (f"{TRAIN} --config list.yaml --set epochs=1", "--set epochs=1: the configuration has no keys"),
        (f"{TRAIN} --config nan.yaml", "nan.yaml: learning_rate: expected a finite float, got nan"),
        (f"{TRAIN} --config zero.yaml", "zero.yaml: model: encoder: patch_size: must be at least 1"),
        (f"{TRAIN} --config twice.yaml", "twice.yaml: not valid YAML at line 2 (key 'epochs' stands twice)"),
        (f"{TRAIN} --config bars.h5", "bars.h5"),
        (f"{TRAIN} --set encoder_checkpoint=nowhere", "checkpoint nowhere: no file nowhere.json"),
        (f"{TRAIN} --set inputs.cameras=[wrist]", "bars.h5: has no camera 'wrist'; it has camera"),
        (f"{TRAIN} --set inputs.vectors=[gripper]", "bars.h5: has no vector 'gripper'; it has proprio"),
        (f"{TRAIN} --set model.tokens=pixels", "tokens: must be cls or patches"),
        ("collect --out new.h5 --cameras side", "cameras: the simulated Panda has scene, wrist, not 'side'"),
        ("collect --out new.h5 --action-space torque", "action space 'torque': the simulated Panda acts in"),
        ("eval --checkpoint model --task push", "checkpoint 'model' acts in 'joint_delta'"),
        ("eval --checkpoint model --planner nan.yaml", "nan.yaml: unknown key 'learning_rate'"),
        *(
            (f"{command} --set {given}", words)
            for command in (TRAIN, PROPOSAL, POLICY)
            for given, words in (
                ("''", "expected KEY=VALUE"),
                ("batch_size", "expected KEY=VALUE"),
                ("=1", "expected KEY=VALUE"),
                (".=1", "expected KEY=VALUE"),
                ("a..b=1", "expected KEY=VALUE"),
                ("batch_sise=1", "unknown key 'batch_sise'; did you mean 'batch_size'?"),
                ("batch_size=", "batch_size: expected int, got None"),
                ("batch_size=[1", "--set batch_size=[1: not valid YAML"),
                ("learning_rate=nan", "learning_rate: expected a finite float, got 'nan'"),
                ("batch_size=1" + 400 * "0", "batch_size: must be at most 2147483647"),
            )
        ),
        (f"{TRAIN} --set batch_size.x=1", "--set batch_size.x=1: batch_size has no keys"),
        (f"{TRAIN} --until 0", "--until: must be from 1"),
        # files
        (f"{TRAIN} --out text", "--out: 'text' is a file, a folder is needed"),
        (f"{TRAIN} --out ''", "--out: '' is empty"),
        (f"{TRAIN} --out text/run", "--out: 'text/run' cannot be written (Not a directory)"),
        (f"{TRAIN} --dataset nowhere.h5", "nowhere.h5: no such file"),
        (f"{TRAIN} --dataset text", "text: "),
        (f"{TRAIN} --dataset folder", "folder"),
        (f"{TRAIN} --json bars.h5", "--json bars.h5: would overwrite the dataset"),
        (f"{PROPOSAL} --out folder", "--out: 'folder' is a folder, a file is needed"),
        ("probe --dataset text --checkpoint model", "text: "),
        ("probe --dataset bars.h5 --checkpoint model --figure bars.h5", "--figure: 'bars.h5' must end in one of .png"),
        (
            "probe --dataset bars.h5 --checkpoint model --figure /proc/x.png",
            "'/proc/x.png' cannot be written",
        ),
        ("probe --dataset bars.h5 --checkpoint model --pictures text", "--pictures: 'text' is a file"),
        ("probe --dataset bars.h5 --checkpoint nowhere", "no file nowhere.json"),
        ("collect --out text/new.h5", "--out: 'text/new.h5' cannot be written (Not a directory)"),
        ("collect --out bars.h5 --episodes 1", "bars.h5: exists already"),
        ("demo --out text", "--out: 'text' is a file, a folder is needed"),
        ("demo --goals 0 --out new", "--goals: must be from 1"),
        ("demo --task juggle --out new", "task 'juggle' is unknown"),
        ("demo --task pusht --out new", "task 'pusht': over ROS there are"),
        ("demo --task pick_place --checkpoint nowhere --out new", "no file nowhere.json"),
        ("demo --task push --checkpoint model --out new", "task 'push'"),
        (f"{POLICY} --out folder", "--out: 'folder' is a folder, a file is needed"),
        (f"{POLICY} --dataset nowhere.h5", "nowhere.h5: no such file"),
        (f"{POLICY} --set final_share=2", "final_share: must be from 0 to 1"),
        (f"{POLICY} --set policy.width=0", "policy: width: must be"),
        ("import --from hdf5 nowhere --out new.h5", "nowhere: no such file or folder"),
        ("import --from hdf5 bars.h5 --out new.h5", "--config FILE is needed"),
        ("import --from hdf5 bars.h5 --out bars.h5", "bars.h5"),
        ("import --from rosbag folder --config nan.yaml --out new.h5", "nan.yaml: unknown key 'learning_rate'"),
        ("import --from zip bars.h5 --out new.h5", "--from: invalid choice: 'zip'"),
        (f"{DECODER} --from video", "argument --from: invalid choice: 'video'"),
        (f"{DECODER} --set decoder.width=0", "--set: decoder: width: must be at least 1, got 0"),
        (f"{DECODER} --set decoder.source=video", "source: must be one of state, cls, patches, got 'video'"),
        ("reconstructions --dataset bars.h5 --checkpoint model", "'model': has no decoder; teach it one with"),
        ("futures --dataset bars.h5 --checkpoint model", "'model': has no decoder; teach it one with"),
        ("futures --dataset bars.h5 --checkpoint model --blocks 0", "--blocks: must be from 1 to 50, got 0"),
        ("export --to rosbag bars.h5 --out new", "--to rosbag: can only be imported"),
        ("export --to lerobot nowhere.h5 --out new", "nowhere.h5: no such file"),
        ("export --to lewm nowhere --out new", "no file nowhere.json"),
        ("info model --json ''", "--json: '' is empty"),
        *(
            (f"info model --json {path}", f"--json: '{path}' {words}")
            for path, words in (
                ("folder", "is a folder, a file is needed"),
                ("text/figures.json", "cannot be written (Not a directory)"),
                ("/proc/figures.json", "cannot be written"),
                ("x" * 300, "cannot be written (File name too long)"),
            )
        ),
        *(
            (f"{command} {REQUIRED.get(command, '')} --seed {seed}", words)
            for command in COMMANDS_AND_BENCHES
            for seed, words in (
                ("-1", f"lewm {command}: argument --seed: must be from 0 to 2147483647, got -1"),
                ("99999999999999999999", "--seed: must be from 0 to 2147483647"),
                ("first", "--seed: must be a whole number, got 'first'"),
            )
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    command: str, words: str, prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    refused(command, words, prepared, capsys)


@pytest.mark.parametrize(("command", "hint"), [(TRAIN, "; --skip-bad leaves such episodes out"), (PROPOSAL, "")])
def test_skipping_bad_episodes_is_offered_where_it_can_be_done(
    command: str,
    hint: str,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("bars.h5", "toy.yaml", "model.json", "model.safetensors"):
        shutil.copy(prepared / name, tmp_path)
    with h5py.File(tmp_path / "bars.h5", "r+") as file:
        file["action"][45, 0] = float("nan")
    monkeypatch.chdir(tmp_path)
    refused(command, "bars.h5: action is not finite in episode 1, row 5", tmp_path, capsys, ends=hint)


def test_a_file_that_may_not_be_written_is_refused(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    # The superuser, as whom tests may run, may write everything.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).stat().st_mode & 0o200 > 0)
    refused("info model --json locked.json", "--json: 'locked.json' is read-only", prepared, capsys)


@pytest.mark.parametrize("command", COMMANDS_AND_BENCHES)
def test_a_bug_is_not_hidden_and_what_can_be_mended_is_one_line(
    command: str, prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    module = (COMMANDS | {f"bench {name}": module for name, module in BENCHES.items()})[command]

    def raising(error: BaseException) -> Callable[[object], None]:
        def run(_: object) -> None:
            raise error

        return run

    given = f"{command} {REQUIRED.get(command, '')}"
    monkeypatch.setattr(module, "run", raising(OSError(28, "No space left on device", "here.h5")))
    refused(given, f"lewm {command}: here.h5: No space left on device", prepared, capsys)
    monkeypatch.setattr(module, "run", raising(KeyError("a bug")))
    with pytest.raises(KeyError):
        status_of(given)
    monkeypatch.setattr(module, "run", raising(KeyboardInterrupt()))
    assert status_of(given) == 130
    promise = "; what was finished is kept, run it again to go on" if command in RESUMABLE else ""
    assert capsys.readouterr().err == f"lewm {command}: interrupted{promise}\n"


def from_hdf5() -> None:
    h5py.File(__file__)


def from_hdf5_column() -> None:
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file["missing"]


def from_arrow() -> None:
    pyarrow.array([1, "two"])


def from_yaml() -> None:
    yaml.safe_load("[")


def from_torch() -> None:
    torch.empty(2**45)


def from_safetensors() -> None:
    raise SafetensorError("header\ntoo large")


def from_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        (from_hdf5, "file signature not found"),
        (from_hdf5_column, "object 'missing' doesn't exist"),
        (from_arrow, "ArrowInvalid: Could not convert 'two'"),
        (from_yaml, "ParserError: "),
        (from_torch, "out of memory ("),
        (from_safetensors, "SafetensorError: header too large"),
        (from_memory, "out of memory"),
    ],
)
def test_what_libraries_raise_is_one_line(failing: Callable[[], None], words: str) -> None:
    with pytest.raises(Exception) as caught:
        failing()
    assert words in explain(caught.value)
    assert "\n" not in explain(caught.value)


def test_figures_are_printed_before_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_of("bench safety --commands 10 --json /dev/full") == 2
    said = capsys.readouterr()
    assert "sequences_past_a_limit" in said.out
    [line] = [line for line in said.err.splitlines() if line.startswith("lewm")]
    assert line == "lewm bench safety: /dev/full: cannot be written (No space left on device)"

    def disk_is_full(options: object, figures: object) -> None:
        raise OSError(28, "No space left on device", "picture.png")

    monkeypatch.setattr(bench_safety, "draw", disk_is_full, raising=False)
    assert status_of(f"bench safety --commands 10 --json {tmp_path / 'new' / 'figures.json'}") == 2
    assert "sequences_past_a_limit" in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "figures.json").read_text())["sequences_past_a_limit"] == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figures.json"]


def test_figures_go_through_links_and_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.json").symlink_to("target.json")
    monkeypatch.setattr(info, "run", lambda options: {"parameters": 3})
    assert status_of(f"info --json {tmp_path / 'link.json'}") == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "target.json").read_text()) == {"parameters": 3}
    assert status_of("info --json /dev/null") == 0
    assert not Path("/dev/null").is_file()


def test_a_standard_output_that_is_closed_or_full_is_one_line(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [*LEWM, "bench", "safety", "--commands", "10", "--json", str(figures)]
    with open("/dev/full", "w") as full:
        end = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert end.returncode == 2
    assert end.stderr.splitlines()[-1].endswith("lewm bench safety: standard output: No space left on device")
    assert json.loads(figures.read_text())["commands"] == 10
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 2
    assert said.splitlines()[-1].endswith("lewm bench safety: standard output: Broken pipe")


def test_an_interrupt_is_one_line() -> None:
    command = [*LEWM, "bench", "safety", "--commands", "100000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        bars = ""
        while bars.count("commands") < 2:  # while it makes its first bar, tqdm itself complains
            bars += process.stderr.read(40)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith("lewm bench safety: interrupted")
    assert "Traceback" not in said


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0
    assert capsys.readouterr().out == f"lewm {__version__}\n"


def test_help_waits_for_nothing_that_is_slow_to_import() -> None:
    script = "import sys, lewm_training.__main__; print(sorted(set(sys.argv[1:]) & sys.modules.keys()))"
    command = [sys.executable, "-c", script, "torch", "timm", "mujoco", "matplotlib", "rclpy", "pyarrow"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("command", COMMANDS_AND_BENCHES)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(f"{command} --help") == 0
    assert f"usage: lewm {command}" in capsys.readouterr().out
