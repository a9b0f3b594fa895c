"""The thread that networks run in beside the callbacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

TASKS = Path("/proc/self/task")

MULTIPLY = f"""
import os, threading, torch
from lewm_ros.nodes.inference import Worker

frames, weights, done = torch.zeros(640, 192), torch.zeros(768, 192), threading.Event()

def multiply(_):
    before = len(os.listdir("{TASKS}"))
    torch.nn.functional.linear(frames, weights)
    print(len(os.listdir("{TASKS}")) - before)
    done.set()

torch.set_num_threads(1)
worker = Worker(multiply, print)
worker.put("x", 1)
done.wait()
worker.close()
"""


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are counted in /proc")
def test_the_thread_keeps_to_the_number_of_cpu_threads_that_was_set() -> None:
    # Where OpenMP would take two threads by itself, a product starts a helper; the one thread that was set needs none.
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    ended = subprocess.run([sys.executable, "-c", MULTIPLY], env=environment, capture_output=True, text=True)
    assert ended.stdout.strip() == "0", ended.stderr
