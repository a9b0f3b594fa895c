"""Encoder and planner for an arm that is already there; its topics are arguments.

For example: ros2 launch lewm_ros lewm.launch.py image:=/camera/image_raw
    joint_trajectory:=/arm_controller/joint_trajectory
"""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnShutdown
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import Parameter, ParameterValue
from launch_ros.substitutions import FindPackageShare

Remappings = list[tuple[str, SomeSubstitutionsType]]

TOPICS = {
    "image": "frames of the only camera (sensor_msgs/Image); compressed ones are read from IMAGE/compressed",
    "goal_image": "the view to bring about of the only camera (sensor_msgs/Image, transient local)",
    "joint_states": "measured positions (sensor_msgs/JointState)",
    "robot_description": "URDF that the limits are read from, if limits:=robot_description (std_msgs/String)",
    "joint_trajectory": "commands for joint_trajectory_controller (trajectory_msgs/JointTrajectory)",
    "commands": "commands for forward_command_controller (std_msgs/Float64MultiArray)",
    "twist": "commands for MoveIt Servo (geometry_msgs/TwistStamped)",
    "gripper": "gripper commands of checkpoints that have one (std_msgs/Float64, -1 open, +1 closed)",
}

PARAMETERS = {
    "autostart": "true: both nodes are configured and activated; false: `ros2 lifecycle set` does it",
    "checkpoint": "default, pick_place, push, or the path of a NAME.json",
    "device": "where the networks run: auto, cpu or cuda",
    "image_transport": "raw or compressed",
    "image_encoding": "what images are that only say an OpenCV type such as 8UC3, e.g. bgr8",
    "command_interface": "which of the command topics is used: joint_trajectory, commands or twist",
    "dry_run": "true: only ~/plan is published, no commands",
    "enable_on_activate": "true: the arm moves as soon as a goal is there; false: only after /planner_node/enable",
    "limits": "joint limits: panda, fr3, a YAML file or robot_description",
    "on_surprise": "when the world is not as predicted: warn, stop or ignore",
    "max_input_age_s": "oldest usable frame and joint state, by stamp and since arrival, in seconds",
    "max_plan_age_s": "longest time without a new plan, in seconds",
    "trace_file": "JSON file for the latencies of every plan, written at the end",
    "show_paths": "planned end-effector paths that /planner_node/paths shows",
    "gallery": "with view:=true, an HDF5 dataset whose frames show what is predicted",
}

PARAMETER_TYPES = {
    "encoder_node": {
        "autostart": bool,
        "checkpoint": str,
        "device": str,
        "image_transport": str,
        "image_encoding": str,
        "max_input_age_s": float,
    },
    "planner_node": {
        "autostart": bool,
        "checkpoint": str,
        "device": str,
        "command_interface": str,
        "dry_run": bool,
        "enable_on_activate": bool,
        "limits": str,
        "max_input_age_s": float,
        "max_plan_age_s": float,
        "on_surprise": str,
        "trace_file": str,
        "show_paths": int,
    },
    "view_node": {
        "autostart": bool,
        "checkpoint": str,
        "device": str,
        "image_transport": str,
        "image_encoding": str,
        "gallery": str,
    },
}


def generate_launch_description() -> LaunchDescription:
    """All arguments have defaults; those of parameters are empty, which leaves what the parameter file says."""
    share = FindPackageShare("lewm_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="of both nodes and of relative topics"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument(
                "composed",
                default_value="false",
                choices=["true", "false"],
                description="true: both nodes in one process; false: a process each",
            ),
            DeclareLaunchArgument(
                "sigterm_timeout",
                default_value="15",
                description="seconds in which a node must have stopped the arm and ended after an interrupt",
            ),
            DeclareLaunchArgument(
                "fastdds_profile",
                default_value="",
                description="true: config/fastdds.xml, for large images; or another file; the camera needs the same",
            ),
            DeclareLaunchArgument(
                "encoder_params",
                default_value=PathJoinSubstitution([share, "config", "encoder.yaml"]),
                description="parameter file of encoder_node",
            ),
            DeclareLaunchArgument(
                "planner_params",
                default_value=PathJoinSubstitution([share, "config", "planner.yaml"]),
                description="parameter file of planner_node",
            ),
            DeclareLaunchArgument(
                "view",
                default_value="false",
                choices=["true", "false"],
                description="true: also view_node, which draws frame, goal and prediction side by side",
            ),
            DeclareLaunchArgument(
                "view_params",
                default_value=PathJoinSubstitution([share, "config", "view.yaml"]),
                description="parameter file of view_node",
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=f"{text}; empty: as in the parameter files")
                for name, text in PARAMETERS.items()
            ),
            *(DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()),
            DeclareLaunchArgument(
                "cameras",
                default_value="",
                description="frames of several cameras as 'NAME=TOPIC NAME=TOPIC', by their names in the checkpoint; "
                "those that are not given are read from NAME/image; goal images from NAME/goal_image",
            ),
            OpaqueFunction(function=use_fastdds_profile),
            OpaqueFunction(function=start_nodes),
        ]
    )


