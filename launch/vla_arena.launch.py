"""A task of VLA-Arena in the arm's place, beside all that lewm.launch.py starts; first `make vla-arena`.

For example: ros2 launch lewm_ros vla_arena.launch.py checkpoint:=$PWD/runs/vla_apple/model.json view:=true
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import Parameter
from launch_ros.substitutions import FindPackageShare

TOPICS = ("image", "goal_image", "joint_states", "twist", "gripper")


def generate_launch_description() -> LaunchDescription:
    """The arguments of lewm.launch.py, with simulated time, twists and motion from the start, and the environment's."""
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
                "command_interface", default_value="twist", description="which of the command topics is used"
            ),
            # How old an input is counts in wall time, too, in which this simulation is slow.
            DeclareLaunchArgument("max_input_age_s", default_value="20.0", description="as in lewm.launch.py"),
            DeclareLaunchArgument("max_plan_age_s", default_value="20.0", description="as in lewm.launch.py"),
            DeclareLaunchArgument(
                "environment_params",
                default_value=PathJoinSubstitution([FindPackageShare("lewm_ros"), "config", "environment.yaml"]),
                description="parameter file of environment_node",
            ),
            DeclareLaunchArgument(
                "task",
                default_value="vla_arena/safety_static_obstacles/level_0/pick_the_apple",
                description="vla_arena/SUITE/LEVEL/TASK",
            ),
            DeclareLaunchArgument("seed", default_value="0", description="of the sequence of problems"),
            DeclareLaunchArgument(
                "endless",
                default_value="true",
                description="the next problem when one is over; false: only by /environment_node/reset",
            ),
            # What is declared above takes precedence over the defaults that the included file declares.
            IncludeLaunchDescription(lewm),
            Node(
                package="lewm_ros",
                executable="environment_node",
                name="environment_node",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    LaunchConfiguration("environment_params"),
                    Parameter("autostart", LaunchConfiguration("autostart"), value_type=bool),
                    Parameter("task", LaunchConfiguration("task"), value_type=str),
                    Parameter("seed", LaunchConfiguration("seed"), value_type=int),
                    Parameter("endless", LaunchConfiguration("endless"), value_type=bool),
                ],
                remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
                on_exit=Shutdown(reason="environment_node has ended"),
            ),
        ]
    )
