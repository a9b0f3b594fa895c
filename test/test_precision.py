"""In which type matmuls are done: bf16 only where the device has it."""

from __future__ import annotations

import logging

import pytest
import torch

from lewm_ros.model import precision
from lewm_ros.model.precision import autocast, matmul_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_on_a_cpu_only_if_it_has_it(
    has_bf16: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    precision._cpu_has_bf16.cache_clear()
    ones = torch.ones(2, 2)
    with caplog.at_level(logging.WARNING):
        used = {matmul_dtype("bf16", CPU) for _ in range(2)}
        with autocast("bf16", CPU):
            multiplied = (ones @ ones).dtype
    precision._cpu_has_bf16.cache_clear()
    assert used == {multiplied} == {torch.bfloat16 if has_bf16 else torch.float32}
    assert [record.message for record in caplog.records] == (
        [] if has_bf16 else ["precision: this CPU has no fast bf16, fp32 is used instead"]
    )


def test_fp32_and_other_devices_are_as_asked() -> None:
    assert matmul_dtype("fp32", "cuda") == matmul_dtype("fp32", CPU) == torch.float32
    assert matmul_dtype("bf16", "cuda") == torch.bfloat16
