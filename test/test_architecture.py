"""The arrows: config <- robot <- {model, planning, sim}, observation <- {nodes, training}; only nodes knows ROS."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "config": set(),
    "robot": {"config"},
    "model": {"config", "robot"},
    "planning": {"config", "robot"},
    "sim": {"config", "robot"},
    "observation": {"config", "robot"},
    "nodes": {"config", "robot", "model", "planning", "sim", "observation"},
    "training": {"config", "robot", "model", "planning", "sim", "observation"},
}
MODULES = sorted(file for folder in ("lewm_ros", "training") for file in (ROOT / folder).rglob("*.py"))
WITHOUT_ROS = [file for file in MODULES if "nodes" not in file.parts]


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
    """The part of the project that a dotted name belongs to; None outside the project and for lewm_ros itself."""
    top, _, rest = module.partition(".")
    if top == "lewm_training":
        return "training"
    return rest.partition(".")[0] or None if top == "lewm_ros" else None


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


@pytest.mark.parametrize("file", MODULES, ids=module_name)
def test_imports_follow_the_arrows(file: Path) -> None:
    part = part_of(module_name(file))
    if part is None:  # lewm_ros/__init__.py
        allowed = set()
    else:
        assert part in MAY_IMPORT, f"{part} is not a part of the design; add it to MAY_IMPORT with what it may import"
        allowed = MAY_IMPORT[part] | {part}
    known = {name for name in map(part_of, imported_names(file)) if name in MAY_IMPORT}
    assert known <= allowed


def test_everything_but_the_nodes_works_without_ros() -> None:
    names = [module_name(file) for file in WITHOUT_ROS]
    command = [sys.executable, "-c", IMPORT_WITHOUT_ROS, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_only_nodes_import_ros() -> None:
    tops = {file: {name.partition(".")[0] for name in imported_names(file)} for file in WITHOUT_ROS}
    assert {file: ros for file, names in tops.items() if (ros := set(filter(is_ros, names)))} == {}
