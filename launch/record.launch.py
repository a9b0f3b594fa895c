"""Records the topics that `lewm import --from rosbag` reads, as MCAP, until it is interrupted.

For example: ros2 launch lewm_ros record.launch.py bag:=recordings/pick_01 image:=/camera/image_raw/compressed
    command:=/joint_trajectory_controller/joint_trajectory
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration

TOPICS = {
    "image": ("/image", "frames of the camera, or of several, separated by spaces: Image or CompressedImage"),
    "joint_states": ("/joint_states", "measured positions (sensor_msgs/JointState)"),
    "command": ("", "what moves the arm (JointTrajectory, Float64MultiArray or TwistStamped); empty: not recorded"),
    "gripper": ("", "gripper commands beside a TwistStamped (std_msgs/Float64); empty: not recorded"),
    "extra": ("", "more topics, separated by spaces"),
}


def generate_launch_description() -> LaunchDescription:
    """All arguments have defaults; without `bag`, the recorder names the folder by date and time."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", default_value="", description="folder to write; must not exist yet"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
            *(
                DeclareLaunchArgument(name, default_value=topic, description=text)
                for name, (topic, text) in TOPICS.items()
            ),
            OpaqueFunction(function=start_recorder),
        ]
    )


def start_recorder(context: LaunchContext) -> list[ExecuteProcess]:
    """`ros2 bag record` on the topics that are named."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bag", "use_sim_time", *TOPICS)}
    command = ["ros2", "bag", "record", "--storage", "mcap"]
    command += ["--output", given["bag"]] if given["bag"] else []
    command += ["--use-sim-time"] if given["use_sim_time"].lower() == "true" else []
    topics = [topic for name in TOPICS for topic in given[name].split()]
    return [ExecuteProcess(cmd=[*command, "--topics", *topics], name="record", output="screen")]
