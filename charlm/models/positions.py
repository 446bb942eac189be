"""Rotary and sinusoidal positions of Transformers. Shapes: B streams, N heads of d numbers, S positions, D width."""

import math

import torch
from torch import Tensor


def frequencies(width: int, device: torch.device) -> Tensor:
    """(width/2,): radians per position, from 1 down to 1/10000 (Vaswani et al. 2017, section 3.5)."""
    return 10000.0 ** -(torch.arange(0, width, 2, device=device) / width)


def rotary_tables(positions: Tensor, width: int, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """For `rotate`: cosine and sine of each number's angle, (S, D) each, and a rotation by 90 degrees, (d, d)."""
    size, device = width // heads, positions.device
    angles = (positions[:, None] * frequencies(size, device)).repeat(1, 2 * heads)
    quarter = torch.eye(size, device=device).roll(size // 2, 1)  # (first, second) -> (second, first)
    quarter[:, : size // 2] *= -1
    return angles.cos(), angles.sin(), quarter


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, quarter: Tensor) -> Tensor:
    """Rotate each pair (first half, second half) of each head of x (B, S, D) by its angle (Su et al. 2021).

    The rotation by 90 degrees is a matrix product: on a CPU it is faster than splitting and joining the halves.
    """
    perpendicular = (x.reshape(-1, len(quarter)) @ quarter).view(x.shape)
    return torch.addcmul(x * cosine, perpendicular, sine)


def sinusoids(positions: Tensor, width: int, period: int) -> Tensor:
    """(B, T) -> (B, T, width): the encoding of Vaswani et al. 2017, its wavelengths rounded to divide `period`.

    A text has more positions than training; because the encoding repeats, each of them occurred in training.
    """
    cycles = (frequencies(width, positions.device) * period / math.tau).round().clamp(min=1)
    angles = (positions % period).unsqueeze(-1) * (cycles * math.tau / period)  # (B, T, width/2)
    return torch.cat([angles.sin(), angles.cos()], -1)
