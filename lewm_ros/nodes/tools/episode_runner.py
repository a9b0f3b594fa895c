"""Drives a number of goals through the running encoder, planner and simulator, and writes down what was seen.

    python -m lewm_ros.nodes.tools.episode_runner --goals 5 --out goals.jsonl [--record FOLDER]

One JSON line per goal is appended to the file as soon as the goal is over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.conversions import message_to_rgb
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE
from lewm_ros.nodes.runner import refuse
from lewm_ros.nodes.tools.episode import Episode
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.sim import TASKS, make_task

T = TypeVar("T")

ENCODER, PLANNER, SIM = "encoder_node", "planner_node", "sim_node"
ENABLE_PERIOD_S = 0.1


class EpisodeError(RuntimeError):
    """The goals cannot be driven; the message is one line for the user."""


class EpisodeRunner(Node):
    """Watches the topics and calls the services of the three nodes, one goal after the other.

    Args:
        budget_s: simulated time that each goal gets.
        success_m: largest final distance that counts as reached.
        timeout_s: how long to wait for a node.
        film: keep camera frames.
    """

    def __init__(self, budget_s: float, success_m: float, timeout_s: float, film: bool) -> None:
        super().__init__("episode_runner")
        self._budget_ns, self._success_m, self._timeout_s = round(budget_s * NS_PER_S), success_m, timeout_s
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._episode: Episode | None = None
        self._time_ns = 0
        self._goal_image: Image | None = None
        self._goal_embedding_ns = 0
        self._planner: dict[str, str] | None = None
        self.create_subscription(PoseStamped, f"{SIM}/tcp_pose", self._on_pose, RELIABLE)
        self.create_subscription(Float64, f"{SIM}/distance", self._on_distance, RELIABLE)
        self.create_subscription(Image, "goal_image", self._on_goal_image, LATCHED)
        self.create_subscription(Image, "goal_embedding", self._on_goal_embedding, LATCHED)
        self.create_subscription(JointTrajectory, f"{PLANNER}/plan", self._on_plan, RELIABLE)
        self.create_subscription(Float64, f"{PLANNER}/plan_cost", self._on_cost, RELIABLE)
        self.create_subscription(Float64, f"{PLANNER}/surprise", self._on_surprise, RELIABLE)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        for message, topic in (
            (JointTrajectory, "joint_trajectory"),
            (Float64MultiArray, "commands"),
            (TwistStamped, "twist"),
        ):
            self.create_subscription(message, topic, self._on_command, RELIABLE)
        self._film = film
        if film:
            self.create_subscription(Image, "image", self._on_image, NEWEST_FRAME)
        self._reset_sim = self.create_client(Trigger, f"{SIM}/reset")
        self._stop_planner = self.create_client(Trigger, f"{PLANNER}/stop")
        self._enable_planner = self.create_client(SetBool, f"{PLANNER}/enable")

    def drive(self) -> tuple[Episode, dict[str, Any]]:
        """Drive the next goal of the simulator's sequence; returns the episode and its summary.

        Raises:
            EpisodeError: a topic, a service or an agreement is missing.
        """
        self._call(self._stop_planner, Trigger.Request())
        problem = json.loads(self._call(self._reset_sim, Trigger.Request()).message)
        goal_ns = problem["goal_stamp_ns"]
        self._wait(lambda: self._goal_embedding_ns == goal_ns, f"the goal's embedding on goal_embedding ({ENCODER})")
        self._wait(lambda: self._stamp_of(self._goal_image) == goal_ns, f"the goal on goal_image ({SIM})")
        self._wait(lambda: self._time_ns > goal_ns, f"poses on {SIM}/tcp_pose")
        self._enable()
        goal = message_to_rgb(self._goal_image)
        self._episode = episode = Episode(problem["index"], self._time_ns, problem["start_distance_m"], goal)
        end_ns, started_s = self._time_ns + self._budget_ns, time.monotonic()
        self._wait(lambda: self._time_ns >= end_ns, f"poses on {SIM}/tcp_pose", self._budget_ns / NS_PER_S)
        real_time_factor = self._budget_ns / NS_PER_S / (time.monotonic() - started_s)
        if self._film and not episode.frames:
            raise EpisodeError(f"no frame came on image ({SIM}) in the goal's time")
        self._episode = self._planner = None
        self._call(self._stop_planner, Trigger.Request())
        self._wait(lambda: self._planner is not None and self._planner["state"] == "idle", f"{PLANNER} on /diagnostics")
        return episode, episode.summary(self._success_m, real_time_factor, self._planner)

    def _enable(self) -> None:
        """Enable the planner as soon as it has all its inputs."""
        deadline_s = time.monotonic() + self._timeout_s
        while not (response := self._call(self._enable_planner, SetBool.Request(data=True))).success:
            if time.monotonic() > deadline_s:
                raise EpisodeError(f"{PLANNER}/enable: {response.message}")
            self._executor.spin_once(ENABLE_PERIOD_S)

    def _call(self, client: Client, request: Any) -> Any:
        name = self.resolve_service_name(client.srv_name)
        self._wait(client.service_is_ready, f"the service {name}")
        future = client.call_async(request)
        self._wait(future.done, f"an answer of {name}")
        return future.result()

    def _wait(self, holds: Callable[[], bool], what: str, longer_s: float = 0.0) -> None:
        deadline_s = time.monotonic() + self._timeout_s + longer_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise EpisodeError(f"waited {self._timeout_s + longer_s:g} s in vain for {what}; is the node running?")
            self._executor.spin_once(0.1)

    @staticmethod
    def _stamp_of(message: Image | None) -> int:
        return 0 if message is None else stamp_to_ns(message.header.stamp)

    def _on_pose(self, message: PoseStamped) -> None:
        self._time_ns = stamp_to_ns(message.header.stamp)

    def _on_distance(self, message: Float64) -> None:
        if self._episode is not None and self._time_ns <= self._episode.start_ns + self._budget_ns:
            self._episode.add_distance(self._time_ns, message.data)

    def _on_goal_image(self, message: Image) -> None:
        self._goal_image = message

    def _on_goal_embedding(self, message: Image) -> None:
        self._goal_embedding_ns = self._stamp_of(message)

    def _on_plan(self, message: JointTrajectory) -> None:
        if self._episode is not None:
            self._episode.plan_ns.append(stamp_to_ns(message.header.stamp))

    def _on_cost(self, message: Float64) -> None:
        if self._episode is not None:
            self._episode.costs.append((self._time_ns, message.data))

    def _on_surprise(self, message: Float64) -> None:
        if self._episode is not None:
            self._episode.surprises.append((self._time_ns, message.data))

    def _on_command(self, _: Any) -> None:
        if self._episode is not None:
            self._episode.command_ns.append(self._time_ns)

    def _on_image(self, message: Image) -> None:
        time_ns = self._stamp_of(message)
        if self._episode is not None and self._episode.wants_frame(time_ns):
            self._episode.add_frame(time_ns, message_to_rgb(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        name = f"{self.get_namespace()}/{PLANNER}".lstrip("/")
        for status in message.status:
            if status.name == name:
                self._planner = {value.key: value.value for value in status.values}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line without its ROS arguments."""
    parser = argparse.ArgumentParser(prog="episode_runner", description=__doc__.splitlines()[0])
    parser.add_argument("--goals", type=int, default=5, help="how many goals (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="file to append one JSON line per goal to")
    parser.add_argument("--record", type=Path, help="folder for one NPZ of camera frames per goal")
    parser.add_argument("--task", choices=TASKS, default="reach", help="what the simulator runs (default: %(default)s)")
    parser.add_argument(
        "--control-hz", type=float, default=20.0, help="control steps per second (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout-s", type=float, default=60.0, help="how long to wait for a node (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def main(args: list[str] | None = None) -> int:
    """Exit status 0 when all goals were driven, 2 with one line on stderr when a node is missing."""
    arguments = sys.argv[1:] if args is None else args
    options = parse_arguments(remove_ros_args(arguments))
    task = make_task(options.task)
    rclpy.init(args=arguments)
    budget_s = task.budget_steps / options.control_hz
    runner = EpisodeRunner(budget_s, task.success_m, options.timeout_s, film=options.record is not None)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.record is not None:
        options.record.mkdir(parents=True, exist_ok=True)
    try:
        with options.out.open("a", encoding="utf-8") as out:
            for _ in range(options.goals):
                episode, summary = runner.drive()
                if options.record is not None:
                    episode.save_film(options.record)
                out.write(json.dumps(summary) + "\n")
                out.flush()
    except EpisodeError as error:
        return refuse("episode_runner", str(error))
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        runner.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
