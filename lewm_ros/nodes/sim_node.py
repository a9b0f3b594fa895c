"""sim_node: a simulated arm that stands in for a real one, its controllers and its camera."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64, Float64MultiArray, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.config import ConfigError
from lewm_ros.nodes.conversions import NS_PER_S, ns_to_stamp, rgb_to_image
from lewm_ros.nodes.diagnostics import Diagnostics, Report
from lewm_ros.nodes.inputs import Input
from lewm_ros.nodes.parameters import Parameters
from lewm_ros.nodes.qos import LATCHED, NEWEST
from lewm_ros.nodes.runner import run
from lewm_ros.nodes.sim_commands import Command, Hold, Trajectory, Twist
from lewm_ros.robot.arm import PANDA
from lewm_ros.sim import TASKS, Problem, SimArm, draw_problems, make_task
from lewm_ros.sim.actions import gripper_opening_m

Array = NDArray[np.float64]

BASE_FRAME = "panda_link0"
CAMERA_FRAME = "scene_camera"
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
MAX_TICKS_AT_ONCE = 2
"""When behind: time goes at most twice as fast, which the other nodes can follow."""
MAX_BEHIND_S = 0.5
"""More than this is not caught up."""
LOG_PERIOD_S = 5.0


class SimNode(Node):
    """Simulates in real time: time starts at the wall clock's and goes on with physics, in ticks.

    While the machine keeps up, stamps fit the wall clock and /clock alike. If it falls behind too far, simulated time
    slips; then only nodes with `use_sim_time` still find the stamps fresh.
    """

    def __init__(self) -> None:
        super().__init__("sim_node")
        parameters = Parameters(self)
        task = parameters.declare("task", "reach", "which task to set up", choices=tuple(TASKS))
        seed = parameters.declare("seed", 0, "of the sequence of problems", low=0, high=2**31 - 1)
        image_size = parameters.declare(
            "image_size", 96, "height and width of a camera frame, pixels", low=16, high=2048
        )
        tick_hz = parameters.declare(
            "tick_hz", 40.0, "rate of /clock, joint states and commands, Hz", low=1.0, high=400.0
        )
        image_hz = parameters.declare("image_hz", 20.0, "rate of the camera, Hz; divides tick_hz", low=0.1, high=400.0)
        goal_period_s = parameters.declare(
            "goal_period_s", 0.0, "a new goal every so many seconds; 0: only by ~/reset", low=0.0, high=3600.0
        )
        parameters.refuse_unknown()

        self._task = make_task(task)
        self._arm = SimArm(tick_hz, image_size, cube=self._task.needs_cube)
        # Goals are posed and rendered by a second arm, so that the first one is never moved for it.
        self._goal_arm = SimArm(tick_hz, image_size, cube=self._task.needs_cube)
        self._ticks_per_image = _whole("image_hz", tick_hz / image_hz, f"divide tick_hz {tick_hz:g}")
        _whole("tick_hz", 1.0 / (tick_hz * self._arm.model.opt.timestep), "divide the rate of physics, 400")
        self._goal_period_ticks = round(goal_period_s * tick_hz)
        self._tick_hz, self._tick_ns = tick_hz, round(NS_PER_S / tick_hz)
        self._problems = draw_problems(self._task, self._goal_arm, seed)
        self._index = -1
        self._problem: Problem | None = None
        self._hold(not_before_ns=0)

        self._clock_out = self.create_publisher(ClockMessage, "/clock", NEWEST)
        self._joint_states = self.create_publisher(JointState, "joint_states", NEWEST)
        self._image = self.create_publisher(Image, "image", NEWEST)
        self._camera_info = self.create_publisher(CameraInfo, "camera_info", NEWEST)
        self._goal_image = self.create_publisher(Image, "goal_image", LATCHED)
        self._tcp_pose = self.create_publisher(PoseStamped, "~/tcp_pose", NEWEST)
        self._goal_pose = self.create_publisher(PoseStamped, "~/goal_pose", LATCHED)
        self._distance = self.create_publisher(Float64, "~/distance", NEWEST)
        self._inputs = {name: Input[Command](name) for name in ("joint_trajectory", "commands", "twist", "gripper")}
        self.create_subscription(JointTrajectory, "joint_trajectory", self._on_trajectory, NEWEST)
        self.create_subscription(Float64MultiArray, "commands", self._on_commands, NEWEST)
        self.create_subscription(TwistStamped, "twist", self._on_twist, NEWEST)
        self.create_subscription(Float64, "gripper", self._on_gripper, NEWEST)
        self.create_service(Trigger, "~/reset", self._on_reset)
        Diagnostics(self, f"MuJoCo {task}", self._report)
        for arm in (self._arm, self._goal_arm):
            arm.render()  # the first one is slow
        self._ticks, self._origin_ns, self._started_s, self._slipped_s = 0, time.time_ns(), time.monotonic(), 0.0
        if self._goal_period_ticks:
            self._next_problem()
            self._publish_goal()
        self.create_timer(1.0 / tick_hz, self._catch_up, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy_node(self) -> None:
        self._arm.close()
        self._goal_arm.close()
        super().destroy_node()

    @property
    def time_ns(self) -> int:
        """Simulated time."""
        return self._origin_ns + self._ticks * self._tick_ns

    # Physics

    def _catch_up(self) -> None:
        behind_s = time.monotonic() - self._started_s - self._slipped_s - self._ticks / self._tick_hz
        self._slipped_s += max(behind_s - MAX_BEHIND_S, 0.0)
        for _ in range(min(int(behind_s * self._tick_hz), MAX_TICKS_AT_ONCE)):
            self._tick()

    def _tick(self) -> None:
        previous_rad = self._arm.target_rad
        target_rad = self._command.target_rad(self._arm, self.time_ns + self._tick_ns)
        self._arm.step(target_rad, self._gripper_m)
        self._target_rad_s = (self._arm.target_rad - previous_rad) * self._tick_hz
        self._ticks += 1
        if self._goal_period_ticks and self._ticks % self._goal_period_ticks == 0:
            self._next_problem()
            self._publish_goal()
        self._publish_state()

    def _hold(self, not_before_ns: int) -> None:
        """Stay, and ignore commands published before a wall time."""
        self._command: Command = Hold(self._arm.target_rad)
        self._target_rad_s = np.zeros_like(self._arm.target_rad)
        self._gripper_m: float | None = None
        self._not_before_ns = not_before_ns

    # Commands

    def _on_trajectory(self, message: JointTrajectory, info: dict[str, Any]) -> None:
        self._take("joint_trajectory", info, lambda: self._follow(message))

    def _follow(self, message: JointTrajectory) -> Command:
        return Trajectory(message, self.time_ns, self._arm.target_rad, self._target_rad_s)

    def _on_commands(self, message: Float64MultiArray, info: dict[str, Any]) -> None:
        self._take("commands", info, lambda: Hold.from_message(message))

    def _on_twist(self, message: TwistStamped, info: dict[str, Any]) -> None:
        self._take("twist", info, lambda: Twist(message, self.time_ns))

    def _on_gripper(self, message: Float64, info: dict[str, Any]) -> None:
        if info["source_timestamp"] >= self._not_before_ns and np.isfinite(message.data):
            self._inputs["gripper"].arrived(self.time_ns)
            self._gripper_m = gripper_opening_m(np.clip(message.data, -1.0, 1.0))

    def _take(self, name: str, info: dict[str, Any], parse: Callable[[], Command]) -> None:
        """Follow a command unless it is unsound or was published before the last reset."""
        if info["source_timestamp"] < self._not_before_ns:
            return
        source = self._inputs[name]
        source.arrived(self.time_ns)
        command = source.read(parse)
        if command is None:
            self.get_logger().error(source.error, throttle_duration_sec=LOG_PERIOD_S)
        else:
            self._command = command

    # Problems

    def _next_problem(self) -> Problem:
        self._problem = next(self._problems)
        self._index += 1
        return self._problem

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Go to the start of the next problem and show its goal."""
        problem = self._next_problem()
        self._task.start(self._arm, problem)
        self._hold(not_before_ns=time.time_ns())
        goal_ns = self._publish_goal()
        response.success = True
        response.message = json.dumps(
            {
                "index": self._index,
                "start_distance_m": round(self._task.distance_m(self._arm, problem), 4),
                "goal_stamp_ns": goal_ns,
            }
        )
        return response

    def _publish_goal(self) -> int:
        """Show the goal of the present problem; its stamp identifies it."""
        header = self._header(CAMERA_FRAME)
        self._task.show_goal(self._goal_arm, self._problem)
        self._goal_image.publish(rgb_to_image(self._goal_arm.render(), header))
        self._goal_pose.publish(self._pose(self._problem.goal_position_m, self._goal_arm.tcp_quaternion))
        return self.time_ns

    # Outputs

    def _publish_state(self) -> None:
        header, arm = self._header(BASE_FRAME), self._arm
        self._clock_out.publish(ClockMessage(clock=header.stamp))
        self._joint_states.publish(
            JointState(
                header=header,
                name=[*PANDA.joint_names, *FINGERS],
                position=[*arm.positions_rad, arm.gripper_m, arm.gripper_m],
                velocity=[*arm.velocities_rad_s, 0.0, 0.0],
            )
        )
        self._tcp_pose.publish(self._pose(arm.tcp_position_m, arm.tcp_quaternion))
        if self._problem is not None:
            self._distance.publish(Float64(data=self._task.distance_m(arm, self._problem)))
        if self._ticks % self._ticks_per_image == 0:
            frame = arm.render()
            header = self._header(CAMERA_FRAME)
            self._image.publish(rgb_to_image(frame, header))
            self._camera_info.publish(self._describe_camera(header, *frame.shape[:2]))

    def _header(self, frame_id: str) -> Header:
        return Header(stamp=ns_to_stamp(self.time_ns), frame_id=frame_id)

    def _pose(self, position_m: Array, quaternion_wxyz: Array) -> PoseStamped:
        message = PoseStamped(header=self._header(BASE_FRAME))
        position, orientation = message.pose.position, message.pose.orientation
        position.x, position.y, position.z = position_m.tolist()
        orientation.w, orientation.x, orientation.y, orientation.z = quaternion_wxyz.tolist()
        return message

    def _describe_camera(self, header: Header, height: int, width: int) -> CameraInfo:
        """A pinhole without distortion."""
        fovy_rad = np.deg2rad(self._arm.model.camera(self._arm.cameras[0]).fovy[0])
        focal_px = height / 2.0 / np.tan(fovy_rad / 2.0)
        k = np.array([[focal_px, 0.0, width / 2.0], [0.0, focal_px, height / 2.0], [0.0, 0.0, 1.0]])
        return CameraInfo(
            header=header,
            height=height,
            width=width,
            distortion_model="plumb_bob",
            d=[0.0] * 5,
            k=k.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([k, np.zeros((3, 1))]).ravel(),
        )

    def _report(self) -> Report:
        values = {
            "task": self._task.name,
            "problem": self._index,
            "time_s": self.time_ns / NS_PER_S,
            "slipped_s": f"{self._slipped_s:.2f}",
        }
        for source in self._inputs.values():
            values |= source.report(self.time_ns)
        errors = [source.error for source in self._inputs.values() if source.error]
        if errors:
            return Report.error("; ".join(errors), values)
        if self._slipped_s > 0.0:
            slip = f"simulated time is {self._slipped_s:.2f} s behind the wall clock, too much for this machine"
            return Report.warn(f"{slip}; give the other nodes use_sim_time", values)
        return Report.ok("simulating", values)


def _whole(name: str, ratio: float, right: str) -> int:
    if abs(ratio - round(ratio)) > 1e-6 or ratio < 0.5:
        raise ConfigError(f"parameter {name}: must {right}")
    return round(ratio)


def main(args: list[str] | None = None) -> int:
    """Run the node; returns the exit status."""
    return run("sim_node", SimNode, args)


if __name__ == "__main__":
    sys.exit(main())
