"""environment_node: a world in another process in the arm's place, on its own and in the whole loop."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2: source one, or install the extra `ros`")

from conftest import small_model_config
from geometry_msgs.msg import PoseStamped, TwistStamped
from ros_processes import Probe, Processes, node_command, refusal
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64, String

from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, save_checkpoint
from lewm_ros.nodes.environment_node import EnvironmentNode
from lewm_ros.nodes.qos import LATCHED
from lewm_ros.observation.input_spec import CameraSpec, InputSpec
from lewm_ros.observation.stamps import stamp_to_ns
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.arm import PANDA
from lewm_ros.robot.arm_actions import ee_delta
from lewm_ros.robot.twist import AXES
from lewm_training.judge.evaluate_ros import evaluate_ros

WORLD = '''
import numpy as np

class World:
    """A hand that goes where it is told, and a thing 0.1 m in front of it that is to be reached."""
    def __init__(self, image_size=32, names="", twist=True, budget=30, **_):
        self.budget = budget
        self.size, self.names, self.twist, self.hand, self.gripper = image_size, names.split(), twist, np.zeros(3), 0.0
    def describe(self):
        delta = [{"name": n, "kind": "delta", "unit": "m", "low": -0.05, "high": 0.05} for n in ("x", "y", "z")]
        turn = [{"name": n, "kind": "delta", "unit": "rad", "low": -0.5, "high": 0.5} for n in ("rx", "ry", "rz")]
        gripper = {"name": "gripper", "kind": "absolute", "low": -1.0, "high": 1.0, "rest": None}
        joints = [{"name": n, "kind": "delta", "unit": "rad"} for n in self.names]
        channels = [*delta, *turn, gripper] if self.twist else joints
        return {"name": "ee_delta", "channels": channels, "control_hz": 20.0, "cameras": ["scene", "wrist"],
                "vectors": {"proprio": self.names}, "budget_steps": self.budget}
    def problems(self, seed):
        rng = np.random.default_rng(seed)
        while True:
            yield rng.uniform(-0.01, 0.01)
    def reset(self, problem):
        self.hand, self.goal, self.cost, self.over = np.zeros(3), np.array([0.1, problem, 0.0]), 0.0, False
    def frame(self, hand):
        frame = np.tile(np.linspace(40, 200, self.size, dtype=np.uint8)[:, None, None], (1, self.size, 3))
        frame[:, : max(1, int(self.size * (0.2 + 5.0 * hand[0])))] = 250
        return frame
    def observe(self):
        frames = {"scene": self.frame(self.hand), "wrist": self.frame(-self.hand)[::-1].copy()}
        return {"frames": frames, "vectors": {"proprio": HOME + 0.1 * self.hand[0]}}
    def goals(self):
        return [{"frames": {"scene": self.frame(self.goal), "wrist": self.frame(-self.goal)},
                 "vectors": {"proprio": HOME}}]
    def labels(self):
        return {"ee_position": self.hand, "ee_quaternion": np.array([0.0, 1.0, 0.0, 0.0])}
    def step(self, action):
        self.hand = self.hand + action[:3]
        self.cost += 0.0 if self.over else 0.5
        self.gripper = action[-1]
        self.over = self.over or float(np.linalg.norm(self.goal - self.hand)) < 0.03
    def score(self):
        return {"value": float(np.linalg.norm(self.goal - self.hand)), "unit": "m", "success": self.over,
                "stages": {"moved": self.hand[0] != 0.0, "there": self.over}, "cost": self.cost, "over": self.over}
    def random(self, seed):
        pass
    def act(self):
        return np.zeros(7)
'''


def write_task(folder: Path, **arguments: object) -> str:
    home = f"HOME = np.array({PANDA.home_rad.tolist()})\n"
    (folder / "world_of_a_hand.py").write_text(WORLD.replace("import numpy as np\n", f"import numpy as np\n{home}", 1))
    content = {
        "adapter": "remote",
        "python": sys.executable,
        "factory": "world_of_a_hand:World",
        "path": ["."],
        "arguments": {"names": " ".join(PANDA.joint_names), **arguments},
    }
    path = folder / "hand.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def in_namespace(name: str, **parameters: object) -> list[str]:
    given = [word for key, value in {"image_size": 32, **parameters}.items() for word in ("-p", f"{key}:={value}")]
    return [*node_command("environment_node"), *given, "-r", f"__ns:=/{name}"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Probe]:
    """The node alone; it must be gone before another one begins, since all speak of one /clock."""
    probe = Probe(Processes())
    probe.processes.start(in_namespace("one", task=write_task(tmp_path)))
    for message, topic in (
        (Image, "one/scene/image"),
        (Image, "one/wrist/image"),
        (JointState, "one/joint_states"),
        (PoseStamped, "one/environment_node/tcp_pose"),
        (Float64, "one/environment_node/distance"),
        (Float64, "one/environment_node/cost"),
        (Bool, "one/environment_node/over"),
        (String, "one/environment_node/stages"),
    ):
        probe.listen(message, topic)
    probe.listen(Image, "one/scene/goal_image", LATCHED)
    try:
        yield probe
    finally:
        assert [status for status, _ in probe.processes.interrupt()] == [0]
        probe.close()


def test_nothing_is_shown_before_the_first_problem_and_twists_bring_the_hand_there(world: Probe) -> None:
    images, poses = world.heard["one/scene/image"], world.heard["one/environment_node/tcp_pose"]
    twist = world.node.create_publisher(TwistStamped, "one/twist", 1)
    world.wait(lambda: twist.get_subscription_count(), "the node")
    world.spin(0.3)
    assert not images
    answer = json.loads(world.call("one/environment_node/reset").message)
    assert (answer["index"], answer["budget_s"]) == (0, 1.5)
    assert answer["start_distance_m"] == pytest.approx(0.1, abs=0.002)
    world.wait(lambda: len(images) >= 4, "frames")
    goal = world.heard["one/scene/goal_image"][-1]
    assert stamp_to_ns(goal.header.stamp) == answer["goal_stamp_ns"]
    apart_ns = np.diff([stamp_to_ns(image.header.stamp) for image in images])
    assert (apart_ns > 0).all()
    assert (apart_ns % 50_000_000 == 0).all(), "a step each; who is busy misses some"
    shown_ns = {stamp_to_ns(image.header.stamp) for image in world.heard["one/wrist/image"]}
    assert shown_ns & {stamp_to_ns(image.header.stamp) for image in images}, "both cameras at the same times"
    assert tuple(world.heard["one/joint_states"][-1].name) == PANDA.joint_names
    assert poses[-1].pose.position.x == 0.0, "without commands it rests"
    command = TwistStamped()
    command.twist.linear.x = 0.2  # a centimetre per step
    over = world.heard["one/environment_node/over"]

    def there() -> bool:
        twist.publish(command)
        return bool(over) and over[-1].data

    world.wait(there, "the hand to get there")
    shifts_m = np.diff([pose.pose.position.x for pose in poses])
    steps = np.diff([stamp_to_ns(pose.header.stamp) for pose in poses]) / 50_000_000
    assert (shifts_m / np.maximum(steps, 1)).max() == pytest.approx(0.01)
    stages = world.heard["one/environment_node/stages"]
    world.wait(lambda: json.loads(stages[-1].data) == {"moved": True, "there": True}, "its stages")
    assert world.heard["one/environment_node/cost"][-1].data > 0.0
    world.spin(0.5)  # the last twist is old by now
    rests_m = poses[-1].pose.position.x
    world.spin(0.3)
    assert poses[-1].pose.position.x == rests_m
    again = json.loads(world.call("one/environment_node/reset").message)
    assert again["index"] == 1
    world.wait(lambda: poses[-1].pose.position.x == 0.0, "the next problem")


def test_an_endless_one_goes_on_by_itself(tmp_path: Path) -> None:
    probe = Probe(Processes())
    probe.processes.start(in_namespace("two", task=write_task(tmp_path), endless=True, speed=10.0))
    goals = probe.listen(Image, "two/scene/goal_image", LATCHED)
    try:
        probe.wait(lambda: len(goals) >= 3, "goals")
        apart_ns = np.diff([stamp_to_ns(goal.header.stamp) for goal in goals])
        assert (apart_ns[-1:] == 31 * 50_000_000).all(), "thirty steps, and the one at which the next begins"
    finally:
        probe.processes.interrupt()
        probe.close()


@pytest.mark.parametrize(
    ("arguments", "task", "words"),
    [({"twist": False}, "", "here actions must be twists"), ({}, "juggle", "task 'juggle' is unknown")],
)
def test_a_task_that_it_cannot_serve_is_refused_in_one_line(
    tmp_path: Path, arguments: dict, task: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given = f"task:={task or write_task(tmp_path, **arguments)}"
    assert words in refusal({"environment_node": EnvironmentNode}, capfd, given)


def test_encoder_and_planner_drive_it_unchanged(tmp_path: Path) -> None:
    space = replace(ee_delta((0.05,) * len(AXES), 20.0), action_block=5)
    inputs = InputSpec(tuple(CameraSpec(name, 32) for name in ("scene", "wrist")), ())
    model = LeWorldModel(replace(small_model_config(), action_dim=space.block_dim), inputs).eval()
    path = save_checkpoint(Checkpoint(model, space), tmp_path / "hand")
    search = PlannerConfig(solver="cem", horizon=4, samples=16, elites=4, iterations=2, precision="fp32")
    report = evaluate_ros(str(path), write_task(tmp_path, budget=100), 2, 0, search, "cpu")
    assert (report["task"], report["transport"], report["episodes"]) == ("hand", "ros", 2)
    assert report["without_plan"] < 2, "on a very busy machine one may be over before there is a plan"
    assert set(report["stages"]) == {"moved", "there"}
    assert report["cycles"] > 50
    assert report["cost"]["max"] > 0.0
    assert report["do_nothing_success_rate"] == 0.0
