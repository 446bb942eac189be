"""Reading one id after another, quickly: what sampling spends its time on.

A step holds a network's weights laid out for it. One stream is computed by numpy, whose calls cost least, several by
torch, which shares the work among threads; both through the same equations, and `One` and `Many` are where they differ.
A long text of one stream goes on with `Compiled`, and once that is loaded every text of one stream begins with it.

Shapes: B streams (`One` does without this dimension), V vocabulary, D features, N heads of d = D/N,
G heads of keys and values, R = N/G, C positions.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm.models.base import LogProbs, Network, State, Step, Tokens

Array = Any  # an array of numpy for `One`, a tensor for `Many`


class One:
    """A single stream, by numpy."""

    def weight(self, tensor: Tensor) -> Array:
        """The numbers of a tensor, not copied."""
        return tensor.numpy()

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
    """A single stream, by numpy but for what `charlm.models.compiled` does in one call; see `load`."""

    loaded = False

    def __init__(self) -> None:
        from charlm.models import compiled

        self.kernels: Any = compiled
        Compiled.loaded = True

    def unit(self, x: Array, epsilon: float) -> Array:
        """As above."""
        return self.kernels.unit(x, epsilon)

    def log_softmax(self, logits: Array, share: Array) -> LogProbs:
        """As above."""
        found: LogProbs = self.kernels.log_softmax(logits, share)[None]
        return found


LONG = 2000
"""Steps of one stream, about as many as gain by compiled kernels what it takes to load them."""


def load() -> Compiled | None:
    """What goes on with a long text; from now on all texts of one stream begin with it.

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


def by_streams(make: Callable[[One], Step]) -> Step:
    """The step that `make` gives for one stream or for many, whichever it is called with; made when it is needed."""
    made: dict[bool, Step] = {}
    alone_before = LONG - 1 if Compiled.loaded else 0  # steps of one stream

    def step(tokens: Tokens, state: State) -> tuple[LogProbs, State]:
        nonlocal alone_before
        alone = len(tokens) == 1
        if alone:
            alone_before += 1
            if alone_before == LONG and (loaded := load()):
                made[alone] = make(loaded)
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
    matrix = xp.weight(weight[learned].T.contiguous())  # (D, K)
    offset = xp.weight(bias[learned])
    places, rest = xp.weight(learned), xp.weight(bias)
    shares = torch.where(model.known, model.FLOOR, model.FLOOR_AFTER_UNKNOWN)
    share = xp.weight(shares.float().unsqueeze(1))

    def log_probs(features: Array, tokens: Tokens) -> LogProbs:
        logits = xp.spread(features @ matrix + offset, places, rest)
        return xp.log_softmax(logits, xp.rows(share, tokens))

    return log_probs
