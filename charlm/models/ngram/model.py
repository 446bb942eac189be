"""The n-gram model: a table of probabilities and back-off weights, walked a symbol at a time.

Shapes: B streams, T time steps, V vocabulary, K = order - 1 contexts.
"""

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from charlm.config import BOUNDARY, Settings
from charlm.errors import UsageError
from charlm.memory import return_freed_memory
from charlm.models.base import CountingModel, State
from charlm.models.ngram.cache import Cache, Static
from charlm.models.ngram.counting import Level, count_ngrams
from charlm.models.ngram.estimation import Estimator
from charlm.models.ngram.fitting import COUNTED, LONGEST, NGramConfig, base_of, complete, counted, symbols_of, tuned
from charlm.models.ngram.smoothing import Estimate, Numbers
from charlm.models.ngram.trie import check, keys_of, tensors_of
from charlm.models.ngram.windows import Integers
from charlm.progress import Listener, silent
from charlm.threads import workers

CACHE = "cache_"  # what the names of the cache's tensors begin with

PROBED = 100_000  # tokens that are counted to estimate how long a whole text takes
PASSES, TUNING_TOKENS = 4.7, 2_000_000
"""What `fit` takes, in tokens counted once: for each token of the text, and for tuning gate and cache. Two quiet cores:
5.8 and 11.4 s for plays of 300 KB and 1 MB, 1.7 us for each of the first 100,000 tokens counted once."""
SHARED = 0.7  # of the processor time of `fit` on 30 million characters: what its threads share


