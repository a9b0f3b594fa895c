"""Compiled rollouts give the numbers of those that are not, and where nothing can be compiled that is said once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import random_model

from lewm_ros.model import Rollout
from lewm_ros.model.compiled_rollout import CompiledRollout

TWO_PLANS = """
import sys; sys.path.insert(0, {tests!r})
import logging, torch
from conftest import random_model
from lewm_ros.model import Rollout
from lewm_ros.model.compiled_rollout import CompiledRollout
logging.basicConfig(format="%(message)s")
model = random_model()
z, past, plans = torch.randn(1, 1, 1, 16), torch.zeros(1, 0, 35), torch.randn(1, 2, 3, 35)
with torch.no_grad():
    imagine, plain = CompiledRollout(model).start(z, past), Rollout(model).start(z, past)(plans)
    assert torch.equal(imagine(plans), plain) and torch.equal(imagine(plans), plain)
"""


def test_it_gives_the_numbers_of_the_plain_one(caplog: pytest.LogCaptureFixture) -> None:
    model = random_model()
    z, past, plans = torch.randn(1, 2, 1, 16), torch.randn(1, 1, 35), torch.randn(1, 4, 3, 35)
    imagine, plain = CompiledRollout(model).start(z, past), Rollout(model).start(z, past)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        torch.testing.assert_close(imagine(plans), plain(plans), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(imagine(-plans), plain(-plans), atol=1e-4, rtol=1e-3)
    assert not [record for record in caplog.records if "compiled" in record.message]


def test_without_a_compiler_it_runs_as_it_is_with_one_warning(tmp_path: Path) -> None:
    environment = os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    script = TWO_PLANS.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("rollouts cannot be compiled and run as they are") == 1
