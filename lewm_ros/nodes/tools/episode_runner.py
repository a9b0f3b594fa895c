"""Drives a number of goals through the running encoder, planner and simulator, and writes down what was seen.

    python -m lewm_ros.nodes.tools.episode_runner --goals 5 --out goals.jsonl [--record FOLDER]

One JSON line per goal is appended to the file as soon as the goal is over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.conversions import message_to_rgb
from lewm_ros.nodes.image_transport import camera_topics
from lewm_ros.nodes.planner.loop_state import STRANGE_GOAL
from lewm_ros.nodes.qos import LATCHED, NEWEST_FRAME, RELIABLE
from lewm_ros.nodes.runner import refuse
from lewm_ros.nodes.tools.episode_result import EpisodeResult, Frames
from lewm_ros.observation.alignment import FramePairing
from lewm_ros.observation.stamps import NS_PER_S, stamp_to_ns
from lewm_ros.observation.timeline import Held

ENCODER, PLANNER = "encoder_node", "planner_node"
ENABLE_PERIOD_S = 0.1
SETTLED_NS = 100_000_000
"""After a problem is over, until all that is said of it has come."""
REFUSED_S = 2.0
"""A goal that is refused for so long is refused; before, it may be the goal before that the planner still knows."""
NO_PLAN = {"cycles": "0", "missed_cycles": "0"} | dict.fromkeys(
    ("committed_steps", "plan_latency_p50_s", "plan_latency_p95_s"), "none"
)
"""In place of the planner's diagnostics, which are still of the goal before, if it has refused a goal."""


class GoalError(RuntimeError):
    """The goals cannot be driven; the message is one line for the user."""


