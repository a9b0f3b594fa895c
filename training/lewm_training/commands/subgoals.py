"""`lewm subgoals`: goals on the way to a goal image, from demonstrations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lewm_training.commands.arguments import add_checkpoint, add_device, device_of, output_folder

HELP = "Write the stages of the demonstration that began and ended most alike as goals in order, for encoder_node."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_device(parser)
    parser.add_argument("--dataset", type=Path, required=True, help="HDF5 file of demonstrations with a gripper")
    several = "of several goal cameras: a folder of CAMERA.png"
    parser.add_argument("--start", type=Path, required=True, metavar="IMAGE", help=f"what is seen now; {several}")
    parser.add_argument("--goal", type=Path, required=True, metavar="IMAGE", help=f"what is wanted; {several}")
    parser.add_argument("--out", type=output_folder, required=True, metavar="FOLDER", help="where 01.png, ... go")


def run(options: argparse.Namespace) -> dict[str, Any]:
    from lewm_ros.model.checkpoint import load_checkpoint
    from lewm_ros.observation.goal_folder import read_goal_images, write_goal_folder
    from lewm_training.data import EpisodeDataset
    from lewm_training.judge.subgoals import SubgoalFinder

    checkpoint = load_checkpoint(options.checkpoint, device_of(options))
    cameras = [camera.name for camera in checkpoint.inputs.of_goal().cameras]
    start, goal = (read_goal_images(path, cameras) for path in (options.start, options.goal))
    finder = SubgoalFinder(checkpoint, EpisodeDataset.open(options.dataset), "encode demonstrations")
    nearest = finder.find(start, goal)
    paths = write_goal_folder(options.out, nearest.goals, cameras)
    return {
        "checkpoint": checkpoint.identity,
        "dataset": str(options.dataset),
        "episode": nearest.episode,
        "goals": len(nearest.goals),
        "images": [str(path) for path in paths],
    }
