"""Bengio's feed-forward network: the concatenated embeddings of the last few tokens, then hidden layers.

Shapes: B streams, T time steps, V vocabulary, W window in tokens, E embedding, H hidden width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from charlm.config import BOUNDARY, Settings, setting
from charlm.models.base import Dropout, Network, State


@dataclass(frozen=True)
class FeedForwardConfig(Settings):
    """The settings of the feed-forward network."""

    window: int = setting(16, "tokens it sees: the n-1 of an n-gram", min=1)
    embedding: int = setting(32, "width of one token's embedding", min=1)
    width: int = setting(512, "units per hidden layer", min=1)
    layers: int = setting(2, "hidden layers; from the second on with a residual connection", min=1, max=256)
    activation: str = setting("relu", "what follows each hidden layer; the paper has tanh", choices=("tanh", "relu"))
    direct: bool = setting(False, "also connect the embeddings straight to the output, as the paper does")
    dropout: float = setting(0.3, "share of the hidden activations dropped while training", min=0.0, below=1.0)


class FeedForward(Network):
    """y = b + W x + U tanh(d + H x), x = the embeddings of the last W tokens (Bengio et al. 2003, equation 1).

    The state is the last W ids (B, W), boundary ids before the start of the text.
    """

    Config = FeedForwardConfig
    config: FeedForwardConfig

    def __init__(self, config: FeedForwardConfig, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.config = config
        inputs = config.window * config.embedding
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.hidden = nn.ModuleList(
            nn.Linear(config.width if n else inputs, config.width) for n in range(config.layers)
        )
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.width + (inputs if config.direct else 0), vocab_size)
        self.activation = torch.tanh if config.activation == "tanh" else torch.relu

    @override
    def initial_state(self, streams: int) -> State:
        shape = (streams, self.config.window)
        return (torch.full(shape, BOUNDARY, dtype=torch.int64, device=self.embedding.weight.device),)

    @override
    def features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        ids = torch.cat([state[0], tokens], dim=1)  # (B, W+T)
        windows = self.embedding(ids).unfold(1, self.config.window, 1)[:, 1:]  # (B, T, E, W)
        x = windows.flatten(2)  # (B, T, E W)
        h = self.dropout(self.activation(self.hidden[0](x)))  # (B, T, H)
        for layer in self.hidden[1:]:
            h = h + self.dropout(self.activation(layer(h)))
        if self.config.direct:
            h = torch.cat([h, x], dim=-1)
        return h, (ids[:, -self.config.window :],)
