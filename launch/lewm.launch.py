"""Encoder and planner for an arm that is already there; its topics are arguments.

For example: ros2 launch lewm_ros lewm.launch.py image:=/camera/image_raw
    joint_trajectory:=/arm_controller/joint_trajectory
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

TOPICS = {
    "image": "camera frames (sensor_msgs/Image); compressed ones are read from IMAGE/compressed",
    "goal_image": "the view to bring about (sensor_msgs/Image, transient local)",
    "joint_states": "measured positions (sensor_msgs/JointState)",
    "robot_description": "URDF that the limits are read from, if limits:=robot_description (std_msgs/String)",
    "joint_trajectory": "commands for joint_trajectory_controller (trajectory_msgs/JointTrajectory)",
    "commands": "commands for forward_command_controller (std_msgs/Float64MultiArray)",
    "twist": "commands for MoveIt Servo (geometry_msgs/TwistStamped)",
    "gripper": "gripper commands beside twist (std_msgs/Float64, -1 open, +1 closed)",
}

PARAMETERS = {
    "autostart": "true: both nodes are configured and activated; false: `ros2 lifecycle set` does it",
    "checkpoint": "'default' or the path of a checkpoint's NAME.json",
    "device": "where the networks run: auto, cpu or cuda",
    "image_transport": "raw or compressed",
    "command_interface": "which of the command topics is used: joint_trajectory, commands or twist",
    "dry_run": "true: only ~/plan is published, no commands",
    "enable_on_activate": "true: the arm moves as soon as a goal is there; false: only after /planner_node/enable",
    "limits": "joint limits: panda, fr3, a YAML file or robot_description",
    "on_surprise": "when the world is not as predicted: warn, stop or ignore",
    "trace_file": "JSON file for the latencies of every plan, written at the end",
}

PARAMETER_TYPES = {
    "encoder_node": {"autostart": bool, "checkpoint": str, "device": str, "image_transport": str},
    "planner_node": {
        "autostart": bool,
        "checkpoint": str,
        "device": str,
        "command_interface": str,
        "dry_run": bool,
        "enable_on_activate": bool,
        "limits": str,
        "on_surprise": str,
        "trace_file": str,
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
                "encoder_params",
                default_value=PathJoinSubstitution([share, "config", "encoder.yaml"]),
                description="parameter file of encoder_node",
            ),
            DeclareLaunchArgument(
                "planner_params",
                default_value=PathJoinSubstitution([share, "config", "planner.yaml"]),
                description="parameter file of planner_node",
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=f"{text}; empty: as in the parameter files")
                for name, text in PARAMETERS.items()
            ),
            *(DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()),
            OpaqueFunction(function=start_nodes),
        ]
    )


def start_nodes(context: LaunchContext) -> list[Node]:
    """Both nodes; if one of them ends, so does the other, since neither is of use alone."""
    remappings = [(name, LaunchConfiguration(name)) for name in TOPICS]
    remappings.append(("image/compressed", [LaunchConfiguration("image"), "/compressed"]))
    return [
        Node(
            package="lewm_ros",
            executable=executable,
            name=executable,
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                LaunchConfiguration(executable.replace("node", "params")),
                {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)},
                given_parameters(context, types),
            ],
            remappings=remappings,
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
            on_exit=Shutdown(reason=f"{executable} has ended"),
        )
        for executable, types in PARAMETER_TYPES.items()
    ]


def given_parameters(context: LaunchContext, types: dict[str, type]) -> dict[str, ParameterValue]:
    """The launch arguments that are not empty, as parameters of these types."""
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
        for name, value_type in types.items()
        if context.launch_configurations[name]
    }
