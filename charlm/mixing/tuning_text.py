"""The text that the weights of a mixture are tuned on, and each expert's log-probabilities of it.

Shapes: B streams, T time steps, V vocabulary, K experts, N places, A columns: the ids that occur there, and the rest.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from charlm.config import BOUNDARY
from charlm.corpus import Stream
from charlm.models import Mixture
from charlm.models.base import LanguageModel, device_of, evaluating
from charlm.progress import Tell

MAX_PLACES = 1 << 16
MIN_PLACES = 1 << 10
TUNING_STREAMS = 8  # of a text with more places
MAX_NUMBERS = 1 << 25  # places times columns
MAX_NUMBERS_PER_CALL = 1 << 20  # log-probabilities


class TuningText:
    """The tokens of a text that weights are tuned on: all, or several stretches of a longer text."""

    def __init__(self, ids: Stream, vocab_size: int) -> None:
        max_places = max(MIN_PLACES, min(MAX_PLACES, MAX_NUMBERS // min(vocab_size, 1 << 14)))
        streams = 1 if len(ids) <= max_places else TUNING_STREAMS
        size = min(len(ids), max_places) // streams
        starts = np.linspace(0, len(ids) - size, streams).astype(int)
        rows = torch.from_numpy(np.stack([ids[start : start + size] for start in starts]).astype(np.int64))  # (B, T)
        self.tokens = torch.cat([torch.full((streams, 1), BOUNDARY), rows[:, :-1]], 1)
        self.columns, targets = torch.unique(rows, return_inverse=True)  # (A,)
        self.targets = targets.flatten()  # (N,)
        others = torch.ones(vocab_size, dtype=torch.bool)
        others[self.columns] = False
        self.others = others.nonzero().squeeze(1)
        log_counts = [0.0] * len(self.columns) + [math.log(len(self.others))] * (len(self.others) > 0)
        self.log_counts = torch.tensor(log_counts)

    @torch.no_grad()
    def log_probs(self, model: LanguageModel) -> Tensor:
        """(N, A): the model's log-probabilities; of the ids that do not occur, their mean probability's, once."""
        device, parts = device_of(model), []
        steps = max(1, MAX_NUMBERS_PER_CALL // (len(self.tokens) * model.vocab_size))
        with evaluating(model):
            state = model.initial_state(len(self.tokens))
            for tokens in torch.split(self.tokens.to(device), steps, 1):
                log_probs, state = model(tokens, state)
                parts.append(self._condensed(log_probs.cpu()))
        return torch.cat(parts, 1).flatten(0, 1)

    def _condensed(self, log_probs: Tensor) -> Tensor:
        """(B, T, V) -> (B, T, A)."""
        occurring = log_probs.index_select(2, self.columns)
        if not len(self.others):
            return occurring
        rest = log_probs.index_select(2, self.others).logsumexp(2, keepdim=True) - math.log(len(self.others))
        return torch.cat([occurring, rest], 2)

    def tune(self, mixture: Mixture, log_probs: Sequence[Tensor], tell: Tell = lambda _: None) -> float:
        """Tune the weights by the members' log-probabilities; returns the mixture's nats per token."""
        experts = torch.stack(list(log_probs), 1)
        mixture.combination.cpu().tune(experts, self.targets, self.log_counts, tell)
        nats = self.nats(mixture.combined(experts, self.log_counts))
        mixture.combination.to(device_of(mixture))
        return nats / max(1, len(self.targets))

    def nats(self, log_probs: Tensor) -> float:
        """The negative log-likelihood of the text, in all, by log-probabilities (N, A)."""
        return -log_probs.gather(1, self.targets.unsqueeze(1)).double().sum().item()
