"""The n-gram model: a table of probabilities and back-off weights, walked a symbol at a time.

Shapes: B streams, T time steps, V vocabulary, K = order - 1 contexts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from charlm.config import BOUNDARY, Settings, setting
from charlm.errors import UsageError
from charlm.models.base import CountingModel, LogProbs, State, Step, Tokens
from charlm.models.ngram.cache import LARGEST_WINDOW, RECENT, Cache, Static
from charlm.models.ngram.counting import Integers, Level, alphabet_of, count_ngrams
from charlm.models.ngram.estimation import FIXED, LEARNED, SMOOTHERS, Estimator, Slice, best_order, tune_cache
from charlm.models.ngram.matching import matches
from charlm.models.ngram.smoothing import Estimate, Numbers
from charlm.models.ngram.stepping import Heard, Steps, spread

CACHE = "cache_"  # what the names of the cache's tensors begin with
LONGEST = 12  # order tried if none is asked for
CHUNK = 1 << 20  # tokens looked at in one go
WINDOW = 16  # bytes of the memory allowed for each window of the text that is sorted at a time
COUNTED = 64  # bytes that an n-gram takes while the model is built
LEARNED_FROM = 256  # and while it is learned what n-grams of which length are worth


class NGram(CountingModel):
    """Predicts from the last order - 1 tokens, by how often it has seen what follows them.

    The n-grams form a trie whose nodes are numbered level by level, so that the children of a node, and of one node
    after another, are neighbours: node 0 is the empty n-gram, node y the one that ends in symbol[y - 1] and has
    mass[y - 1]. The state holds, for k = 1 .. K, the node of the last k tokens, -1 where they were never seen; and if
    there is a cache, the last tokens themselves. The table without the cache is all that its own tensors describe.
    """

    @dataclass(frozen=True)
    class Config(Settings):
        """Settings of the n-gram."""

        order: int | None = setting(
            None,
            f"n-gram length, context and prediction; open: chosen on the validation slice, up to {LONGEST}",
            min=1,
            max=16,
        )
        smoothing: str | None = setting(  # None: nothing was counted here, the table was imported
            "gated", "how counts become probabilities", choices=SMOOTHERS
        )
        cache: int | None = setting(
            None,
            "last tokens of the text being read in which earlier cases of the context are looked for; 0: none; "
            f"open: {RECENT} with gated smoothing, else 0",
            min=0,
            max=LARGEST_WINDOW,
        )
        memory: float = setting(
            2.0,
            "gigabytes that counting may take besides the text; sets how long n-grams get where that is open",
            min=0.1,
        )

    chunk: ClassVar[int] = 1 << 17

    config: Config
    ids: Tensor  # (A,) int64: the token that each symbol stands for
    levels: Tensor  # (order + 1,) int64: the first node of each length, then the end
    first: Tensor  # (C + 1,) int32: first child of each node that can be a context, then the end
    symbol: Tensor  # (M,) uint8 or int32
    mass: Tensor  # (M,) float32
    backoff: Tensor  # (C,) float32
    unigram: Tensor  # (V,) float32: P of each token in no context, those never seen included
    codes: Tensor  # (V,) int64: the symbol of each token, A for those never seen
    keys: Tensor  # (M + 1,) int64: what `_keys` says

    def __init__(self, config: Config, vocab_size: int) -> None:
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
    def parameters_count(self) -> int:
        """How many n-grams are stored."""
        return len(self.symbol)

    def fit(
        self,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Callable[[str, float], None] | None = None,
        before: Callable[[CountingModel], None] | None = None,
    ) -> None:
        """Count and estimate; the text is read as the boundary, then `tokens`, then `validation`.

        With kenlm smoothing another boundary follows, which stands for the </s> that KenLM predicts at the end.
        """
        tell = progress or (lambda _what, _fraction: None)
        boundary = np.array([BOUNDARY], tokens.dtype)
        parts = [boundary, tokens, validation, boundary[: self.config.smoothing == "kenlm"]]
        tell("counting", 0.0)
        ids, symbols = _alphabet(parts, self.vocab_size)
        estimator, order, cache = self._tuned(symbols, len(ids), 1 + len(tokens), tell)
        self._remember(cache)
        if before is not None:
            self._estimate(ids, _complete(symbols[: 1 + len(tokens)], len(ids)), estimator, order, tell)
            before(self)
        self._estimate(ids, symbols, estimator, order, tell)

    def _estimate(
        self, ids: Integers, symbols: Integers, estimator: Estimator, order: int, tell: Callable[[str, float], None]
    ) -> None:
        """Become what these symbols, which stand for the tokens `ids`, are counted and estimated to be."""
        levels = self._counted(symbols, len(ids), order, COUNTED, tell)
        if self.config.order and len(levels) < min(order, len(symbols)):
            raise UsageError(
                f"--order {order} has more n-grams here than fit in --memory {self.config.memory:g} (gigabytes): "
                f"allow more, or take --order {len(levels)}"
            )
        tell("estimating", 0.0)
        base = _base(len(ids), self.vocab_size)
        estimates = estimator(levels, base)
        self.found = {"discounts": [estimate.discounts for estimate in estimates]}
        unseen = self.vocab_size - len(ids)
        unigram = np.full(self.vocab_size, estimates[0].backoff[0] * base[0] / max(1, unseen))
        unigram[ids] = estimates[0].mass + estimates[0].backoff[0] * base
        self._install(_tensors(ids, levels, estimates, unigram))
        tell("estimating", 1.0)

    def _counted(
        self, symbols: Integers, alphabet: int, order: int, size: int, tell: Callable[[str, float], None]
    ) -> list[Level]:
        """The n-grams up to an order, or shorter ones where those, of so many bytes each, are too many."""
        allowed = int(self.config.memory * 1e9)
        tell("counting", 0.0)
        return count_ngrams(
            symbols, alphabet, order, allowed // size, allowed // WINDOW, lambda fraction: tell("counting", fraction)
        )

    def _tuned(
        self, symbols: Integers, alphabet: int, split: int, tell: Callable[[str, float], None]
    ) -> tuple[Estimator, int, Cache | None]:
        """What the validation slice, symbols[split:], teaches: how to estimate, up to which order, the cache if any."""
        smoothing, order = self.config.smoothing, self.config.order
        assert smoothing is not None
        window = self.config.cache if self.config.cache is not None else RECENT * (smoothing == "gated")
        estimator, steps = FIXED.get(smoothing), None
        if estimator and order and not window:
            return estimator, order, None
        size = LEARNED_FROM if smoothing == "gated" else COUNTED
        levels = self._counted(symbols[:split], alphabet, order or LONGEST, size, tell)
        contexts, ngrams = matches(levels, alphabet, symbols, split)
        held = Slice(levels, _base(len(levels[0]), self.vocab_size), contexts, ngrams)
        if estimator is None:
            estimator, steps = LEARNED[smoothing](held, lambda fraction: tell(f"tuning {smoothing}", fraction))
        if not order and len(contexts):  # the gate itself decides what long contexts count
            order = len(levels) if smoothing == "gated" else best_order(held, estimator)
        order = order or LONGEST
        if not window:
            return estimator, order, None
        held = held.shortened(order)
        mass, backoff = steps or held.looked_up(estimator(held.levels, held.base))
        text = np.append(symbols[:1], symbols[split:])
        cache = tune_cache(window, text, held, mass, backoff, lambda fraction: tell("tuning the cache", fraction))
        return estimator, order, cache

    @classmethod
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "NGram":
        """As the interface says."""
        assert isinstance(config, cls.Config)
        model = cls(config, vocab_size)
        expected = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        of_cache = {name: tensor for name, tensor in tensors.items() if name.startswith(CACHE)}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in of_cache}
        if of_cache:
            model._remember(Cache.from_tensors({name.removeprefix(CACHE): t for name, t in of_cache.items()}))
        found = {name: tensor.dtype for name, tensor in tensors.items()}
        if found not in (expected, expected | {"symbol": torch.int32}):
            raise ValueError("the weights are not those of an n-gram model")
        _check(tensors, vocab_size)
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
        return cls.from_tensors(config, vocab_size, _tensors(ids, levels, estimates, unigram))

    def _install(self, tensors: dict[str, Tensor]) -> None:
        """Take over the tensors of a fitted model, and derive from them what is looked things up in."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        alphabet = len(self.ids)
        codes = torch.full((self.vocab_size,), alphabet)
        codes[self.ids] = torch.arange(alphabet)
        keys = torch.from_numpy(_keys(self.first.numpy(), self.symbol.numpy(), alphabet))
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("keys", keys, persistent=False)

    def _remember(self, cache: Cache | None) -> None:
        """Take over a cache, its weights to be saved with the table."""
        self.cache = cache
        for name, tensor in cache.tensors().items() if cache else ():
            self.register_buffer(CACHE + name, tensor)

    def initial_state(self, streams: int) -> State:
        """The state before anything has been read: no context, an empty cache if there is one."""
        contexts = torch.full((streams, self.order - 1), -1, device=self.keys.device)
        return (contexts, self.cache.initial_state(streams, self.vocab_size)) if self.cache else (contexts,)

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """As the interface says: every context, from none to the longest, adds the symbols that it has seen."""
        contexts = self._walk(self.codes[tokens], state[0], self.order - 1)  # (B, T, K)
        probs = self._distributions(contexts.flatten(0, 1)).view(*tokens.shape, -1)
        if not self.cache:
            return probs.log(), (contexts[:, -1],)
        probs, history = self.cache.spread(probs, self._static(contexts), tokens, state[1])
        return probs.log(), (contexts[:, -1], history)

    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """As the interface says, without the distributions; where targets are the next tokens, in one walk for both."""
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

    def stepper(self, state: State) -> tuple[Step, State]:
        """As the interface says; the states are those of `forward`."""
        if self.keys.device.type != "cpu":
            return super().stepper(state)
        tables = (self.codes, self.first, self.mass, self.backoff, self.unigram)
        steps = Steps(self.ids.numpy()[self.symbol.numpy()], *(table.numpy() for table in tables))
        latest = state[0], steps.following(state[0].numpy())

        def step(tokens: Tokens, state: State) -> tuple[LogProbs, State]:
            nonlocal latest
            contexts, heard = state[0], Heard(*(leaf.numpy() for leaf in state[1:])) if cache else None
            before = latest[1] if contexts is latest[0] else steps.following(contexts.numpy())
            following = steps.following(steps.after(before, tokens))
            probs = steps.probabilities(following)
            if cache and heard:
                heard = heard.after(tokens)
                probs = spread(cache, probs, steps.static(following.contexts), heard)
            latest = torch.from_numpy(following.contexts), following
            return np.log(probs, probs), (latest[0], *map(torch.from_numpy, heard or ()))

        cache = self.cache
        heard = Heard.of(state[1].numpy(), int(cache.window[0])) if cache else ()
        return step, (state[0], *map(torch.from_numpy, heard))

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


