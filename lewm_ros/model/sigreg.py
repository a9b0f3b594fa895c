"""SIGReg: sketched isotropic Gaussian regularisation (LeJEPA, arXiv 2511.08544; LeWM, arXiv 2603.19312)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lewm_ros.config import SIGRegConfig


class SIGReg(nn.Module):
    """Distance of a batch of embeddings from N(0, I), seen through random one-dimensional projections.

    On each unit direction the Epps-Pulley statistic compares the empirical characteristic function with exp(-t^2/2)
    under a Gaussian window; by symmetry the integral runs over [0, t_max].
    """

    knots: Tensor
    weights: Tensor
    gaussian: Tensor

    def __init__(self, config: SIGRegConfig) -> None:
        super().__init__()
        self.directions = config.directions
        t = torch.linspace(0.0, config.t_max, config.knots)
        gaussian = torch.exp(-0.5 * t.square())
        spacing = config.t_max / (config.knots - 1)
        trapezoid = torch.full((config.knots,), 2.0 * spacing)
        trapezoid[[0, -1]] = spacing
        self.register_buffer("knots", t, persistent=False)
        self.register_buffer("gaussian", gaussian, persistent=False)
        self.register_buffer("weights", trapezoid * gaussian, persistent=False)

    def forward(self, z: Tensor, directions: Tensor | None = None) -> Tensor:
        """The statistic, mean over time steps and directions.

        Args:
            z: embeddings (T, B, D): each time step is tested across its batch.
            directions: unit directions (D, M); drawn afresh when None.

        Returns:
            a scalar; 0 only for a perfect N(0, I), growing with the batch size under any other law.
        """
        if directions is None:
            directions = torch.randn(z.shape[-1], self.directions, device=z.device, dtype=z.dtype)
            directions = directions / directions.norm(dim=0)
        projected = z @ directions  # (T, B, M)
        phase = projected.unsqueeze(-1) * self.knots  # (T, B, M, K)
        error = (phase.cos().mean(1) - self.gaussian).square() + phase.sin().mean(1).square()  # (T, M, K)
        return (error @ self.weights).mean() * z.shape[1]
