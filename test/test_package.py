"""The package as users get it: what it declares, and what `colcon build` installs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lewm_ros

ROOT = Path(__file__).parents[1]
DISTRIBUTION = importlib.metadata.distribution("lewm_ros")
MANIFEST = ET.parse(ROOT / "package.xml").getroot()
EXECUTABLES = {entry.name for entry in DISTRIBUTION.entry_points if entry.group == "console_scripts"}
NOT_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
OUTPUTS = {"build", "install", "log", "demo", "soak", "data", "runs"}


ELSEWHERE = ROOT / "lewm_ros/environments/benchmarks"
"""What runs in another Python; what it needs stands in the requirements of that one, such as vla_arena.txt."""


def imports_of(*folders: str) -> set[str]:
    """Top-level names imported anywhere under the folders, without the standard library and this project."""
    standard = {*sys.stdlib_module_names, "compression"}  # the last of them since Python 3.14
    names = set()
    for folder in folders:
        for file in set((ROOT / folder).rglob("*.py")) - set(ELSEWHERE.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.partition(".")[0])
    return names - standard - {"lewm_ros", "lewm_training"}


def test_one_version_everywhere() -> None:
    assert MANIFEST.findtext("version") == DISTRIBUTION.version == lewm_ros.__version__


def test_every_import_is_a_declared_dependency() -> None:
    declared_to_ros = {element.text for element in MANIFEST.findall("exec_depend")}
    # Extras for users count, those for development do not.
    requirements = [line for line in DISTRIBUTION.requires or [] if not re.search(r"extra == .(dev|test)\b", line)]
    declared_to_pip = {re.split(r"[^\w.-]", line)[0].lower() for line in requirements}
    distributions = importlib.metadata.packages_distributions()
    for name in imports_of("lewm_ros", "training", "launch") - declared_to_ros:
        providers = {provider.lower() for provider in distributions.get(name, [name])}
        assert providers & declared_to_pip, f"{name} is imported, but neither setup.py nor package.xml declares it"


def test_every_requirement_has_a_lower_end_and_fits_what_was_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    tested = {
        canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins if not pin.marker or pin.marker.evaluate()
    }
    for requirement in map(Requirement, DISTRIBUTION.requires or []):
        assert {part.operator for part in requirement.specifier} & {">=", "=="}, f"{requirement} has no lower end"
        assert tested[canonicalize_name(requirement.name)] in requirement.specifier, f"{requirement} was not tested"


def left_out(folder: str, names: list[str]) -> set[str]:
    """What is no source of this package."""
    return NOT_SOURCES(folder, names) | (OUTPUTS if Path(folder) == ROOT else set())


@pytest.fixture(scope="module", params=["copied", "symlinked"])
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colcon workspace in which this package was built, with and without --symlink-install."""
    pytest.importorskip("colcon_core", reason="colcon is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(ROOT, folder / "src" / "lewm_ros", ignore=left_out)
    # colcon under this interpreter, so that the executables that it writes find the same packages.
    colcon = [sys.executable, "-c", "import sys; from colcon_core.command import main; sys.exit(main())"]
    command = [*colcon, "build", *(["--symlink-install"] if request.param == "symlinked" else [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def in_workspace(workspace: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command with the workspace sourced, away from the repository."""
    sourced = f". {workspace}/install/setup.bash && {command}"
    return subprocess.run(
        ["bash", "-c", sourced],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_colcon_installs_executables_where_ros2_run_looks(workspace: Path) -> None:
    installed = {file.name for file in (workspace / "install/lewm_ros/lib/lewm_ros").iterdir()}
    assert installed == EXECUTABLES


def test_colcon_installs_every_module_under_its_import_name(workspace: Path) -> None:
    script = "import lewm_ros, lewm_training; print(lewm_ros.__path__[0]); print(lewm_training.__path__[0])"
    done = in_workspace(workspace, f"{sys.executable} -c '{script}'")
    assert done.returncode == 0, done.stderr
    for place, source in zip(done.stdout.split(), (ROOT / "lewm_ros", ROOT / "training/lewm_training"), strict=True):
        installed = Path(place)
        assert installed.is_relative_to(workspace)
        expected = {file.relative_to(source) for file in source.rglob("*.py")} | {
            file.relative_to(source) for file in source.rglob("assets/**/*") if file.is_file()
        }
        assert {file for file in expected if not (installed / file).is_file()} == set()


def test_colcon_installs_launch_and_parameter_files(workspace: Path) -> None:
    share = workspace / "install/lewm_ros/share"
    assert (share / "ament_index/resource_index/packages/lewm_ros").exists()
    for source in (ROOT / "package.xml", *ROOT.glob("launch/*.launch.py"), *ROOT.glob("config/*")):
        installed = share / "lewm_ros" / source.relative_to(ROOT)
        assert installed.read_bytes() == source.read_bytes()


def test_installed_node_starts_and_refuses_a_missing_checkpoint(workspace: Path) -> None:
    pytest.importorskip("rclpy", reason="no ROS 2: neither sourced nor installed with the extra 'ros'")
    node = workspace / "install/lewm_ros/lib/lewm_ros/encoder_node"
    done = in_workspace(workspace, f"{node} --ros-args -p checkpoint:=/nowhere/missing.json")
    assert done.returncode == 2
    assert "/nowhere/missing.json" in done.stderr
    assert "Traceback" not in done.stderr
