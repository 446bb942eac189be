"""The model of contexts: many kinds of context, each with its own counts, mixed by small networks that learn online.

Shapes: A symbols that training has shown, B streams, T time steps, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from charlm.config import BOUNDARY, Settings, setting
from charlm.errors import UsageError
from charlm.models.base import WEIGHTS_DO_NOT_FIT, CountingModel, State
from charlm.models.contexts.carried import CARRIED
from charlm.models.contexts.packing import check, packed, unpacked
from charlm.models.contexts.reader import Outputs, Reader, Trainer, Vocabulary
from charlm.models.contexts.spelling import CHARACTER_KINDS, LOWER, spelling
from charlm.models.contexts.tables import Array, Counts, Trust, new_counts, new_trust
from charlm.progress import Listener, silent

STATIC = "static_"  # what the names of the tensors of `Trust` begin with that a model uses which does not adapt
MAX_SYMBOLS = (1 << 16) - 2
SECONDS_PER_TOKEN = 18e-6  # to learn it, on one core of a Zen 3 or 4


@dataclass(frozen=True)
class ContextsConfig(Settings):
    """What a model of contexts can be told."""

    adapt: str = setting(
        "counts",
        "what goes on learning from the text being read; none: it stays as trained",
        choices=("none", "counts"),
    )
    delay: int = setting(256, "tokens of a text after which it begins to learn from it", min=1, max=1 << 20)

    def unheeded(self) -> Mapping[str, str]:
        """Where nothing is learned, nothing is delayed."""
        return {} if self.adapt != "none" else {"delay": "with `adapt='none'`"}


class Contexts(CountingModel):
    """Predicts from the last symbols, words, lines and columns, with gaps and by shape, and from the longest match.

    A symbol is a path in a binary tree, and its probability the product of those of the turns (`mixing`). What was
    never seen in training shares one leaf. The state is the last symbols, REACH at most, and the numbers that `hashing`
    carries; of a model that adapts, all symbols read: what it counts in them follows from them, and is kept only so
    that it need not be counted again.
    """

    Config = ContextsConfig
    config: ContextsConfig
    chunk: ClassVar[int] = 1 << 17

    ids: Tensor  # (A,) int64: the token of each symbol; symbol A is all others, A + 1 the boundary
    counts: Tensor  # (A + 1,) int64: how often each symbol was counted
    kinds: Tensor  # (V,) uint8: letters, digits, spaces, ...
    folded: Tensor  # (V,) int32: the token in lower case

    def __init__(self, config: ContextsConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.register_buffer("kinds", torch.full((vocab_size,), LOWER, dtype=torch.uint8))
        self.register_buffer("folded", torch.arange(vocab_size, dtype=torch.int32))
        trust = new_trust(2, 1)
        self._install(np.zeros(0, np.int64), np.zeros(1, np.int64), new_counts(1), trust, trust)

    @override
    def read_vocabulary(self, pieces: Sequence[str]) -> None:
        kinds, folded = spelling(pieces)
        self.kinds, self.folded = torch.from_numpy(kinds), torch.from_numpy(folded)

    def _install(self, ids: Array, of_each: Array, counts: Counts, trust: Trust, static: Trust) -> None:
        self.register_buffer("ids", torch.tensor(ids.tolist(), dtype=torch.int64))
        self.register_buffer("counts", torch.tensor(of_each, dtype=torch.int64))
        for name, tensor in packed(counts, trust).items():
            self.register_buffer(name, tensor)
        for name, array in static._asdict().items():
            self.register_buffer(STATIC + name, torch.tensor(array))
        self._reader: Reader | None = None

    @property
    def adapts(self) -> bool:
        """Whether it learns from what it reads."""
        return self.config.adapt != "none"

    @property
    @override
    def in_parallel(self) -> bool:
        return False

    def frozen(self) -> "Contexts":
        """The same model, which learns nothing more."""
        if not self.adapts:
            return self
        model = copy(self)
        model._buffers, model.config, model._reader = dict(self._buffers), replace(self.config, adapt="none"), None
        return model

    @property
    def reader(self) -> Reader:
        """What reads by these tensors, made when first asked for."""
        if self._reader is None:
            tensors = dict(self.named_buffers())
            known = (tensors[name].cpu().numpy() for name in ("ids", "counts", "kinds", "folded"))
            prefix = "" if self.adapts else STATIC
            trust = Trust(*(tensors[prefix + name].cpu().numpy() for name in Trust._fields))
            self._reader = Reader(Vocabulary.of(*known), trust, unpacked(tensors))
        return self._reader

    @override
    def fit(
        self,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Listener = silent,
        before: Callable[[CountingModel], None] | None = None,
    ) -> None:
        """In one pass, in which everything is predicted before it is learned."""
        counts = np.bincount(tokens, minlength=self.vocab_size) + np.bincount(validation, minlength=self.vocab_size)
        ids = counts.nonzero()[0]
        if len(ids) > MAX_SYMBOLS:
            raise UsageError(f"contexts tell {MAX_SYMBOLS:,} symbols apart, and this text has {len(ids):,}")
        counts = np.append(counts[ids], 0)
        vocabulary = Vocabulary.of(ids, counts, self.kinds.cpu().numpy(), self.folded.cpu().numpy())
        text = vocabulary.codes[np.concatenate([[BOUNDARY], tokens, validation])]
        trainer = Trainer(vocabulary, new_trust(len(counts) + 1, len(text)), text)
        trainer.learn(1 + len(tokens), progress)
        static = trainer.trust
        if len(validation):
            static = trainer.static_trust(len(text))
            self._install(ids, counts, trainer.own, trainer.trust, static)
            if before is not None:
                before(self)
            self.validation_nats = self._nats(validation)
            trainer.learn(len(text), progress)
        self._install(ids, counts, trainer.own, trainer.trust, static)

    @torch.inference_mode()
    def _nats(self, text: Array) -> float:
        """What a token of a text costs, in nats."""
        stream = torch.from_numpy(np.append(BOUNDARY, text).astype(np.int64))[None]
        state, total = self.initial_state(1), 0.0
        for begin in range(0, len(text), self.chunk):
            part = stream[:, begin : begin + self.chunk + 1]
            log_probs, state = self.score(part[:, :-1], part[:, 1:], state)
            total -= float(log_probs.double().sum())
        return total / len(text)

    @override
    def estimated_seconds(self, tokens: np.ndarray[Any, Any]) -> float:
        return SECONDS_PER_TOKEN * len(tokens)

    @override
    def seen_ids(self) -> Tensor:
        """The ids that were counted; all where nothing was."""
        seen = torch.full((self.vocab_size,), len(self.ids) == 0, device=self.ids.device)
        seen[self.ids] = True
        return seen

    def initial_state(self, streams: int) -> State:
        """No symbols read, nothing carried."""
        device = self.ids.device
        return (
            torch.zeros(streams, 0, dtype=torch.int32, device=device),
            torch.zeros(streams, CARRIED, dtype=torch.int64, device=device),
        )

    @override
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The full distribution visits every node of the tree."""
        B, T = tokens.shape
        rows = np.empty((B, T, len(self.counts)), np.float32)
        state = self._read(tokens, state, Outputs(np.zeros((B, 0), np.int32), np.zeros((B, 0), np.float32), rows))
        log_probs = np.empty((B, T, self.vocab_size), np.float32)
        log_probs[:] = rows[..., -1:] - np.float32(self._log_unseen)
        log_probs[..., self.reader.vocabulary.ids] = rows[..., :-1]
        return torch.from_numpy(log_probs).to(tokens.device), state

    @override
    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Visits the nodes on the targets' paths only."""
        codes = np.minimum(self.reader.vocabulary.codes[targets.cpu().numpy()], len(self.ids))
        scores = np.empty(codes.shape, np.float32)
        state = self._read(
            tokens, state, Outputs(codes, scores, np.zeros((len(codes), 0, len(self.counts)), np.float32))
        )
        scores[codes == len(self.ids)] -= np.float32(self._log_unseen)
        return torch.from_numpy(scores).to(tokens.device), state

    def _read(self, tokens: Tensor, state: State, outputs: Outputs) -> State:
        last, carried, read = (tensor.cpu().numpy() for tensor in (*state, tokens))
        if self.adapts:
            after = self.reader.adapt(last, carried, read, outputs, self.config.delay)
        else:
            after = self.reader.read(last, carried, read, outputs)
        return tuple(torch.from_numpy(leaf).to(state[0].device) for leaf in after)

    @property
    def _log_unseen(self) -> float:
        """ln of the number of ids that share the leaf of all that was never seen."""
        return math.log(max(1, self.vocab_size - len(self.ids)))

    @classmethod
    @override
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "Contexts":
        assert isinstance(config, ContextsConfig)
        model = cls(config, vocab_size)
        expected = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        if {name: tensor.dtype for name, tensor in tensors.items()} != expected:
            raise ValueError(WEIGHTS_DO_NOT_FIT)
        ids, counts = tensors["ids"], tensors["counts"]
        sound = (
            all(tensors[name].shape == (vocab_size,) for name in ("kinds", "folded"))
            and ids.dim() == counts.dim() == 1
            and len(counts) == len(ids) + 1 <= MAX_SYMBOLS + 1
            and bool((ids.diff() > 0).all() and ((ids > 0) & (ids < vocab_size)).all() and (counts >= 0).all())
            and bool((tensors["kinds"] < CHARACTER_KINDS).all())
            and bool(((tensors["folded"] >= 0) & (tensors["folded"] < vocab_size)).all())
        )
        if not sound:
            raise ValueError(WEIGHTS_DO_NOT_FIT)
        check(tensors, len(counts))
        check({**tensors, **{name: tensors[STATIC + name] for name in Trust._fields}}, len(counts))
        for name, tensor in tensors.items():
            model.register_buffer(name, tensor)
        return model
