"""What models say of a text that is to decide how they are weighed.

Shapes: B streams, T time steps, V vocabulary, K members, N places, A columns: the ids that occur there, and the rest.
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

MOST = 1 << 16  # places
LEAST = 1 << 10
ALONE = 8  # streams that a longer text is looked at in
NUMBERS = 1 << 25  # places times columns, at most
CELLS = 1 << 20  # numbers that a model says in one go


class Places:
    """The places of a text that are looked at: all, or several stretches of a longer one, each read from its start."""

    def __init__(self, ids: Stream, vocab_size: int) -> None:
        most = max(LEAST, min(MOST, NUMBERS // min(vocab_size, 1 << 14)))
        streams = 1 if len(ids) <= most else ALONE
        size = min(len(ids), most) // streams
        starts = np.linspace(0, len(ids) - size, streams).astype(int)
        rows = torch.from_numpy(np.stack([ids[start : start + size] for start in starts]).astype(np.int64))  # (B, T)
        self.tokens = torch.cat([torch.full((streams, 1), BOUNDARY), rows[:, :-1]], 1)
        self.columns, targets = torch.unique(rows, return_inverse=True)  # (A,)
        self.targets = targets.flatten()  # (N,)
        others = torch.ones(vocab_size, dtype=torch.bool)
        others[self.columns] = False
        self.others = others.nonzero().squeeze(1)
        copies = [0.0] * len(self.columns) + [math.log(len(self.others))] * (len(self.others) > 0)
        self.copies = torch.tensor(copies)

    @torch.no_grad()
    def said(self, model: LanguageModel) -> Tensor:
        """(N, A): the model's log-probabilities; of the ids that do not occur, their mean probability's, once."""
        device, parts = device_of(model), []
        steps = max(1, CELLS // (len(self.tokens) * model.vocab_size))
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

    def tune(self, mixture: Mixture, said: Sequence[Tensor], tell: Tell = lambda _: None) -> float:
        """Weigh the members by what each of them `said` here; returns the mixture's nats per token."""
        voices = torch.stack(list(said), 1)
        mixture.combination.cpu().tune(voices, self.targets, self.copies, tell)
        nats = self.nats(mixture.combined(voices, self.copies))
        mixture.combination.to(device_of(mixture))
        return nats / max(1, len(self.targets))

    def nats(self, said: Tensor) -> float:
        """What the places cost, in all, to who says so (N, A)."""
        return -said.gather(1, self.targets.unsqueeze(1)).double().sum().item()