class NGram(CountingModel):
    """Predicts from the last order - 1 tokens, by how often it has seen what follows them.

    The n-grams form a trie, laid out as `trie` says. The state holds, for k = 1 .. K, the node of the last k tokens, -1
    where they were never seen; and if there is a cache, the last tokens themselves. The table without the cache is all
    that its own tensors describe.
    """

    Config = NGramConfig
    config: NGramConfig
    parameters_are = "n-grams"
    chunk: ClassVar[int] = 1 << 17

    ids: Tensor  # (A,) int64: the token that each symbol stands for
    levels: Tensor  # (order + 1,) int64: the first node of each length, then the end
    first: Tensor  # (C + 1,) int32: first child of each node that can be a context, then the end
    symbol: Tensor  # (M,) uint8 or int32
    mass: Tensor  # (M,) float32
    backoff: Tensor  # (C,) float32
    unigram: Tensor  # (V,) float32: P of each token in no context, those never seen included
    codes: Tensor  # (V,) int64: the symbol of each token, A for those never seen
    keys: Tensor  # (M + 1,) int64: what `keys_of` says

    def __init__(self, config: NGramConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.cache: Cache | None = None
        empty = torch.zeros(0)
        self._install(
            {
                "ids": empty.long(),
                "levels": torch.ones(1, dtype=torch.int64),
                "first": torch.ones(2, dtype=torch.int32),
                "symbol": empty.byte(),
                "mass": empty,
                "backoff": torch.ones(1),
                "unigram": torch.full((vocab_size,), 1 / vocab_size),
            }
        )

    @property
    def order(self) -> int:
        """The length of the longest n-grams counted; 1 before anything is."""
        return max(1, len(self.levels) - 1)

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The order and the cache's window, in tokens."""
        return {"order": self.order, "cache": int(self.cache.window[0]) if self.cache else 0}

    @property
    def parameters_count(self) -> int:
        """How many n-grams are stored."""
        return len(self.symbol)

    @property
    def adapts(self) -> bool:
        """Whether there is a cache."""
        return self.cache is not None

    def frozen(self) -> "NGram":
        """The same counts without the cache."""
        if not self.adapts:
            return self
        model = copy(self)
        model._buffers = {name: table for name, table in self._buffers.items() if not name.startswith(CACHE)}
        model.cache, model.config = None, replace(self.config, cache=0)
        return model

    def fit(
        self,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Listener = silent,
        before: Callable[[CountingModel], None] | None = None,
    ) -> None:
        """Count and estimate; the text is read as the boundary, then `tokens`, then `validation`.

        With kenlm smoothing another boundary follows, which stands for the </s> that KenLM predicts at the end.
        """
        boundary = np.array([BOUNDARY], tokens.dtype)
        parts = [boundary, tokens, validation, boundary[: self.config.smoothing == "kenlm"]]
        progress("counting", 0.0)
        ids, symbols = symbols_of(parts, self.vocab_size)
        with workers() as pool:
            learned = tuned(self.config, self.vocab_size, symbols, len(ids), 1 + len(tokens), pool, progress)
        estimator, order, cache, self.validation_nats = learned
        return_freed_memory()
        self._remember(cache)
        if before is not None:
            self._estimate(ids, complete(symbols[: 1 + len(tokens)], len(ids)), estimator, order, progress)
            before(self)
        self._estimate(ids, symbols, estimator, order, progress)

    def estimated_seconds(self, tokens: np.ndarray[Any, Any]) -> float:
        """By counting the beginning of the text; right within a factor of two."""
        piece = tokens[:PROBED]
        ids, symbols = symbols_of([piece], self.vocab_size)
        begun = time.perf_counter()
        count_ngrams(symbols, len(ids), self.config.order or LONGEST)
        per_token = (time.perf_counter() - begun) / max(1, len(piece))
        tuning = TUNING_TOKENS if self.config.smoothing == "gated" else 0
        return per_token * (PASSES * len(tokens) + tuning) * (1 - SHARED + SHARED / torch.get_num_threads())

    def _estimate(self, ids: Integers, symbols: Integers, estimator: Estimator, order: int, tell: Listener) -> None:
        """Become what these symbols, which stand for the tokens `ids`, are counted and estimated to be."""
        with workers() as pool:
            levels = counted(self.config, symbols, len(ids), order, COUNTED, pool, tell)
        if self.config.order and len(levels) < min(order, len(symbols)):
            raise UsageError(
                f"{order} has more n-grams here than fit in `memory={self.config.memory:g}` (gigabytes): "
                f"allow more, or take `order={len(levels)}`",
                "order",
            )
        tell("estimating", 0.0)
        base = base_of(len(ids), self.vocab_size)
        estimates = estimator(levels, base)
        self.found = {"discounts": [estimate.discounts for estimate in estimates]}
        unseen = self.vocab_size - len(ids)
        unigram = np.full(self.vocab_size, estimates[0].backoff[0] * base[0] / max(1, unseen))
        unigram[ids] = estimates[0].mass + estimates[0].backoff[0] * base
        self._install(tensors_of(ids, levels, estimates, unigram))
        tell("estimating", 1.0)

    @classmethod
    @override
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "NGram":
        assert isinstance(config, NGramConfig)
        model = cls(config, vocab_size)
        expected = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        of_cache = {name: tensor for name, tensor in tensors.items() if name.startswith(CACHE)}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in of_cache}
        if of_cache:
            model._remember(Cache.from_tensors({name.removeprefix(CACHE): t for name, t in of_cache.items()}))
        found = {name: tensor.dtype for name, tensor in tensors.items()}
        if found not in (expected, expected | {"symbol": torch.int32}):
            raise ValueError("the weights are not those of an n-gram model")
        check(tensors, vocab_size)
        model._install(dict(tensors))
        return model

    @classmethod
    def from_levels(
        cls,
        config: Settings,
        vocab_size: int,
        ids: Integers,
        levels: list[Level],
        estimates: list[Estimate],
        unigram: Numbers,
    ) -> "NGram":
        """The model of a table made elsewhere; symbol s is the token ids[s]. Raises ValueError like `from_tensors`."""
        return cls.from_tensors(config, vocab_size, tensors_of(ids, levels, estimates, unigram))

    def _install(self, tensors: dict[str, Tensor]) -> None:
        """Take over the tensors of a fitted model, and derive from them what is looked things up in."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        alphabet = len(self.ids)
        codes = torch.full((self.vocab_size,), alphabet)
        codes[self.ids] = torch.arange(alphabet)
        keys = torch.from_numpy(keys_of(self.first.numpy(), self.symbol.numpy(), alphabet))
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("keys", keys, persistent=False)

    def _remember(self, cache: Cache | None) -> None:
        """Take over a cache, its weights to be saved with the table."""
        self.cache = cache
        for name, tensor in cache.tensors().items() if cache else ():
            self.register_buffer(CACHE + name, tensor)

    @override
    def seen_ids(self) -> Tensor:
        """The ids that have been counted; all where nothing has."""
        return (self.codes < len(self.ids)) | (len(self.ids) == 0)

    def initial_state(self, streams: int) -> State:
        """The state before anything has been read: no context, an empty cache if there is one."""
        contexts = torch.full((streams, self.order - 1), -1, device=self.keys.device)
        return (contexts, self.cache.initial_state(streams, self.vocab_size)) if self.cache else (contexts,)

    @override
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Every context, from none to the longest, adds the symbols that it has seen."""
        contexts = self._walk(self.codes[tokens], state[0], self.order - 1)  # (B, T, K)
        probs = self._distributions(contexts.flatten(0, 1)).view(*tokens.shape, -1)
        if not self.cache:
            return probs.log(), (contexts[:, -1],)
        probs, history = self.cache.spread(probs, self._static(contexts), tokens, state[1])
        return probs.log(), (contexts[:, -1], history)

    @override
    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Without the distributions; where targets are the next tokens, in one walk for both."""
        K = self.order - 1
        if torch.equal(tokens[:, 1:], targets[:, :-1]):
            nodes = self._walk(self.codes[torch.cat((tokens, targets[:, -1:]), 1)], state[0], self.order)
            contexts, ngrams = nodes[:, :-1, :K], nodes[:, 1:, 1:]  # both (B, T, K)
        else:
            contexts = self._walk(self.codes[tokens], state[0], K)
            ngrams = self._child(contexts, self.codes[targets].unsqueeze(-1))
        probability = self.unigram[targets]
        for context, ngram in zip(contexts.unbind(2), ngrams.unbind(2), strict=True):
            weight = torch.where(context >= 0, self.backoff.take(context.clamp(min=0)), 1.0)
            mass = torch.where(ngram >= 0, self.mass.take((ngram - 1).clamp(min=0)), 0.0)
            probability = mass + weight * probability
        if not self.cache:
            return probability.log(), (contexts[:, -1],)
        probability, history = self.cache.credit(probability, targets, self._static(contexts), tokens, state[1])
        return probability.log(), (contexts[:, -1], history)

    def _static(self, contexts: Tensor) -> Static:
        """(B, T, K) nodes -> what the cache wants to know of them, (B, T) each."""
        nodes = contexts.cpu().numpy()
        longest = nodes.max(2, initial=0)  # the longer a context, the higher its number
        return Static((nodes >= 0).sum(2), self.backoff.cpu().numpy().take(longest))

    def matched(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> (B, T): how long the longest known n-gram is that ends with each token; 0 for one never seen."""
        nodes = self._walk(self.codes[tokens], state[0], self.order)
        return (nodes >= 0).sum(2), (nodes[:, -1, : self.order - 1],)

    def _walk(self, codes: Tensor, contexts: Tensor, longest: int) -> Tensor:
        """(B, T) symbols, (B, K) nodes before -> (B, T, longest): the nodes after each, of lengths 1 to `longest`."""
        B, T = codes.shape
        root = torch.zeros(B, 1, dtype=torch.int64, device=codes.device)
        if longest >= T:  # short: all lengths at once, step by step
            steps = []
            for t in range(T):
                longer = self._child(torch.cat((root, contexts), 1)[:, :longest], codes[:, t : t + 1])
                contexts = longer[:, : contexts.shape[1]]
                steps.append(longer)
            return torch.stack(steps, 1)
        lengths = []  # long: all steps at once, length by length, in the order of what they begin with
        shorter, begins = root.expand(B, T), self._sorted(codes)
        for k in range(longest):
            places = (begins + k) % (B * T)
            found = torch.empty(B * T, dtype=torch.int64, device=codes.device)
            found[places] = self._child(shorter.flatten()[places], codes.flatten()[places])
            lengths.append(found.view(B, T))
            shorter = torch.cat((contexts[:, k : k + 1], lengths[-1][:, :-1]), 1)
        return torch.stack(lengths, 2) if lengths else contexts.unsqueeze(1).expand(B, T, 0)

    def _sorted(self, codes: Tensor) -> Tensor:
        """(B, T) -> (B T,): the places sorted by the symbols from there on, to look up neighbours together."""
        flat, bits = codes.flatten(), len(self.ids).bit_length()
        words = flat.clone()
        for k in range(1, 62 // max(1, bits)):
            words.mul_(1 << bits)[:-k] += flat[k:]
        return words.argsort()

    def _child(self, nodes: Tensor, codes: Tensor) -> Tensor:
        """The node reached from each node by a symbol, -1 where there is none."""
        wanted = nodes * (len(self.ids) + 1) + codes
        at = torch.searchsorted(self.keys, wanted)
        return torch.where(self.keys.take(at) == wanted, at + 1, -1)

    def _distributions(self, contexts: Tensor) -> Tensor:
        """(N, K) nodes -> (N, V): P of every token after them."""
        seen = contexts >= 0
        weights = torch.where(seen, self.backoff[contexts], 1.0)
        left = torch.nn.functional.pad(weights, (0, 1), value=1.0).flip(1).cumprod(1).flip(1)  # (N, K + 1)
        result = self.unigram * left[:, :1]  # left[:, k]: what contexts longer than k leave to those of length k
        rows, lengths = seen.nonzero(as_tuple=True)
        nodes = contexts[rows, lengths]
        begin = self.first.index_select(0, nodes).long()
        sizes = self.first.index_select(0, nodes + 1) - begin
        ends = sizes.cumsum(0)
        entry = torch.arange(int(sizes.sum()), device=ends.device)
        owner = torch.searchsorted(ends, entry, right=True)  # repeat_interleave would wake every core for a few entries
        children = entry + (begin - ends + sizes - 1).index_select(0, owner)
        mass = self.mass.index_select(0, children) * left[rows, lengths + 1].index_select(0, owner)
        tokens = self.ids.index_select(0, self.symbol.index_select(0, children).int())
        result.view(-1).index_add_(0, (rows * self.vocab_size).index_select(0, owner) + tokens, mass)
        return result