def _alphabet(parts: Sequence[Integers], vocab_size: int) -> tuple[Integers, Integers]:
    """The tokens that occur, and all parts in one with the place of each among them, its symbol."""
    frequencies: Integers = np.zeros(vocab_size, np.int64)
    chunks = [part[begin : begin + CHUNK] for part in parts for begin in range(0, len(part), CHUNK)]
    for chunk in chunks:
        frequencies += np.bincount(chunk, minlength=vocab_size)
    ids = alphabet_of(frequencies)
    codes: Integers = np.zeros(vocab_size, np.min_scalar_type(len(ids)))
    codes[ids] = np.arange(len(ids))
    symbols: Integers = np.empty(sum(map(len, parts)), codes.dtype)
    begin = 0
    for chunk in chunks:
        symbols[begin : begin + len(chunk)] = codes[chunk]
        begin += len(chunk)
    return ids, symbols


def _complete(symbols: Integers, alphabet: int) -> Integers:
    """The symbols, and behind them each that they lack: an n-gram knows its alphabet from its text."""
    lacking = np.ones(alphabet, bool)
    for begin in range(0, len(symbols), CHUNK):
        lacking[symbols[begin : begin + CHUNK]] = False
    return np.append(symbols, lacking.nonzero()[0].astype(symbols.dtype)) if lacking.any() else symbols


