"""The Transformer's layers for one id of one stream, compiled by numba (the extra `fast`).

They say what `transformer_step` says with numpy, but for rounding, in one call instead of a hundred.

Shapes: L layers, D width, N heads of d = D/N, G heads of keys and values, E = D + 2 G d, S slots, H hidden.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Array = np.ndarray[Any, np.dtype[Any]]

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
PER_DOUBLING = np.float32(1 / math.log(2))
LEAST = np.float32(-126)  # of the exponents of a float32
TAYLOR = tuple(np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 7))  # of 2^x


def _compiled(signature: str | None = None) -> Callable[[F], F]:
    """With a signature the function is compiled, or fetched from where numba keeps it, now; without, for its callers.

    Sums may be taken in any order, which vector instructions need; what is not a number stays so.
    """
    jit = numba.njit(signature, cache=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
    return cast(Callable[[F], F], jit)


@_compiled()
def _exp(x: Array, most: np.float32) -> np.float32:
    """exp(x - most), in place, to the last bit or two; returns the sum.

    2^(n + f), with n put among the bits and 2^f from its series: vector instructions have no exponential.
    """
    c1, c2, c3, c4, c5, c6 = TAYLOR
    bits = np.empty(len(x), np.int32)
    for i in range(len(x)):
        power = max((x[i] - most) * PER_DOUBLING, LEAST)
        n = math.floor(power + HALF)
        f = np.float32(power - n)
        x[i] = ONE + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))
        bits[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    powers, total = bits.view(np.float32), ZERO
    for i in range(len(x)):
        x[i] *= powers[i]
        total += x[i]
    return total


@_compiled()
def _add_product(x: Array, matrix: Array, y: Array) -> None:
    """To y (H,) that of x (D,) and a matrix (D, H), four rows at a time: fewer loads and stores of y.

    Rows for numbers that are zero, as half and more of squared ReLUs are, are not even read.
    """
    count, rows = 0, np.empty(len(x), np.int64)
    for j in range(len(x)):
        rows[count] = j
        count += x[j] != ZERO
    k = 0
    while k + 4 <= count:
        p, q, r, s = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        a, b, c, d = x[p], x[q], x[r], x[s]
        for i in range(len(y)):
            y[i] += a * matrix[p, i] + b * matrix[q, i] + c * matrix[r, i] + d * matrix[s, i]
        k += 4
    for j in rows[k:count]:
        for i in range(len(y)):
            y[i] += x[j] * matrix[j, i]


@_compiled("f4[::1](f4[::1], f8)")
def unit(x: Array, epsilon: float) -> Array:
    """(D,) divided by the root of its mean square."""
    total, y = ZERO, np.empty_like(x)
    for i in range(len(x)):
        total += x[i] * x[i]
    factor = np.float32(1 / math.sqrt(total / len(x) + epsilon))
    for i in range(len(x)):
        y[i] = factor * x[i]
    return y


@_compiled("f4[::1](f4[::1], f4[::1])")
def log_softmax(logits: Array, share: Array) -> Array:
    """ln of the softmax of (V,), a share (1,) of the probability spread evenly."""
    most, p = -np.float32(np.inf), logits.copy()
    for v in range(len(p)):
        most = max(most, p[v])
    kept, floor = (ONE - share[0]) / _exp(p, most), share[0] / np.float32(len(p))
    for v in range(len(p)):
        p[v] = math.log(p[v] * kept + floor)
    return p


@_compiled()
def _attention_weights(q: Array, keys: Array, weights: Array) -> None:
    """softmax(keys q): q (d,), keys (C, d), weights (C,)."""
    most = -np.float32(np.inf)
    for c in range(len(keys)):
        similarity = ZERO
        for i in range(len(q)):
            similarity += q[i] * keys[c, i]
        weights[c] = similarity
    for c in range(len(weights)):
        most = max(most, weights[c])
    total = _exp(weights, most)
    for c in range(len(weights)):
        weights[c] /= total


@_compiled()
def _add_attention(
    x: Array,
    project: Array,
    out: Array,
    turn: Array,
    keys: Array,
    values: Array,
    begin: int,
    end: int,
    epsilon: float,
) -> None:
    G, _, d = keys.shape
    N = len(turn) - 2 * G
    qkv = np.zeros(project.shape[1], np.float32)
    _add_product(unit(x, epsilon), project, qkv)
    for n in range(len(turn)):
        for i in range(d // 2):
            at = n * d + 2 * i
            a, b, factor = qkv[at], qkv[at + 1], turn[n, i]
            qkv[at] = a * factor.real - b * factor.imag
            qkv[at + 1] = a * factor.imag + b * factor.real
    for g in range(G):
        for i in range(d):
            keys[g, end, i] = qkv[len(x) + g * d + i]
            values[g, end, i] = qkv[len(x) + (G + g) * d + i]
    mixed, weights = np.zeros(len(x), np.float32), np.empty(end + 1 - begin, np.float32)
    for n in range(N):
        g = n * G // N
        _attention_weights(qkv[n * d : (n + 1) * d], keys[g, begin : end + 1], weights)
        _add_product(weights, values[g, begin : end + 1], mixed[n * d : (n + 1) * d])
    _add_product(mixed, out, x)


@_compiled()
def _add_feedforward(x: Array, inner: Array, last: Array, epsilon: float) -> None:
    h = np.zeros(inner.shape[1], np.float32)
    _add_product(unit(x, epsilon), inner, h)
    for k in range(len(h)):
        h[k] *= max(h[k], ZERO)
    _add_product(h, last, x)


@_compiled(f"void(f4[::1], {4 * 'f4[:, :, ::1], '} c8[:, ::1], f4[:, :, :, :, ::1], i8, i8, f8)")
def add_layers(
    x: Array,
    project: Array,
    out: Array,
    inner: Array,
    last: Array,
    turn: Array,
    slots: Array,
    begin: int,
    end: int,
    epsilon: float,
) -> None:
    """Add to the stream x (D,) what the layers add, one by one: attention, then squared ReLUs.

    project (L, D, E), out (L, D, D), inner (L, D, H), last (L, H, D), turn (N + 2 G, d/2) complex. Of the slots
    (L, 2, G, S, d) `end` is filled, and those from `begin` to `end` are seen.
    """
    for layer in range(len(project)):
        _add_attention(x, project[layer], out[layer], turn, slots[layer, 0], slots[layer, 1], begin, end, epsilon)
        _add_feedforward(x, inner[layer], last[layer], epsilon)
