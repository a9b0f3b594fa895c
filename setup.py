"""Build of the ament_python package `lewm_ros`, for colcon and for pip."""

from glob import glob

from setuptools import find_packages, setup

PACKAGE = "lewm_ros"
IK = ["mink>=1.1"]
ROSBAG = ["rosbags"]
TEST = ["hypothesis", "pytest", *IK, *ROSBAG]
# The reference, to compare with. Those after `transformers` are imported by its environments, but not declared.
PEER = ["gymnasium", "stable-worldmodel==0.1.1", "transformers", "imageio", "pygame", "pymunk", "shapely", "hdf5plugin"]
LEROBOT = ["av", "pyarrow"]
RAY = ["ray"]

setup(
    name=PACKAGE,
    version="0.1.0",
    description="LeWorldModel for robot arms: encode camera frames, plan in latent space, act in a closed loop.",
    maintainer="lewm_ros maintainers",
    maintainer_email="lewm_ros@example.com",
    license="Apache-2.0",
    packages=[*find_packages(include=[PACKAGE, f"{PACKAGE}.*"]), *find_packages("training")],
    package_dir={"lewm_training": "training/lewm_training"},
    package_data={PACKAGE: ["assets/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "h5py",
        "matplotlib",
        "mujoco>=3.2,<4",
        "numpy<2.3",
        "opencv-python-headless<5",
        "pyyaml",
        "safetensors",
        "tensorboard",
        "timm>=1.0",
        "torch>=2.4",
        "tqdm",
    ],
    extras_require={
        # The ROS 2 Jazzy client library as wheels, for machines on which no ROS 2 is sourced.
        "ros": [
            "ros-jazzy-diagnostic-msgs",
            "ros-jazzy-geometry-msgs",
            "ros-jazzy-lifecycle-msgs",
            "ros-jazzy-rclpy",
            "ros-jazzy-rmw-fastrtps-cpp",
            "ros-jazzy-rosgraph-msgs",
            "ros-jazzy-sensor-msgs",
            "ros-jazzy-std-msgs",
            "ros-jazzy-std-srvs",
            "ros-jazzy-trajectory-msgs",
            "ros-jazzy-visualization-msgs",
        ],
        # Joint commands from end-effector deltas.
        "ik": IK,
        "rosbag": ROSBAG,
        "test": TEST,
        "peer": PEER,
        "lerobot": LEROBOT,
        "ray": RAY,
        "dev": [*TEST, *PEER, *LEROBOT, *RAY, "colcon-common-extensions", "ruff"],
    },
    entry_points={
        "console_scripts": [
            "lewm = lewm_training.__main__:main",
            "encoder_and_planner = lewm_ros.nodes.__main__:encoder_and_planner",
            "encoder_node = lewm_ros.nodes.__main__:encoder_node",
            "planner_node = lewm_ros.nodes.__main__:planner_node",
            "sim_node = lewm_ros.nodes.__main__:sim_node",
            "view_node = lewm_ros.nodes.__main__:view_node",
        ],
    },
    zip_safe=False,
)
