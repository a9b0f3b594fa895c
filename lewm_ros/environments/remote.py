"""Environments that live in another Python on this machine, behind a Unix socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.config import ConfigError, check_settings, from_mapping, setting
from lewm_ros.environments import remote_server
from lewm_ros.environments.environment import Behaviour, EnvironmentFailure, EnvironmentGone, Recording, Score
from lewm_ros.observation.observation import Observation
from lewm_ros.robot.action_space import ActionSpace, Channel
from lewm_ros.robot.arm import Array

SERVER = Path(remote_server.__file__)
LARGEST_SEED = 2**31 - 1
STOP_S = 5.0


@dataclass(frozen=True)
class RemoteTask:
    """What a YAML file says of a task.

    Args:
        python: the interpreter; its environment has what the factory needs, and numpy.
        factory: `module:function`, which makes what `remote_server` serves.
        path: folders in which the module is looked for, beside the interpreter's own; relative to the YAML file.
        arguments: of the factory; options such as the image size are added to them.
        install: the command that brings the interpreter's environment.
        start_s: how long it may take to make the environment.
        answer_s: how long a call may take.
    """

    python: str
    factory: str
    path: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    install: str = ""
    start_s: float = setting(120.0, "for making the environment", "s", 0.1, 3600.0)
    answer_s: float = setting(60.0, "for one call", "s", 0.01, 3600.0)

    def __post_init__(self) -> None:
        check_settings(self)


class RemoteEnvironment:
    """See `Environment`. Calls are answered by a process of its own, which ends with this object.

    Args:
        task: what the YAML says.
        name: of the task.
        folder: that paths of the task are relative to.
        options: handed to the factory with the task's arguments.

    Raises:
        ConfigError: the interpreter is not there.
        EnvironmentFailure: the process does not start, or speaks another version.
    """

    def __init__(self, task: RemoteTask, name: str, folder: Path, **options: Any) -> None:
        self._task, self.name = task, name
        python = Path(task.python).expanduser()
        python = python if python.is_absolute() else folder / python
        if not python.exists():
            hint = f"; {task.install}" if task.install else ""
            raise ConfigError(f"task '{name}': no interpreter {python}{hint}")
        paths = [str(folder / path) for path in task.path]
        search = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": search, "PYTHONUNBUFFERED": "1"}  # so that last words are not lost
        with tempfile.TemporaryDirectory() as temporary, socket.socket(socket.AF_UNIX) as listening:
            address = str(Path(temporary, "socket"))
            listening.bind(address)
            listening.listen(1)
            listening.settimeout(task.start_s)
            self._log = tempfile.TemporaryFile()  # noqa: SIM115, it is read when the process has ended
            arguments = json.dumps({**task.arguments, **options})
            self._process = subprocess.Popen(
                [str(python), str(SERVER), address, task.factory, arguments],
                env=environment,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
            self._connection = self._accept(listening)
        self._stop = weakref.finalize(self, _stop, self._process, self._connection)
        self._answer()
        self._describe(self._call("describe"))

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], path: Path, **options: Any) -> RemoteEnvironment:
        """The environment that a YAML file describes, by the file's name."""
        return cls(from_mapping(RemoteTask, content, str(path)), path.stem, path.parent, **options)

    def problems(self, seed: int) -> Iterator[int]:
        """See `Environment`; a problem is known by its number."""
        self._call("restart_problems", seed)
        while True:
            yield self._call("next_problem", seed)

    def reset(self, problem: int) -> None:
        """See `Environment`."""
        self._call("reset", problem)

    def goals(self) -> list[Observation]:
        """See `Environment`."""
        return [_observation(goal) for goal in self._call("goals")]

    def observe(self) -> Observation:
        """See `Environment`."""
        return _observation(self._call("observe"))

    def labels(self) -> dict[str, Array]:
        """See `Environment`."""
        return {name: np.asarray(value, np.float64) for name, value in self._call("labels").items()}

    def step(self, action: Array) -> None:
        """See `Environment`."""
        self._call("step", np.asarray(action, np.float64))

    def score(self) -> Score:
        """See `Environment`."""
        score = self._call("score")
        stages = {str(name): bool(reached) for name, reached in score.get("stages", {}).items()}
        value, cost = float(score["value"]), float(score.get("cost", 0.0))
        return Score(value, str(score["unit"]), bool(score["success"]), stages, cost, bool(score.get("over", False)))

    def record(self, number: int, rng: np.random.Generator) -> Recording:
        """See `Environment`."""
        recording = self._call("record", number, int(rng.integers(LARGEST_SEED)))
        notes, problem = dict(recording.get("notes", {})), recording.get("problem")
        return Recording(_RemoteBehaviour(self), int(recording["steps"]), notes, problem)

    def random(self, rng: np.random.Generator) -> Behaviour:
        """See `Environment`."""
        self._call("random", int(rng.integers(LARGEST_SEED)))
        return _RemoteBehaviour(self)

    def act(self) -> Array:
        """The next action of the behaviour that was asked for last."""
        return np.asarray(self._call("act"), np.float64)

    def expert(self) -> Behaviour | None:
        """See `Environment`."""
        return _RemoteBehaviour(self) if self._call("expert") else None

    def close(self) -> None:
        """See `Environment`."""
        self._stop()

    def _describe(self, described: dict[str, Any]) -> None:
        version = described.get("version")
        if version != remote_server.VERSION:
            raise EnvironmentFailure(
                f"task '{self.name}': its process speaks version {version}, this one {remote_server.VERSION}"
            )
        try:
            channels = tuple(from_mapping(Channel, channel, "channels") for channel in described["channels"])
            self.action_space = ActionSpace(described["name"], channels, float(described["control_hz"]))
            self.cameras = tuple(described["cameras"])
            self.vectors = {name: tuple(components) for name, components in described["vectors"].items()}
            self.budget_steps = int(described["budget_steps"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise EnvironmentFailure(f"task '{self.name}': its process describes itself wrongly ({error})") from None

    def _accept(self, listening: socket.socket) -> socket.socket:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            self._process.kill()
            self._process.wait()
            raise EnvironmentFailure(
                f"task '{self.name}': its process did not connect within {self._task.start_s:g} s{self._last_words()}"
            ) from None
        connection.settimeout(self._task.start_s)
        return connection

    def _call(self, call: str, *arguments: Any) -> Any:
        self._connection.settimeout(self._task.answer_s)
        try:
            remote_server.send(self._connection, {"call": call, "arguments": arguments})
        except OSError:
            raise self._gone() from None
        return self._answer(call)

    def _answer(self, call: str = "make the environment") -> Any:
        try:
            reply = remote_server.receive(self._connection)
        except TimeoutError:
            self.close()
            raise EnvironmentGone(f"task '{self.name}': no answer to '{call}' in time; its process was ended") from None
        except (OSError, EOFError, ValueError):
            raise self._gone() from None
        if "error" in reply:
            raise EnvironmentFailure(f"task '{self.name}': '{call}' failed: {reply['error']}")
        return reply["result"]

    def _gone(self) -> EnvironmentGone:
        self.close()
        status = self._process.wait()
        return EnvironmentGone(f"task '{self.name}': its process has ended (status {status}){self._last_words()}")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


class _RemoteBehaviour:
    """What the environment's process lets act."""

    def __init__(self, environment: RemoteEnvironment) -> None:
        self._environment = environment

    def act(self) -> Array:
        """The next action (dim,)."""
        return self._environment.act()


def _observation(given: dict[str, Any]) -> Observation:
    vectors = {name: np.asarray(value, np.float64) for name, value in given.get("vectors", {}).items()}
    return Observation(given["frames"], vectors)


def _stop(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
