"""The arrows between the parts, the absence of circles, and what only some files may know: ROS, and the Panda."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LIBRARY = {
    "config": set(),
    "robot": {"config"},
    "observation": {"config", "robot"},
    "model": {"config", "robot", "observation"},
    "planning": {"config", "robot", "observation"},
    "environments": {"config", "robot", "observation"},
    "nodes": {"config", "robot", "observation", "model", "planning", "environments"},
}
TRAINING = {
    "data": set(),
    "collect": {"data"},
    "judge": {"data"},
    "learn": {"data", "collect", "judge"},
    "bench": {"data", "collect", "judge", "learn"},
    "experiment": {"judge"},
    "commands": {"data", "collect", "judge", "learn", "bench", "experiment"},
    "__main__": {"data", "commands"},
}
MAY_IMPORT = {f"lewm_ros.{part}": {f"lewm_ros.{other}" for other in known} for part, known in LIBRARY.items()} | {
    f"lewm_training.{job}": {f"lewm_training.{other}" for other in known}
    | {f"lewm_ros.{part}" for part in LIBRARY if part != "nodes"}
    for job, known in TRAINING.items()
}
"""Of every part, the other parts that it may import."""

MODULES = sorted(file for folder in ("lewm_ros", "training") for file in (ROOT / folder).rglob("*.py"))
WITHOUT_ROS = [file for file in MODULES if "nodes" not in file.parts]

PANDA = ("lewm_ros/nodes/", "lewm_ros/environments/panda/", "lewm_ros/robot/arm.py")
"""What may know that an arm has seven joints, and which action space it is that a name stands for."""

SPACES = ("joint_delta", "ee_delta")
NAMERS = (*PANDA, "lewm_ros/robot/arm_actions.py")


IMPORT_WITHOUT_ROS = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("rclpy", "launch", "cv_bridge", "ament_")) or "_msgs" in name or "_srvs" in name:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def is_ros(top: str) -> bool:
    return top.startswith(("rclpy", "launch", "cv_bridge", "ament_")) or top.endswith(("_msgs", "_srvs"))


def part_of(module: str) -> str | None:
    """The part of the project that a dotted name belongs to; None outside the project, and for a package itself."""
    part = ".".join(module.split(".")[:2])
    return part if part in MAY_IMPORT else None


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "training" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(file: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, also inside functions."""
    package = module_name(file).split(".")[: None if file.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*anchor, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_files(file: Path, by_name: dict[str, Path]) -> set[Path]:
    """Files of the project that a file imports; of a name that a package passes on, the package's `__init__.py`."""
    names = set(imported_names(file))
    found = {by_name.get(name) or by_name.get(name.rpartition(".")[0]) for name in names}
    return {other for other in found if other is not None and other != file}


def places(nodes: Iterator[ast.AST], file: Path) -> list[str]:
    return [f"{file.relative_to(ROOT)}:{node.lineno}" for node in nodes]


def is_known_to(file: Path, files: tuple[str, ...]) -> bool:
    return str(file.relative_to(ROOT)).startswith(files)


@pytest.mark.parametrize("file", MODULES, ids=module_name)
def test_imports_follow_the_arrows(file: Path) -> None:
    module = module_name(file)
    if module in ("lewm_ros", "lewm_training"):
        allowed = set()
    else:
        part = part_of(module)
        assert part, f"{module} is in no part of the design; add the part to MAY_IMPORT with what it may import"
        allowed = MAY_IMPORT[part] | {part}
    assert set(filter(None, map(part_of, imported_names(file)))) <= allowed


def test_no_files_import_each_other() -> None:
    by_name = {module_name(file): file for file in MODULES}
    graph = {file: imported_files(file, by_name) for file in MODULES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " <- ".join(module_name(file) for file in error.args[1])
        pytest.fail(f"files import each other: {circle}")
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("file", MODULES, ids=module_name)
def test_only_files_of_the_arm_know_the_number_of_its_joints(file: Path) -> None:
    if is_known_to(file, PANDA):
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    sevens = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is int and n.value == 7)
    assert places(sevens, file) == []


@pytest.mark.parametrize("file", MODULES, ids=module_name)
def test_nothing_else_asks_which_action_space_it_is(file: Path) -> None:
    if is_known_to(file, NAMERS):
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    compared = (node for node in ast.walk(tree) if isinstance(node, ast.Compare | ast.Subscript | ast.MatchValue))
    asked = (n for n in compared if any(isinstance(c, ast.Constant) and c.value in SPACES for c in ast.walk(n)))
    assert places(asked, file) == []


def test_every_class_has_a_name_of_its_own() -> None:
    classes = (node for file in MODULES for node in ast.parse(file.read_text(encoding="utf-8")).body)
    names = Counter(node.name for node in classes if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def test_everything_but_the_nodes_works_without_ros() -> None:
    names = [module_name(file) for file in WITHOUT_ROS]
    command = [sys.executable, "-c", IMPORT_WITHOUT_ROS, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_only_nodes_import_ros() -> None:
    tops = {file: {name.partition(".")[0] for name in imported_names(file)} for file in WITHOUT_ROS}
    assert {file: ros for file, names in tops.items() if (ros := set(filter(is_ros, names)))} == {}