def use_fastdds_profile(context: LaunchContext) -> list[SetEnvironmentVariable]:
    """Have Fast DDS read the profile that is asked for.

    Raises:
        FileNotFoundError: it does not exist, of which Fast DDS would say nothing.
    """
    profile = context.launch_configurations["fastdds_profile"]
    if not profile:
        return []
    if profile == "true":
        profile = str(Path(FindPackageShare("lewm_ros").perform(context), "config", "fastdds.xml"))
    if not Path(profile).is_file():
        raise FileNotFoundError(f"fastdds_profile: {profile} does not exist")
    return [SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile)]


def start_nodes(context: LaunchContext) -> list[Node | RegisterEventHandler]:
    """Encoder and planner; if one of them ends, so does the other, since neither is of use alone. And who looks on."""
    remappings = topic_remappings(context.launch_configurations["cameras"])
    given, nodes = write_given_parameters(context), ["encoder_node", "planner_node"]
    if context.launch_configurations["composed"] == "true":
        processes = [start_process("encoder_and_planner", nodes, given, remappings)]
    else:
        processes = [start_process(name, [name], given, remappings) for name in nodes]
    if context.launch_configurations["view"] == "true":
        processes.append(start_process("view_node", ["view_node"], given, remappings, needed=False))
    return [*processes, RegisterEventHandler(OnShutdown(on_shutdown=lambda *_: given.unlink(missing_ok=True)))]


def start_process(
    executable: str, nodes: list[str], given_parameters: Path, remappings: Remappings, needed: bool = True
) -> Node:
    """A process of these nodes; if one that is needed ends, so do the others.

    It gets no `name`, which would become the name of each of its nodes.
    """
    return Node(
        package="lewm_ros",
        executable=executable,
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            *(LaunchConfiguration(name.replace("node", "params")) for name in nodes),
            Parameter("use_sim_time", LaunchConfiguration("use_sim_time"), value_type=bool),
            str(given_parameters),
        ],
        remappings=remappings,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        on_exit=Shutdown(reason=f"{executable} has ended") if needed else None,
    )


def topic_remappings(cameras: str) -> Remappings:
    """Where the arguments say that topics are; see `camera_remappings` for the cameras and the errors."""
    remappings: Remappings = [(name, LaunchConfiguration(name)) for name in TOPICS]
    remappings.append(("image/compressed", [LaunchConfiguration("image"), "/compressed"]))
    return remappings + camera_remappings(cameras)


def camera_remappings(cameras: str) -> list[tuple[str, str]]:
    """Where the frames of cameras come from that are given as 'NAME=TOPIC NAME=TOPIC'.

    Raises:
        ValueError: they are given otherwise.
    """
    remappings = []
    for camera in cameras.split():
        name, _, topic = camera.partition("=")
        if not (name and topic):
            raise ValueError(f"cameras: expected NAME=TOPIC, got '{camera}'")
        remappings += [(f"{name}/image{suffix}", f"{topic}{suffix}") for suffix in ("", "/compressed")]
    return remappings


def write_given_parameters(context: LaunchContext) -> Path:
    """A new file with the launch arguments that are not empty, as parameters of the nodes that have them.

    Only a file can give parameters to one of several nodes in a process, in whatever namespace.
    """
    sections = {}
    for node, types in PARAMETER_TYPES.items():
        values = {
            name: ParameterValue(LaunchConfiguration(name), value_type=value_type).evaluate(context)
            for name, value_type in types.items()
            if context.launch_configurations[name]
        }
        sections[f"/**/{node}"] = {"ros__parameters": values}
    with NamedTemporaryFile("w", prefix="lewm_ros_", suffix=".yaml", delete=False) as file:
        yaml.safe_dump(sections, file)
    return Path(file.name)
