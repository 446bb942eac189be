"""The output layer of a network, laid out for its kernel.

Shapes: B streams, D features, V vocabulary, K ids with trained logits.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from charlm.inference.engine import LogProbs, Tokens
from charlm.inference.kernels import output as kernels
from charlm.inference.kernels.arithmetic import Array, Kernel, load
from charlm.models.base import Network


def as_array(tensor: Tensor) -> Array:
    """A tensor as a contiguous float32 array."""
    array: Array = tensor.detach().float().contiguous().numpy()
    return array


class Output:
    """Features to log-probabilities. Ids that did not occur have weights 0 and take no part in the product."""

    kernels: ClassVar[list[Kernel]] = [kernels.log_softmax]

    def __init__(self, model: Network) -> None:
        self.log_softmax = load(kernels.log_softmax)
        weight, bias = model.output.weight.detach(), model.output.bias.detach()
        learned = weight.any(1).nonzero().squeeze(1)  # (K,)
        floor = torch.where(model.known, model.FLOOR, model.FLOOR_AFTER_UNKNOWN)
        self.ids, self.floor = learned.numpy(), as_array(floor)
        self.matrix, self.offset, self.bias = as_array(weight[learned]), as_array(bias[learned]), as_array(bias)

    def empty(self, streams: int) -> LogProbs:
        """An array (B, V) for `write`."""
        return np.empty((streams, len(self.bias)), np.float32)

    def write(self, tokens: Tokens, features: Array, log_probs: LogProbs) -> None:
        """Write log_probs (B, V), given the features (B, D) after reading the tokens (B,)."""
        self.log_softmax(tokens, features, self.matrix, self.offset, self.ids, self.bias, self.floor, log_probs)
