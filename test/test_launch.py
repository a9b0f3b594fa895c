"""Launch and parameter files fit the nodes. What needs the real launch packages runs where ROS 2 is installed."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lewm_ros.config import read_yaml
from lewm_ros.planning import PlannerConfig

ROOT = Path(__file__).parents[1]
NODES = ("encoder_node", "planner_node", "sim_node", "environment_node", "view_node")
WORLDS = {
    "sim.launch.py": ("sim_node", "sim_params"),
    "vla_arena.launch.py": ("environment_node", "environment_params"),
}
"""Launch files that bring a world, its node, and the argument that names its parameter file."""

PARAMETER_FILES = {name: ROOT / "config" / f"{name.removesuffix('_node')}.yaml" for name in NODES}
LAUNCH_FILES = sorted(ROOT.glob("launch/*.launch.py"))


def calls(file: Path, function: str) -> Iterator[ast.Call]:
    """The calls of a function or method in a source file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == function:
            yield node


def strings(node: ast.AST) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def constant(file: Path, name: str) -> ast.expr:
    """The value assigned to a module's constant."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return node.value
    raise AssertionError(f"{file.name} has no constant {name}")


def with_imports(module: str, seen: set[str]) -> set[str]:
    """A module of lewm_ros.nodes, and those of its modules that it imports, directly or not."""
    if module in seen or not module.startswith("lewm_ros.nodes."):
        return seen
    seen |= {module}
    for node in ast.walk(ast.parse(source_file(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            with_imports(node.module, seen)
    return seen


def source_file(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def declared_parameters(executable: str) -> set[str]:
    """Names of the parameters that a node declares, also through the modules that it imports."""
    files = [source_file(module) for module in with_imports(f"lewm_ros.nodes.{executable}", set())]
    given = [call.args[0] for file in files for call in calls(file, "declare")]
    names = {argument.value for argument in given if isinstance(argument, ast.Constant)}
    if executable == "planner_node":
        names |= {f"planner.{field.name}" for field in dataclasses.fields(PlannerConfig)}
    return names


def flat(mapping: dict[str, Any], prefix: str = "") -> set[str]:
    """Nested parameter names, joined by dots."""
    names = set()
    for key, value in mapping.items():
        names |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return names


@pytest.mark.parametrize("executable", NODES)
def test_parameter_files_hold_parameters_that_their_node_declares(executable: str) -> None:
    content = read_yaml(PARAMETER_FILES[executable])
    # The wildcard makes the file fit in any namespace.
    assert list(content) == [f"/**/{executable}"]
    assert flat(content[f"/**/{executable}"]["ros__parameters"]) <= declared_parameters(executable)


def test_launch_files_start_installed_executables() -> None:
    types = constant(ROOT / "launch/lewm.launch.py", "PARAMETER_TYPES")
    assert isinstance(types, ast.Dict)
    started = {ast.literal_eval(key) for key in types.keys if key}
    for file in WORLDS:
        for call in calls(ROOT / "launch" / file, "Node"):
            started |= {ast.literal_eval(word.value) for word in call.keywords if word.arg == "executable"}
    assert started == set(NODES)
    entries = importlib.metadata.distribution("lewm_ros").entry_points
    assert started <= {entry.name for entry in entries if entry.group == "console_scripts"}


def test_launch_arguments_set_parameters_that_the_nodes_declare() -> None:
    types = constant(ROOT / "launch/lewm.launch.py", "PARAMETER_TYPES")
    assert isinstance(types, ast.Dict)
    described = ast.literal_eval(constant(ROOT / "launch/lewm.launch.py", "PARAMETERS"))
    for key, value in zip(types.keys, types.values, strict=True):
        assert key
        assert strings(value) <= declared_parameters(ast.literal_eval(key)) & set(described)
    for file, (node, parameter_file) in WORLDS.items():
        (simulator,) = calls(ROOT / "launch" / file, "Node")
        (parameters,) = (word.value for word in simulator.keywords if word.arg == "parameters")
        assert strings(parameters) - {parameter_file} <= declared_parameters(node)


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_no_parameters_are_given_as_a_mapping(file: Path) -> None:
    # launch_ros writes a mapping to a temporary file, which it leaves behind.
    for call in calls(file, "Node"):
        (parameters,) = (word.value for word in call.keywords if word.arg == "parameters")
        assert not [node for node in ast.walk(parameters) if isinstance(node, ast.Dict)]


def test_launch_files_remap_topics_that_the_nodes_have() -> None:
    topics = ast.literal_eval(constant(ROOT / "launch/lewm.launch.py", "TOPICS"))
    for file in WORLDS:
        assert set(topics) >= set(ast.literal_eval(constant(ROOT / "launch" / file, "TOPICS")))
    sources = (ROOT / "lewm_ros/nodes").rglob("*.py")
    assert set(topics) <= {name for file in sources for name in strings(ast.parse(file.read_text(encoding="utf-8")))}


def test_the_stacks_of_a_real_arm_set_what_lewm_launch_takes() -> None:
    stacks = ast.literal_eval(constant(ROOT / "launch/robot.launch.py", "STACKS"))
    taken = set(ast.literal_eval(constant(ROOT / "launch/lewm.launch.py", "TOPICS"))) | {"command_interface"}
    for arguments in stacks.values():
        assert set(arguments) <= taken
        assert arguments["command_interface"] in arguments, "the topic of the interface that is used"


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_every_launch_argument_is_described(file: Path) -> None:
    for call in calls(file, "DeclareLaunchArgument"):
        assert {"default_value", "description"} <= {word.arg for word in call.keywords}


def test_real_launch_packages_read_the_launch_files() -> None:
    # Not `launch` itself, which the folder launch/ would pass for.
    pytest.importorskip("launch_ros", reason="launch and launch_ros come with a ROS 2 installation; no wheel has them")
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    arguments = {}
    for file in LAUNCH_FILES:
        description = get_launch_description_from_python_launch_file(str(file))
        arguments[file.name] = {argument.name for argument in description.get_launch_arguments()}
    assert {"image", "checkpoint", "device", "use_sim_time", "namespace", "log_level"} <= arguments["lewm.launch.py"]
    assert arguments["lewm.launch.py"] | {"sim_params", "task", "seed"} <= arguments["sim.launch.py"]
    own = {"environment_params", "task", "seed", "endless"}
    assert arguments["lewm.launch.py"] | own <= arguments["vla_arena.launch.py"]
    assert {"stack", "controller", "servo", "limits", "on_surprise"} <= arguments["robot.launch.py"]


def test_cameras_of_several_are_given_by_name() -> None:
    tree = ast.parse((ROOT / "launch/lewm.launch.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "camera_remappings")
    names: dict[str, Any] = {}
    exec(compile(ast.Module([function], []), "lewm.launch.py", "exec"), names)
    remappings = names["camera_remappings"]
    assert remappings("") == []
    assert remappings("scene=/front/image_raw wrist=/hand") == [
        ("scene/image", "/front/image_raw"),
        ("scene/image/compressed", "/front/image_raw/compressed"),
        ("wrist/image", "/hand"),
        ("wrist/image/compressed", "/hand/compressed"),
    ]
    for wrong in ("scene", "=/front", "scene="):
        with pytest.raises(ValueError, match="cameras: expected NAME=TOPIC"):
            remappings(wrong)
