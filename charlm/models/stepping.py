"""Reading one id after another, quickly: what sampling spends its time on.

A step holds a network's weights laid out for it. One stream is computed by numpy, whose calls cost least, several by
torch, which shares the work among threads; both through the same equations, and `One` and `Many` are where they differ.
Long texts go on with `Compiled`, and once that is loaded all begin with it.

Shapes: B streams (`One` does without this dimension), V vocabulary, D features, N heads of d = D/N,
G heads of keys and values, R = N/G, C positions.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from charlm.models.base import LogProbs, Network, State, Step, Tokens

T = TypeVar("T")
Array = Any  # an array of numpy for `One`, a tensor for `Many`


class One:
    """A single stream, by numpy."""

    def weight(self, tensor: Tensor) -> Array:
        """The numbers of a tensor, not copied."""
        return tensor.numpy()

    def matrix(self, tensor: Tensor) -> Array:
        """A matrix (D, G) as `linear` wants it."""
        return self.weight(tensor.contiguous())

    def read(self, leaf: Tensor) -> Array:
        """A leaf of the state."""
        return leaf.numpy()[0]

    def leaf(self, array: Array) -> Tensor:
        """And back."""
        return torch.from_numpy(array[None])

    def rows(self, table: Array, tokens: Tokens) -> Array:
        """(V, D) -> (B, D)."""
        return table[tokens[0]]

    def linear(self, x: Array, matrix: Array, offset: Array) -> Array:
        """(B, D), (D, G) and (G,) -> (B, G)."""
        y = x @ matrix
        y += offset
        return y

    def tanh(self, x: Array) -> Array:
        """Of each number."""
        return np.tanh(x)

    def relu(self, x: Array) -> Array:
        """Of each number, in place."""
        return np.maximum(x, np.float32(0), out=x)

    def apply(self, function: Callable[[Tensor], Tensor], x: Array) -> Array:
        """A function of torch to each number."""
        return function(torch.from_numpy(x)).numpy()

    def unit(self, x: Array, epsilon: float) -> Array:
        """(B, D) divided by the root of its mean square."""
        return x * np.float32((float(x.dot(x)) / len(x) + epsilon) ** -0.5)

    def turned(self, x: Array, factors: Array) -> Array:
        """(B, K d), neighbours as complex numbers, times factors (K, d/2): (B, K, d)."""
        return (x.view(np.complex64).reshape(factors.shape) * factors).view(np.float32)

    def attend(self, q: Array, cached: Array) -> Array:
        """Queries (B, N, d), keys and values (B, 2, G, C, d): weighted means of the values, (B, N d)."""
        keys, values = cached
        weights = q.reshape(len(keys), -1, q.shape[-1]) @ keys.swapaxes(1, 2)  # (G, R, C)
        weights -= np.maximum.reduce(weights, 2, keepdims=True)
        np.exp(weights, weights)
        y = weights @ values  # (G, R, d)
        y /= np.add.reduce(weights, 2, keepdims=True)
        return y.ravel()

    def spread(self, values: Array, places: Array, rest: Array) -> Array:
        """(V,) `rest` with values (B, K) at the places (K,): (B, V)."""
        whole = rest.copy()
        whole[places] = values
        return whole

    def log_softmax(self, logits: Array, share: Array) -> LogProbs:
        """(B, V), a share (B, 1) of the probability spread evenly."""
        p = logits - np.maximum.reduce(logits)
        np.exp(p, p)
        p *= (1 - share) / np.add.reduce(p)
        p += share / len(p)
        found: LogProbs = np.log(p, p)[None]
        return found

    def log_probs(self, x: Array, matrix: Array, offset: Array, places: Array, rest: Array, share: Array) -> LogProbs:
        """(B, V): a share (B, 1) of the probability spread evenly, the other by softmax of logits (V,).

        At the places (K,) these are x (B, D) by a matrix (D, K) and an offset (K,), elsewhere `rest` (V,).
        """
        return self.log_softmax(self.spread(self.linear(x, matrix, offset), places, rest), share)


class Many(One):
    """Several streams, by torch."""

    def weight(self, tensor: Tensor) -> Array:
        """The tensor itself."""
        return tensor

    def read(self, leaf: Tensor) -> Array:
        """The leaf itself."""
        return leaf

    def leaf(self, array: Array) -> Tensor:
        """The array itself."""
        found: Tensor = array
        return found

    def rows(self, table: Array, tokens: Tokens) -> Array:
        """As above."""
        return table.index_select(0, torch.from_numpy(tokens))

    def linear(self, x: Array, matrix: Array, offset: Array) -> Array:
        """As above."""
        return torch.addmm(offset, x, matrix)

    def tanh(self, x: Array) -> Array:
        """As above."""
        return torch.tanh(x)

    def relu(self, x: Array) -> Array:
        """As above."""
        return torch.relu_(x)

    def apply(self, function: Callable[[Tensor], Tensor], x: Array) -> Array:
        """As above."""
        return function(x)

    def unit(self, x: Array, epsilon: float) -> Array:
        """As above."""
        return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt()

    def turned(self, x: Array, factors: Array) -> Array:
        """As above."""
        pairs = torch.view_as_complex(x.view(len(x), *factors.shape, 2))
        return torch.view_as_real(pairs * factors).flatten(-2)

    def attend(self, q: Array, cached: Array) -> Array:
        """As above."""
        keys, values = cached.unbind(1)
        weights = (q.unflatten(1, (keys.shape[1], -1)) @ keys.transpose(2, 3)).softmax(-1)  # (B, G, R, C)
        return (weights @ values).flatten(1)

    def spread(self, values: Array, places: Array, rest: Array) -> Array:
        """As above."""
        return rest.expand(len(values), -1).index_copy(1, places, values)

    def log_softmax(self, logits: Array, share: Array) -> LogProbs:
        """As above."""
        found: LogProbs = (logits.softmax(-1) * (1 - share) + share / logits.shape[-1]).log_().numpy()
        return found


class Compiled(One):
    """Any number of streams, by what `charlm.models.compiled` does in one call, and by numpy; see `load`."""

    kernels: ClassVar[Any] = None  # the module, once it is loaded

    def __init__(self) -> None:
        from charlm.models import compiled

        Compiled.kernels = compiled
        self.threads = torch.get_num_threads()
        self.others = ThreadPoolExecutor(max(1, self.threads - 1))  # begins a thread when it is needed

    def share_out(self, streams: int, work: Callable[[int, int], T]) -> list[T]:
        """work(begin, end) for all streams, in order; at once on as many threads as have `LEAST` of them to read."""
        parts = max(min(self.threads, streams // LEAST), -(-streams // MOST))
        if parts <= 1:
            return [work(0, streams)]
        cuts = [streams * part // parts for part in range(parts + 1)]
        found: list[Any] = [None] * parts

        def every_nth(thread: int) -> None:
            for part in range(thread, parts, self.threads):
                found[part] = work(cuts[part], cuts[part + 1])

        others = [self.others.submit(every_nth, thread) for thread in range(1, min(self.threads, parts))]
        every_nth(0)
        for other in others:
            other.result()
        return found

    def shared_out(self, step: Step) -> Step:
        """A step whose states are no more than leaves of numbers, on several threads."""

        def whole(tokens: Tokens, state: State) -> tuple[LogProbs, State]:
            if len(tokens) < 2 * LEAST:
                return step(tokens, state)

            def part(begin: int, end: int) -> tuple[LogProbs, State]:
                return step(tokens[begin:end], tuple(leaf[begin:end] for leaf in state))

            found, states = zip(*self.share_out(len(tokens), part), strict=True)
            return np.concatenate(found), tuple(map(torch.cat, zip(*states, strict=True)))

        return whole

    def matrix(self, tensor: Tensor) -> Array:
        """As above."""
        return self.weight(tensor.T.contiguous())

    def read(self, leaf: Tensor) -> Array:
        """As above."""
        return leaf.numpy()

    def leaf(self, array: Array) -> Tensor:
        """As above."""
        return torch.from_numpy(array)

    def rows(self, table: Array, tokens: Tokens) -> Array:
        """As above."""
        return table.take(tokens, 0)

    def linear(self, x: Array, matrix: Array, offset: Array) -> Array:
        """As above."""
        y = np.empty((len(x), len(offset)), np.float32)
        y[:] = offset
        self.kernels.add_product(x, matrix, y)
        return y

    def advanced(
        self, kernel: Callable[..., None], x: Array, U: Array, c: Array, vectors: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        """What becomes of vectors (B, H) by the kernel of a recurrence."""
        vectors = tuple(vector.copy() for vector in vectors)
        kernel(x, U, c, *vectors)
        return vectors

    def unit(self, x: Array, epsilon: float) -> Array:
        """As above."""
        return self.kernels.unit(x, epsilon)

    def log_probs(self, x: Array, matrix: Array, offset: Array, places: Array, rest: Array, share: Array) -> LogProbs:
        """As above."""
        found: LogProbs = self.kernels.log_probs(x, matrix, offset, places, rest, share)
        return found


LEAST, MOST = 8, 32
"""Streams: fewer do not pay for waking a thread; of more the numbers do not fit into a core's cache."""

