"""Build of the ament_python package `lewm_ros`, for colcon and for pip."""

from glob import glob

from setuptools import find_packages, setup

PACKAGE = "lewm_ros"
# The lower ends are those that `make test-oldest` runs the suite with.
IK = ["mink>=1.1"]
ROSBAG = ["rosbags>=0.10.9", "backports.zstd>=1.0; python_version < '3.14'", "lz4>=4.4.4"]
TEST = ["hypothesis>=6.100", "pytest>=8.0", "pytest-xdist>=3.8", *IK, *ROSBAG]
# The reference, to compare with, and the paper's tasks. Those after `transformers` are imported by its environments,
# but not declared; dm-control needs `labmaze`, which has no wheels for Python 3.13: no Reacher and no Cube there.
BENCH = [
    "gymnasium>=1.0",
    "stable-worldmodel==0.1.1",
    "transformers>=4.45",
    "dm-control>=1.0.50; python_version < '3.13'",
    "hdf5plugin>=5.0",
    "imageio>=2.34",
    "ogbench>=1.2.2; python_version < '3.13'",
    "pygame>=2.6",
    "pymunk>=7.0",
    "shapely>=2.0.6",
]
LEROBOT = ["pyarrow>=18.0"]
RAY = ["ray>=2.40"]

setup(
    name=PACKAGE,
    version="0.1.0",
    description="LeWorldModel for robot arms: encode camera frames, plan in latent space, act in a closed loop.",
    maintainer="lewm_ros maintainers",
    maintainer_email="lewm_ros@example.com",
    license="Apache-2.0",
    packages=[*find_packages(include=[PACKAGE, f"{PACKAGE}.*"]), *find_packages("training")],
    package_dir={"lewm_training": "training/lewm_training"},
    package_data={PACKAGE: ["assets/*", "assets/tasks/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "av>=14.0",
        "h5py>=3.11",
        "matplotlib>=3.9",
        "mujoco>=3.5,<4",
        "numpy>=1.26.4,<2.3",
        "opencv-python-headless>=4.10.0.84,<5",
        "pyyaml>=6.0.1",
        "safetensors>=0.8.0",
        "tensorboard>=2.17",
        "timm>=1.0.9",
        "torch>=2.8",
        "tqdm>=4.66",
    ],
    extras_require={
        # The ROS 2 Jazzy client library as wheels, for machines on which no ROS 2 is sourced.
        "ros": [
            "cv-bridge==1.13.0.post0",
            "ros-jazzy-diagnostic-msgs>=5.3.6",
            "ros-jazzy-geometry-msgs>=5.3.6",
            "ros-jazzy-lifecycle-msgs>=2.0.3",
            "ros-jazzy-rclpy>=7.1.6",
            "ros-jazzy-rmw-fastrtps-cpp>=8.4.3",
            "ros-jazzy-rosgraph-msgs>=2.0.3",
            "ros-jazzy-sensor-msgs>=5.3.6",
            "ros-jazzy-std-msgs>=5.3.6",
            "ros-jazzy-std-srvs>=5.3.6",
            "ros-jazzy-trajectory-msgs>=5.3.6",
            "ros-jazzy-visualization-msgs>=5.3.6",
        ],
        # Joint commands from end-effector deltas.
        "ik": IK,
        "rosbag": ROSBAG,
        "test": TEST,
        "bench": BENCH,
        "lerobot": LEROBOT,
        "ray": RAY,
        "dev": [*TEST, *BENCH, *LEROBOT, *RAY, "colcon-common-extensions>=0.3.0", "ruff>=0.12"],
    },
    entry_points={
        "console_scripts": [
            "lewm = lewm_training.__main__:main",
            "encoder_and_planner = lewm_ros.nodes.__main__:encoder_and_planner",
            "encoder_node = lewm_ros.nodes.__main__:encoder_node",
            "environment_node = lewm_ros.nodes.__main__:environment_node",
            "planner_node = lewm_ros.nodes.__main__:planner_node",
            "sim_node = lewm_ros.nodes.__main__:sim_node",
            "view_node = lewm_ros.nodes.__main__:view_node",
        ],
    },
    zip_safe=False,
)
