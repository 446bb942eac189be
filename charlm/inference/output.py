"""The output layer of a network, laid out for its kernel.

Shapes: B streams, D features, V vocabulary, K ids that training had to tell apart.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from charlm.inference.engine import LogProbs, Tokens
from charlm.inference.kernels import output as kernels
from charlm.inference.kernels.arithmetic import Array, Kernel, load
from charlm.models.base import Network


def numbers(tensor: Tensor) -> Array:
    """A tensor as contiguous float32 numbers."""
    array: Array = tensor.detach().float().contiguous().numpy()
    return array


class Output:
    """Features to log-probabilities. Ids that training never told apart (zero weights) cost no product."""

    kernels: ClassVar[list[Kernel]] = [kernels.log_softmax]

    def __init__(self, model: Network) -> None:
        self.log_softmax = load(kernels.log_softmax)
        weight, bias = model.output.weight.detach(), model.output.bias.detach()
        learned = weight.any(1).nonzero().squeeze(1)  # (K,)
        floor = torch.where(model.known, model.FLOOR, model.FLOOR_AFTER_UNKNOWN)
        self.ids, self.floor = learned.numpy(), numbers(floor)
        self.matrix, self.offset, self.bias = numbers(weight[learned]), numbers(bias[learned]), numbers(bias)

    def empty(self, streams: int) -> LogProbs:
        """(B, V), to be written by `write`."""
        return np.empty((streams, len(self.bias)), np.float32)

    def write(self, tokens: Tokens, features: Array, log_probs: LogProbs) -> None:
        """Into log_probs (B, V): those after the ids last read, tokens (B,), which led to features (B, D)."""
        self.log_softmax(tokens, features, self.matrix, self.offset, self.ids, self.bias, self.floor, log_probs)
