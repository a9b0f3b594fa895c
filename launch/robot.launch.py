"""Encoder and planner beside the drivers of a real arm, with the topics of common stacks.

A Panda under ros2_control, whose controller is named panda_arm_controller:

    ros2 launch lewm_ros robot.launch.py image:=/camera/color/image_raw checkpoint:=/path/to/model.json

Any other controller, for example of type forward_command_controller:

    ros2 launch lewm_ros robot.launch.py stack:=forward controller:=forward_position_controller ...

MoveIt Servo, for a checkpoint whose actions are movements of the hand (ee_delta):

    ros2 launch lewm_ros robot.launch.py stack:=servo ...
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

STACKS = {
    "trajectory": {
        "command_interface": "joint_trajectory",
        "joint_trajectory": "/{controller}/joint_trajectory",
    },
    "forward": {
        "command_interface": "commands",
        "commands": "/{controller}/commands",
    },
    "servo": {
        "command_interface": "twist",
        "twist": "/{servo}/delta_twist_cmds",
    },
}
"""What each stack calls the topic that takes commands."""


def generate_launch_description() -> LaunchDescription:
    """The arguments of lewm.launch.py, of which those for commands follow from the stack, and some of its own."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "stack", default_value="trajectory", choices=list(STACKS), description="what drives the arm"
            ),
            DeclareLaunchArgument(
                "controller", default_value="panda_arm_controller", description="name of the ros2_control controller"
            ),
            DeclareLaunchArgument("servo", default_value="servo_node", description="name of MoveIt Servo's node"),
            DeclareLaunchArgument("image", default_value="/camera/color/image_raw", description="camera frames"),
            DeclareLaunchArgument("joint_states", default_value="/joint_states", description="measured positions"),
            DeclareLaunchArgument(
                "limits",
                default_value="panda",
                description="joint limits: panda, fr3, a YAML file or robot_description",
            ),
            DeclareLaunchArgument(
                "robot_description", default_value="/robot_description", description="URDF, if limits come from it"
            ),
            DeclareLaunchArgument(
                "on_surprise",
                default_value="stop",
                description="when the world is not as predicted: warn, stop or ignore",
            ),
            OpaqueFunction(function=include_lewm),
        ]
    )


def include_lewm(context: LaunchContext) -> list[IncludeLaunchDescription]:
    """lewm.launch.py with the topics of the stack."""
    names = {name: context.launch_configurations[name] for name in ("controller", "servo")}
    arguments = {name: value.format(**names) for name, value in STACKS[context.launch_configurations["stack"]].items()}
    lewm = PythonLaunchDescriptionSource(str(Path(__file__).with_name("lewm.launch.py")))
    passed = {name: LaunchConfiguration(name) for name in ("image", "joint_states", "limits", "robot_description")}
    return [IncludeLaunchDescription(lewm, launch_arguments=(arguments | passed).items())]