def _base(alphabet: int, vocab_size: int) -> Numbers:
    """P of each symbol seen before anything is counted: all tokens never seen are together one symbol more."""
    return np.full(alphabet, 1 / (alphabet + (vocab_size > alphabet)))


def _tensors(ids: Any, levels: list[Level], estimates: list[Estimate], unigram: Any) -> dict[str, Tensor]:
    """What a fitted model stores; `first`, for instance, from the parents of the n-grams."""
    sizes = np.array([1, *map(len, levels)])
    starts = np.cumsum(sizes)
    children = np.concatenate([np.bincount(level.parent, minlength=n) for level, n in zip(levels, sizes, strict=False)])
    symbol = np.concatenate([level.symbol for level in levels])
    arrays = {
        "ids": ids,
        "levels": starts,
        "first": np.append(1, 1 + np.cumsum(children)).astype(np.int32),
        "symbol": symbol.astype(np.uint8 if len(ids) <= 256 else np.int32),
        "mass": np.concatenate([e.mass for e in estimates]).astype(np.float32),
        "backoff": np.concatenate([e.backoff for e in estimates]).astype(np.float32),
        "unigram": unigram.astype(np.float32),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@np.errstate(over="ignore", invalid="ignore")  # what is infinite does not add up either
def _check(tensors: Mapping[str, Tensor], vocab_size: int) -> None:
    """Raises ValueError unless the tensors describe one trie whose contexts each give away a probability of 1."""
    ids, levels, first, symbol, mass, backoff, unigram = (
        tensors[name].numpy() for name in ("ids", "levels", "first", "symbol", "mass", "backoff", "unigram")
    )
    sound = (
        all(tensor.dim() == 1 for tensor in tensors.values())
        and len(unigram) == vocab_size
        and len(symbol) == len(mass)
        and len(first) == len(backoff) + 1
        and levels[:1].tolist() == first[:1].tolist() == [1]
        and levels[-1:].tolist() == first[-1:].tolist() == [len(symbol) + 1]
        and all((numbers[1:] >= numbers[:-1]).all() for numbers in (levels, first))
        and all(((numbers >= 0) & (numbers < n)).all() for numbers, n in ((ids, vocab_size), (symbol, len(ids))))
        and len(np.unique(ids)) == len(ids)
    )
    if not sound or not (np.diff(_keys(first, symbol, len(ids))) > 0).all():
        raise ValueError("the tensors of the n-gram model contradict each other")
    given = np.append(0, mass.cumsum(dtype=np.float64))[first - 1]
    off = np.abs(np.diff(given) + backoff - 1).max()
    if not (off < 1e-3 and abs(unigram.sum(dtype=np.float64) - 1) < 1e-3 and min(backoff.min(), unigram.min()) > 0):
        raise ValueError("the probabilities of the n-gram model do not add up to 1")


def _keys(first: Integers, symbol: Integers, alphabet: int) -> Integers:
    """(M + 1,) int64: parent * (A + 1) + symbol of each node from 1 on, which ascend; then a number beyond all."""
    keys = np.repeat(np.arange(0, len(first) * (alphabet + 1), alphabet + 1), np.diff(first, append=first[-1] + 1))
    keys[:-1] += symbol
    return keys
