"""Runs on one machine have ROS domains of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lewm_training.judge.domains import DOMAINS, own_domain
from lewm_training.judge.processes import ros_environment

HOLDER = """
import sys
from lewm_ros.config import UserError
from lewm_training.judge.domains import own_domain
try:
    print(own_domain(range(*map(int, sys.argv[1:]))), flush=True)
except UserError as error:
    sys.exit(str(error))
sys.stdin.read()
"""
# Ids that nobody else asks for while this process lives.
BEGIN = 1000 * os.getpid()


@contextmanager
def holder(begin: int, end: int) -> Iterator[subprocess.Popen[str]]:
    """A process that asks for one of these domains and keeps it until it is killed."""
    command = [sys.executable, "-c", HOLDER, str(begin), str(end)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_every_process_has_a_domain_of_its_own() -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(holder(BEGIN, BEGIN + 3)) for _ in range(3)]
        assert {process.stdout.readline() for process in processes} == {f"{BEGIN + i}\n" for i in range(3)}
        with holder(BEGIN, BEGIN + 3) as fourth:
            _, words = fourth.communicate()
            assert words.startswith(f"ROS domains {BEGIN} to {BEGIN + 2} are all taken")


def test_what_a_killed_process_held_is_free_again() -> None:
    only = BEGIN + 3
    for _ in range(2):
        with holder(only, only + 1) as process:
            assert process.stdout.readline() == f"{only}\n"


def test_a_process_keeps_to_its_domain() -> None:
    assert own_domain() == own_domain() == int(os.environ["ROS_DOMAIN_ID"])
    assert own_domain() in DOMAINS


def test_nodes_take_the_domain_that_is_set_or_else_one_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    assert ros_environment()["ROS_DOMAIN_ID"] == "42"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert ros_environment()["ROS_DOMAIN_ID"] == str(own_domain())
