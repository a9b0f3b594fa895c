"""SIGReg: sketched isotropic Gaussian regularisation (LeJEPA, arXiv 2511.08544; LeWM, arXiv 2603.19312)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lewm_ros.config import SIGRegConfig


class SIGReg(nn.Module):
    """Distance of a batch of embeddings from N(0, I), seen through random one-dimensional projections.

    On each unit direction the Epps-Pulley statistic compares the empirical characteristic function with exp(-t^2/2)
    under a Gaussian window; by symmetry the integral runs over [0, t_max].
    """

    weights: Tensor
    gaussian: Tensor

    def __init__(self, config: SIGRegConfig) -> None:
        super().__init__()
        self.directions = config.directions
        self.spacing = config.t_max / (config.knots - 1)
        t = torch.linspace(0.0, config.t_max, config.knots)
        gaussian = torch.exp(-0.5 * t.square())
        trapezoid = torch.full((config.knots,), 2.0 * self.spacing)
        trapezoid[[0, -1]] = self.spacing
        self.register_buffer("gaussian", gaussian.view(-1, 1, 1), persistent=False)
        self.register_buffer("weights", trapezoid * gaussian, persistent=False)

    def draw_directions(self, dim: int, generator: torch.Generator | None = None) -> Tensor:
        """Unit directions (`dim`, M), drawn on the module's device (or the generator's, then moved there)."""
        device = generator.device if generator else self.weights.device
        directions = torch.randn(dim, self.directions, device=device, generator=generator).to(self.weights)
        return directions / directions.norm(dim=0)

    @torch.compiler.disable  # compilers have no complex numbers, and here they would find nothing to fuse
    def forward(self, z: Tensor, directions: Tensor | None = None) -> Tensor:
        """The statistic in fp32, mean over time steps and directions.

        Args:
            z: embeddings (T, B, D): each time step is tested across its batch.
            directions: unit directions (D, M); drawn afresh when None.

        Returns:
            a scalar; 0 only for a perfect N(0, I), growing with the batch size under any other law.
        """
        if directions is None:
            directions = self.draw_directions(z.shape[-1])
        with torch.autocast(z.device.type, enabled=False):
            projected = z @ directions.to(z.dtype)  # (T, B, M)
            sums = self.pool(_CharacteristicSums.apply(projected, self.spacing, len(self.weights)))  # (K, T, M, 2)
            count = sums[0, 0, 0, 0].detach()  # the sum of cos(0)
            cosine, sine = (sums / count).unbind(-1)
            error = (cosine - self.gaussian).square() + sine.square()  # (K, T, M)
            return (self.weights @ error.flatten(1)).mean() * count

    def pool(self, sums: Tensor) -> Tensor:
        """The sums over the whole batch. One that is spread over processes is put together here."""
        return sums


class _CharacteristicSums(torch.autograd.Function):
    """x (T, B, M) -> sums over B of cos(k s x) and sin(k s x), (K, T, M, 2), at knots k = 0 .. K-1 of spacing s.

    Equally spaced knots make these the powers of e = exp(i s x): one multiplication each in place of a cosine and a
    sine, and the derivative is a polynomial in e (Horner). Nothing of size (T, B, M, K) is ever in memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, spacing: float, knots: int) -> Tensor:
        step = torch.polar(torch.ones_like(x), spacing * x)
        ctx.save_for_backward(step)
        ctx.spacing = spacing
        sums = step.new_empty(knots, x.shape[0], x.shape[2])
        sums[0] = x.shape[1]
        power = step
        for k in range(1, knots):
            torch.sum(power, dim=1, out=sums[k])
            power = power * step
        return torch.view_as_real(sums)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (step,) = ctx.saved_tensors
        k = torch.arange(len(gradient), device=gradient.device).view(-1, 1, 1)
        # d/dx of sum_k Re(conj(g_k) e^k) is -s Im(sum_k k conj(g_k) e^k).
        factors = (k * torch.view_as_complex(gradient.contiguous()).conj()).unsqueeze(2)  # (K, T, 1, M)
        polynomial = factors[-1] * step
        for factor in factors[1:-1].flip(0):
            polynomial = (polynomial + factor) * step
        return -ctx.spacing * polynomial.imag, None, None
