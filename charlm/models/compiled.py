"""Layers for one id of each stream, compiled by numba (the extra `fast`): whole ones in one call, on one thread.

They say what `transformer_step` and `recurrent` say with numpy and torch, but for rounding. Matrices are laid out as
`nn.Linear` keeps them, (outputs, inputs). None holds Python's lock, so that threads can share the streams.

Shapes: B streams, L layers, D width, N heads of d = D/N, G heads of keys and values, R = N/G, C positions,
E = D + 2 G d, S slots, H hidden.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Array = np.ndarray[Any, np.dtype[Any]]

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
PER_DOUBLING = np.float32(1 / math.log(2))
LEAST = np.float32(-127)  # of the exponents of a float32, that of 0
TAYLOR = tuple(np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 7))  # of 2^x
DOUBLING = np.float32(math.log(2))
ROOT = np.float32(math.sqrt(0.5)).view(np.int32)  # the bits of a float32
SERIES = tuple(np.float32(2 / k) for k in (1, 3, 5, 7, 9))  # of ln((1 + x) / (1 - x)), odd powers


def _compiled(signature: str | None = None) -> Callable[[F], F]:
    """With a signature the function is compiled, or fetched from where numba keeps it, now; without, for its callers.

    Sums may be taken in any order, which vector instructions need; what is not a number stays so.
    """
    jit = numba.njit(signature, cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
    return cast(Callable[[F], F], jit)


@_compiled()
def _exp(x: Array, most: np.float32) -> np.float32:
    """exp(x - most), none above 1, in place; returns the sum.

    2^(n + f): f in [-1/2, 1/2] by the series of 2^f, n added to the exponent's bits. Vector instructions have no
    exponential, and round towards zero.
    """
    c1, c2, c3, c4, c5, c6 = TAYLOR
    bits, total = x.view(np.int32), ZERO
    for i in range(len(x)):
        power = max((x[i] - most) * PER_DOUBLING, LEAST)
        n = np.int32(power - HALF)
        f = power - np.float32(n)
        x[i] = ONE + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))
        bits[i] += n << np.int32(23)
        total += x[i]
    return total


@_compiled()
def _most(x: Array) -> np.float32:
    most = -np.float32(np.inf)
    for i in range(len(x)):
        most = max(most, x[i])
    return most


@_compiled()
def _log(x: Array) -> None:
    """ln(x) in place, of finite numbers above 0: of a power of two, and by series of what is left, near 1."""
    c1, c3, c5, c7, c9 = SERIES
    bits = x.view(np.int32)
    for i in range(len(x)):
        n = np.int32(np.int32(bits[i] - ROOT) >> np.int32(23))
        bits[i] -= n << np.int32(23)
        y = (x[i] - ONE) / (x[i] + ONE)
        z = y * y
        x[i] = np.float32(n) * DOUBLING + y * (c1 + z * (c3 + z * (c5 + z * (c7 + z * c9))))


@_compiled()
def _tanh(x: Array) -> None:
    """tanh(x) in place, to within 2e-7."""
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = -TWO * abs(x[i])
    _exp(y, ZERO)
    for i in range(len(x)):
        x[i] = math.copysign((ONE - y[i]) / (ONE + y[i]), x[i])


@_compiled()
def _dot(x: Array, y: Array) -> np.float32:
    total = ZERO
    for k in range(len(x)):
        total += x[k] * y[k]
    return total


@_compiled("void(f4[:, ::1], f4[:, ::1], f4[:, ::1])")
def add_product(x: Array, matrix: Array, y: Array) -> None:
    """To y (B, H) that of x (B, D) and a matrix (H, D).

    Sums of two rows by four are taken together: as many as there are registers for, with six loads for eight products.
    """
    (B, H), D = y.shape, x.shape[1]
    pairs, fours = B // 2 * 2, H // 4 * 4
    for j in range(0, fours, 4):
        for b in range(0, pairs, 2):
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
            for k in range(D):
                s, t = x[b, k], x[b + 1, k]
                m0, m1, m2, m3 = matrix[j, k], matrix[j + 1, k], matrix[j + 2, k], matrix[j + 3, k]
                s0, s1, s2, s3 = s0 + s * m0, s1 + s * m1, s2 + s * m2, s3 + s * m3
                t0, t1, t2, t3 = t0 + t * m0, t1 + t * m1, t2 + t * m2, t3 + t * m3
            for i, (s, t) in enumerate(((s0, t0), (s1, t1), (s2, t2), (s3, t3))):
                y[b, j + i] += s
                y[b + 1, j + i] += t
        for b in range(pairs, B):
            for i in range(j, j + 4):
                y[b, i] += _dot(x[b], matrix[i])
    for i in range(fours, H):
        for b in range(B):
            y[b, i] += _dot(x[b], matrix[i])


@_compiled("f4[:, ::1](f4[:, ::1], f8)")
def unit(x: Array, epsilon: float) -> Array:
    """(B, D), each row divided by the root of its mean square."""
    y = np.empty_like(x)
    for b in range(len(x)):
        factor = np.float32(1 / math.sqrt(_dot(x[b], x[b]) / x.shape[1] + epsilon))
        for i in range(x.shape[1]):
            y[b, i] = factor * x[b, i]
    return y


@_compiled("f4[:, ::1](f4[:, ::1], f4[:, ::1], f4[::1], i8[::1], f4[::1], f4[:, ::1])")
def log_probs(x: Array, matrix: Array, offset: Array, places: Array, rest: Array, share: Array) -> Array:
    """(B, V): ln of the softmax of logits, a share (B, 1) of the probability spread evenly.

    At the places (K,) the logits are those of x (B, D) by a matrix (K, D) and an offset (K,), elsewhere `rest` (V,).
    """
    logits, found = np.empty((len(x), len(places)), np.float32), np.empty((len(x), len(rest)), np.float32)
    logits[:] = offset
    add_product(x, matrix, logits)
    for b in range(len(x)):
        p = found[b]
        p[:] = rest
        for k in range(len(places)):
            p[places[k]] = logits[b, k]
        kept, floor = (ONE - share[b, 0]) / _exp(p, _most(p)), share[b, 0] / np.float32(len(p))
        for v in range(len(p)):
            p[v] = p[v] * kept + floor
        if math.isnan(kept):
            p[:] = kept
        else:
            _log(p)
    return found


@_compiled("i8[::1](f4[:, :], i8, f8[:], f8)")
def drawn(log_probs: Array, first: int, uniforms: Array, temperature: float) -> Array:
    """(B,): ids from `first` on for rows (B, V) cooled to a temperature, as uniforms (B,) in [0, 1) decide.

    -1 for rows that are not numbers.
    """
    tokens = np.full(len(log_probs), -1)
    for b in range(len(tokens)):
        p = log_probs[b, first:].copy()
        most, total, so_far = _most(p), 0.0, 0.0
        for v in range(len(p)):
            p[v] = (p[v] - most) / temperature
        _exp(p, ZERO)
        for v in range(len(p)):
            total += p[v]
        for v in range(len(p)):
            if p[v] > ZERO:  # the last of these where rounding keeps the sum below all
                tokens[b] = first + v
            so_far += p[v]
            if so_far > uniforms[b] * total:
                break
        if not total > 0:
            tokens[b] = -1
    return tokens


@_compiled("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1], f4[:, ::1])")
def lstm(x: Array, U: Array, _c: Array, h: Array, c: Array) -> None:
    """A step of `LSTM`: h and c (B, H) become the next ones; x (B, 4 H) is overwritten."""
    H = h.shape[1]
    add_product(h, U, x)
    for b in range(len(h)):
        gates, after, cell = x[b], h[b], c[b]
        _tanh(gates)
        for i in range(H):
            cell[i] = ((gates[H + i] + ONE) * cell[i] + (gates[i] + ONE) * gates[2 * H + i]) * HALF
            after[i] = cell[i]
        _tanh(after)
        for i in range(H):
            after[i] *= (gates[3 * H + i] + ONE) * HALF


@_compiled("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1])")
def gru(x: Array, U: Array, c: Array, h: Array) -> None:
    """A step of `GRU`: h (B, H) becomes the next one; x (B, 3 H) is overwritten."""
    H, read = h.shape[1], np.zeros_like(x)
    add_product(h, U, read)
    for b in range(len(h)):
        gates, new, now, after = x[b, : 2 * H], x[b, 2 * H :], read[b], h[b]
        for i in range(2 * H):
            gates[i] += now[i] + c[i]
        _tanh(gates)
        for i in range(H):
            new[i] += (gates[i] + ONE) * (now[2 * H + i] + c[2 * H + i]) * HALF
        _tanh(new)
        for i in range(H):
            after[i] = new[i] + (gates[H + i] + ONE) * (after[i] - new[i]) * HALF


@_compiled("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1])")
def rnn_tanh(x: Array, U: Array, _c: Array, h: Array) -> None:
    """A step of `RNN`: h (B, H) becomes the next one; x (B, H) is overwritten."""
    add_product(h, U, x)
    for b in range(len(h)):
        _tanh(x[b])
        for i in range(h.shape[1]):
            h[b, i] = x[b, i]


@_compiled("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1])")
def rnn_relu(x: Array, U: Array, _c: Array, h: Array) -> None:
    """As above."""
    add_product(h, U, x)
    for b in range(len(h)):
        for i in range(h.shape[1]):
            h[b, i] = max(x[b, i], ZERO)


@_compiled()
def _add_mean(weights: Array, values: Array, y: Array) -> None:
    """To y (d,) that of values (C, d), weighted by weights (C,); four positions at a time: fewer loads and stores."""
    fours = len(weights) // 4 * 4
    for k in range(0, fours, 4):
        p, q, r, s = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for i in range(len(y)):
            y[i] += p * values[k, i] + q * values[k + 1, i] + r * values[k + 2, i] + s * values[k + 3, i]
    for k in range(fours, len(weights)):
        for i in range(len(y)):
            y[i] += weights[k] * values[k, i]


@_compiled()
def _attend(q: Array, keys: Array, values: Array, y: Array) -> None:
    """To y (R, d) the values (C, d) weighted by softmax(q keys): q (R, d), keys (C, d)."""
    weights = np.zeros((len(q), len(keys)), np.float32)
    add_product(q, keys, weights)
    for r in range(len(q)):
        factor = ONE / _exp(weights[r], _most(weights[r]))
        for c in range(len(keys)):
            weights[r, c] *= factor
        _add_mean(weights[r], values, y[r])


@_compiled()
def _add_attention(
    x: Array, project: Array, out: Array, turn: Array, slots: Array, first: int, begin: int, end: int, epsilon: float
) -> None:
    (B, D), (G, _, d) = x.shape, slots.shape[2:]
    R = (len(turn) - 2 * G) // G
    qkv, mixed = np.zeros((B, len(project)), np.float32), np.zeros((B, D), np.float32)
    add_product(unit(x, epsilon), project, qkv)
    for b in range(B):
        row = qkv[b]
        for n in range(len(turn)):
            for i in range(d // 2):
                at = n * d + 2 * i
                even, odd, factor = row[at], row[at + 1], turn[n, i]
                row[at] = even * factor.real - odd * factor.imag
                row[at + 1] = even * factor.imag + odd * factor.real
        for g in range(G):
            keys, values = slots[0, first + b, g], slots[1, first + b, g]
            for i in range(d):
                keys[end, i] = row[D + g * d + i]
                values[end, i] = row[D + (G + g) * d + i]
            q = row[g * R * d : (g + 1) * R * d].reshape(R, d)
            y = mixed[b, g * R * d : (g + 1) * R * d].reshape(R, d)
            _attend(q, keys[begin : end + 1], values[begin : end + 1], y)
    add_product(mixed, out, x)


@_compiled()
def _add_feedforward(x: Array, inner: Array, last: Array, epsilon: float) -> None:
    h = np.zeros((len(x), len(inner)), np.float32)
    add_product(unit(x, epsilon), inner, h)
    for b in range(len(h)):
        for k in range(len(inner)):
            h[b, k] *= max(h[b, k], ZERO)
    add_product(h, last, x)


@_compiled(f"void(f4[:, ::1], {4 * 'f4[:, :, ::1], '} c8[:, ::1], f4[:, :, :, :, :, ::1], i8, i8, i8, f8)")
def add_layers(
    x: Array,
    project: Array,
    out: Array,
    inner: Array,
    last: Array,
    turn: Array,
    slots: Array,
    first: int,
    begin: int,
    end: int,
    epsilon: float,
) -> None:
    """Add to the streams x (B, D) what the layers add, one by one: attention, then squared ReLUs.

    project (L, E, D), out (L, D, D), inner (L, H, D), last (L, D, H), turn (N + 2 G, d/2) complex. The slots
    (L, 2, B or more, G, S, d) of the streams from `first` on: `end` is filled, those from `begin` to `end` are seen.
    """
    for layer in range(len(project)):
        _add_attention(x, project[layer], out[layer], turn, slots[layer], first, begin, end, epsilon)
        _add_feedforward(x, inner[layer], last[layer], epsilon)
