"""The whole closed loop without hardware: the simulated arm beside all that lewm.launch.py starts."""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import Parameter
from launch_ros.substitutions import FindPackageShare

TOPICS = ("image", "goal_image", "joint_states", "joint_trajectory", "commands", "twist", "gripper")


def generate_launch_description() -> LaunchDescription:
    """The arguments of lewm.launch.py, with simulated time and motion from the start, and those of the simulator."""
    lewm = PythonLaunchDescriptionSource(str(Path(__file__).with_name("lewm.launch.py")))
    return LaunchDescription(
        [
            DeclareLaunchArgument("use_sim_time", default_value="true", description="take the time from /clock"),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                description="true: all nodes are configured and activated; false: `ros2 lifecycle set` does it",
            ),
            DeclareLaunchArgument(
                "enable_on_activate", default_value="true", description="the arm moves without /planner_node/enable"
            ),
            DeclareLaunchArgument(
                "sim_params",
                default_value=PathJoinSubstitution([FindPackageShare("lewm_ros"), "config", "sim.yaml"]),
                description="parameter file of sim_node, for example with other cameras",
            ),
            DeclareLaunchArgument(
                "task", default_value="reach", description="reach; push or pick_place, with the checkpoint of that name"
            ),
            DeclareLaunchArgument(
                "command_interface",
                default_value=PythonExpression(["'' if '", LaunchConfiguration("task"), "' == 'reach' else 'twist'"]),
                description="which of the command topics is used; by default that of the task's checkpoint",
            ),
            DeclareLaunchArgument("seed", default_value="0", description="of the sequence of goals"),
            DeclareLaunchArgument(
                "goal_period_s",
                default_value="15.0",
                description="a new goal every so many seconds; 0.0: only by /sim_node/reset",
            ),
            # What is declared above takes precedence over the defaults that the included file declares.
            IncludeLaunchDescription(lewm),
            Node(
                package="lewm_ros",
                executable="sim_node",
                name="sim_node",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    LaunchConfiguration("sim_params"),
                    Parameter("autostart", LaunchConfiguration("autostart"), value_type=bool),
                    Parameter("task", LaunchConfiguration("task"), value_type=str),
                    Parameter("seed", LaunchConfiguration("seed"), value_type=int),
                    Parameter("goal_period_s", LaunchConfiguration("goal_period_s"), value_type=float),
                ],
                remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
                on_exit=Shutdown(reason="sim_node has ended"),
            ),
        ]
    )
