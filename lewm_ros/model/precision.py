"""In which type a device multiplies matrices when it is asked for a precision."""

from __future__ import annotations

import functools
import logging

import torch

LOG = logging.getLogger(__name__)


def matmul_dtype(precision: str, device: torch.device | str) -> torch.dtype:
    """The type for the matmuls of `precision` (`fp32` or `bf16`) on a device.

    A CPU without AVX-512 has no fast bf16: PyTorch then multiplies a hundred times slower than in fp32. There bf16 is
    taken for fp32, and a warning says so, once.
    """
    if precision == "fp32":
        return torch.float32
    if torch.device(device).type == "cpu" and not _cpu_has_bf16():
        return torch.float32
    return torch.bfloat16


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which a model's matmuls on a device are as `matmul_dtype` says."""
    dtype = matmul_dtype(precision, device)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


@functools.cache
def _cpu_has_bf16() -> bool:
    """Whether oneDNN multiplies bf16 here."""
    if torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return True
    LOG.warning("precision: this CPU has no fast bf16, fp32 is used instead")
    return False
