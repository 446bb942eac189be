"""How a Transformer knows what is near: rotary and sinusoidal positions. Shapes: B streams, N heads, S positions."""

import math

import torch
from torch import Tensor


def frequencies(width: int, device: torch.device) -> Tensor:
    """(width/2,): radians a step, from 1 down to 1/10000 (Vaswani et al. 2017, section 3.5)."""
    return 10000.0 ** -(torch.arange(0, width, 2, device=device) / width)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (first half, second half) of x (B, N, S, d) by angles (S, d/2) (Su et al. 2021)."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def sinusoids(positions: Tensor, width: int, period: int) -> Tensor:
    """(B, T) -> (B, T, width): the encoding of Vaswani et al. 2017, its wavelengths rounded to divide `period`.

    A text is longer than any position seen in training; an encoding that repeats after a few windows has none unseen.
    """
    turns = (frequencies(width, positions.device) * period / math.tau).round().clamp(min=1)
    angles = (positions % period).unsqueeze(-1) * (turns * math.tau / period)  # (B, T, width/2)
    return torch.cat([angles.sin(), angles.cos()], -1)