LONG, MANY = 2000, 4
"""Steps of one stream, after about as many as gain a Transformer what it takes to load compiled kernels; a step of
several streams gains as much as so many of one."""


def load() -> Compiled | None:
    """What goes on with long texts; from now on all texts begin with it.

    None where numba is not installed, or cannot keep what it compiles.
    """
    with suppress(ImportError, RuntimeError, OSError):
        return Compiled()
    return None


def compiler() -> str:
    """The version of the numba that compiles, or how to have one."""
    try:
        return version("numba")
    except PackageNotFoundError:
        return "none (pip install numba)"


def by_streams(make: Callable[[One], Step], compilable: bool = True) -> Step:
    """The step that `make` gives for one stream or for many, whichever it is called with; made when it is needed.

    Compiled after a while, if the network can be.
    """
    made: dict[bool, Step] = {}
    left = (0 if Compiled.kernels else LONG) if compilable else math.inf  # steps until it pays

    def step(tokens: Tokens, state: State) -> tuple[LogProbs, State]:
        nonlocal left
        alone = len(tokens) == 1
        if left <= 0:
            left = math.inf
            if loaded := load():
                made[True] = made[False] = make(loaded)
        left -= 1 if alone else MANY
        if alone not in made:
            made[alone] = make(One() if alone else Many())
        return made[alone](tokens, state)

    return step


def output(xp: One, model: Network) -> Callable[[Array, Tokens], LogProbs]:
    """The output layer and the floor: features (B, D) and the ids last read -> (B, V).

    Ids whose row of weights is zero, those that training never had to tell apart, cost no product.
    """
    weight, bias = model.output.weight.detach().float(), model.output.bias.detach().float()
    learned = weight.any(1).nonzero().squeeze(1)  # (K,)
    matrix = xp.matrix(weight[learned].T)  # (D, K)
    offset = xp.weight(bias[learned])
    places, rest = xp.weight(learned), xp.weight(bias)
    shares = torch.where(model.known, model.FLOOR, model.FLOOR_AFTER_UNKNOWN)
    share = xp.weight(shares.float().unsqueeze(1))

    def log_probs(features: Array, tokens: Tokens) -> LogProbs:
        return xp.log_probs(features, matrix, offset, places, rest, xp.rows(share, tokens))

    return log_probs