class EpisodeRunner(Node):
    """Watches the topics and calls the services of the three nodes, one goal after the other.

    Args:
        simulator: name of its node.
        cameras: names of the simulator's.
        timeout_s: how long to wait for a node.
        film: keep camera frames.
    """

    def __init__(self, simulator: str, cameras: Sequence[str], timeout_s: float, film: bool) -> None:
        super().__init__("episode_runner")
        self._simulator, self._cameras, self._timeout_s = simulator, cameras, timeout_s
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._episode: EpisodeResult | None = None
        self._time_ns = self._end_ns = 0
        self._goal_images: dict[str, Image] = {}
        self._goal_embedding_ns = 0
        self._planner: dict[str, str] | None = None
        self.create_subscription(PoseStamped, f"{simulator}/tcp_pose", self._on_pose, RELIABLE)
        self.create_subscription(Float64, f"{simulator}/distance", self._on_distance, RELIABLE)
        self.create_subscription(Bool, f"{simulator}/solved", self._on_solved, RELIABLE)
        self.create_subscription(String, f"{simulator}/stages", self._on_stages, RELIABLE)
        self.create_subscription(Float64, f"{simulator}/cost", self._on_way_cost, RELIABLE)
        self.create_subscription(Bool, f"{simulator}/over", self._on_over, RELIABLE)
        for name, topic in camera_topics(cameras, "goal_image").items():
            self.create_subscription(Image, topic, partial(self._goal_images.__setitem__, name), LATCHED)
        self.create_subscription(Image, "goal_embedding", self._on_goal_embedding, LATCHED)
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
        self._pairing = FramePairing(cameras, tolerance_s=0.0)
        for name, topic in (camera_topics(cameras) if film else {}).items():
            self.create_subscription(Image, topic, partial(self._on_image, name), NEWEST_FRAME)
        self._reset_sim = self.create_client(Trigger, f"{simulator}/reset")
        self._stop_planner = self.create_client(Trigger, f"{PLANNER}/stop")
        self._enable_planner = self.create_client(SetBool, f"{PLANNER}/enable")

    def drive(self) -> tuple[EpisodeResult, dict[str, Any]]:
        """Drive the next goal of the simulator's sequence; returns the episode and its summary.

        If the planner refuses the goal because it looks unlike those of demonstrations, the arm stays where it is.

        Raises:
            GoalError: a topic, a service or an agreement is missing.
        """
        self._call(self._stop_planner, Trigger.Request())
        problem = json.loads(self._call(self._reset_sim, Trigger.Request()).message)
        goal_ns, budget_s = problem["goal_stamp_ns"], problem["budget_s"]
        self._wait(lambda: self._goal_embedding_ns == goal_ns, f"the goal's embedding on goal_embedding ({ENCODER})")
        self._wait(lambda: self._is_shown(goal_ns), f"the goal on goal_image ({self._simulator})")
        self._wait(lambda: self._time_ns > goal_ns, f"poses on {self._simulator}/tcp_pose")
        enabled = self._enable()
        goal = self._together(self._goal_images)
        episode = EpisodeResult(problem["index"], self._time_ns, problem["start_distance_m"], goal)
        self._end_ns, started_s = self._time_ns + round(budget_s * NS_PER_S), time.monotonic()
        self._episode = episode
        while (now_ns := self._time_ns) < self._end_ns:  # however slow the simulator is
            self._wait(lambda now_ns=now_ns: self._time_ns > now_ns, f"poses on {self._simulator}/tcp_pose")
        simulated_s = (self._time_ns - episode.start_ns) / NS_PER_S
        real_time_factor = simulated_s / (time.monotonic() - started_s)
        if self._film and not episode.frames:
            raise GoalError(f"no frame came on image ({self._simulator}) in the goal's time")
        self._episode = self._planner = None
        self._call(self._stop_planner, Trigger.Request())
        self._wait(lambda: self._planner is not None and self._planner["state"] == "idle", f"{PLANNER} on /diagnostics")
        return episode, episode.summary(real_time_factor, self._planner if enabled else NO_PLAN)

    def _enable(self) -> bool:
        """Enable the planner as soon as it has all its inputs; returns whether it takes the goal."""
        start_s = time.monotonic()
        while not (response := self._call(self._enable_planner, SetBool.Request(data=True))).success:
            waited_s = time.monotonic() - start_s
            if STRANGE_GOAL in response.message and waited_s > REFUSED_S:
                self.get_logger().warning(response.message)
                return False
            if waited_s > self._timeout_s:
                raise GoalError(f"{PLANNER}/enable: {response.message}")
            self._executor.spin_once(ENABLE_PERIOD_S)
        return True

    def _call(self, client: Client, request: Any) -> Any:
        name = self.resolve_service_name(client.srv_name)
        self._wait(client.service_is_ready, f"the service {name}")
        future = client.call_async(request)
        self._wait(future.done, f"an answer of {name}")
        return future.result()

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise GoalError(f"waited {self._timeout_s:g} s in vain for {what}; is the node running?")
            self._executor.spin_once(0.1)

    def _is_shown(self, goal_ns: int) -> bool:
        """Whether the goal of this stamp has come for every camera."""
        stamps_ns = [stamp_to_ns(image.header.stamp) for image in self._goal_images.values()]
        return stamps_ns == [goal_ns] * len(self._cameras)

    def _together(self, messages: dict[str, Image]) -> Frames:
        """A frame of every camera, in their order."""
        return np.stack([message_to_rgb(messages[name]) for name in self._cameras])

    def _on_pose(self, message: PoseStamped) -> None:
        self._time_ns = stamp_to_ns(message.header.stamp)

    def _on_distance(self, message: Float64) -> None:
        if self._episode is not None and self._time_ns <= self._end_ns:
            self._episode.add_distance(self._time_ns, message.data)

    def _on_solved(self, message: Bool) -> None:
        if self._episode is not None and self._time_ns <= self._end_ns:
            self._episode.solved = message.data

    def _on_stages(self, message: String) -> None:
        if self._episode is not None and self._time_ns <= self._end_ns:
            self._episode.saw_stages(self._time_ns, json.loads(message.data))

    def _on_way_cost(self, message: Float64) -> None:
        if self._episode is not None and self._time_ns <= self._end_ns:
            self._episode.cost = message.data

    def _on_over(self, message: Bool) -> None:
        if self._episode is not None and message.data:
            self._end_ns = min(self._end_ns, self._time_ns + SETTLED_NS)

    def _on_goal_embedding(self, message: Image) -> None:
        self._goal_embedding_ns = stamp_to_ns(message.header.stamp)

    def _on_cost(self, message: Float64) -> None:
        if self._episode is not None:
            self._episode.costs.append((self._time_ns, message.data))

    def _on_surprise(self, message: Float64) -> None:
        if self._episode is not None:
            self._episode.surprises.append((self._time_ns, message.data))

    def _on_command(self, _: Any) -> None:
        if self._episode is not None:
            self._episode.command_ns.append(self._time_ns)

    def _on_image(self, camera: str, message: Image) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        for paired in self._pairing.push(camera, Held(stamp_ns, stamp_ns, message)):
            if self._episode is not None and self._episode.wants_frames(paired.stamp_ns):
                messages = {name: held.value for name, held in paired.frames.items()}
                self._episode.add_frames(paired.stamp_ns, self._together(messages))

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
    parser.add_argument("--simulator", default="sim_node", help="name of its node (default: %(default)s)")
    parser.add_argument("--cameras", nargs="+", default=["scene"], help="of the simulator (default: scene)")
    parser.add_argument(
        "--timeout-s", type=float, default=60.0, help="how long to wait for a node (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def main(args: list[str] | None = None) -> int:
    """Exit status 0 when all goals were driven, 2 with one line on stderr when a node is missing."""
    arguments = sys.argv[1:] if args is None else args
    options = parse_arguments(remove_ros_args(arguments))
    rclpy.init(args=arguments)
    runner = EpisodeRunner(options.simulator, options.cameras, options.timeout_s, film=options.record is not None)
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
    except GoalError as error:
        return refuse("episode_runner", str(error))
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        runner.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
