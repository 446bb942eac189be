"""The layers of a Transformer for B tokens: one token of each of B streams, or B tokens of one stream.

Keys and values lie in slots, and each token sees a range of them. Keys are rotated by their position (rotary: Su et al.
2021) when they are written, queries when they are used, so scores depend on distances only.

Shapes: B tokens, L layers, D width, N heads of d = D / N, G heads of keys and values, R = N / G, H hidden, P rows of
slots, S slots, E = D + 2 G d, C positions seen, V vocabulary.
"""

import math

import numpy as np

from charlm.inference.kernels.arithmetic import (
    HALF,
    ONE,
    ZERO,
    Array,
    add_product,
    exp_sum,
    inlined,
    kernel,
    maximum,
    rms_norm,
)
from charlm.jit import inner

RELU, RELU2, GELU, SWIGLU = range(4)
SQRT_HALF = math.sqrt(0.5)

ROW, FIRST, END, POSITION, LAST = range(5)
"""Columns of `views`: the row of a stream's slots, the first slot that it sees, one past the last slot, the number of
tokens it has read, and the last of their ids."""


@inner
def _add_mean(weights: Array, values: Array, y: Array) -> None:
    """y (d,) += the values (C, d) weighted by weights (C,); four positions at a time: fewer loads and stores."""
    fours = len(weights) // 4 * 4
    for k in range(0, fours, 4):
        p, q, r, s = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for i in range(len(y)):
            y[i] += p * values[k, i] + q * values[k + 1, i] + r * values[k + 2, i] + s * values[k + 3, i]
    for k in range(fours, len(weights)):
        for i in range(len(y)):
            y[i] += weights[k] * values[k, i]


@inlined
def _attend(q: Array, keys: Array, values: Array, y: Array) -> None:
    """y (R, d) += the values (C, d) weighted by softmax(q keys^T): q (R, d), keys (C, d)."""
    weights = np.zeros((len(q), len(keys)), np.float32)
    add_product(q, keys, weights)
    for r in range(len(q)):
        factor = ONE / exp_sum(weights[r], maximum(weights[r]))
        for c in range(len(keys)):
            weights[r, c] *= factor
        _add_mean(weights[r], values, y[r])


@inlined
def _rotate(row: Array, heads: int, cosine: Array, sine: Array) -> None:
    """Rotate the pairs of neighbours of each head in row (heads d, or more) by angles with cosine and sine (d/2,)."""
    size = 2 * len(cosine)
    for n in range(heads):
        for i in range(len(cosine)):
            at = n * size + 2 * i
            even, odd = row[at], row[at + 1]
            row[at] = even * cosine[i] - odd * sine[i]
            row[at + 1] = even * sine[i] + odd * cosine[i]


@inlined
def _add_attention(
    x: Array, norm: Array, project: Array, out: Array, angles: Array, views: Array, slots: Array
) -> None:
    """x (B, D) += attention of norm (B, D); slots (P, 2, G, S, d), angles (B, 2, d/2)."""
    (B, D), (G, _, d) = x.shape, slots.shape[2:]
    R = D // d // G
    qkv, mixed = np.zeros((B, len(project)), np.float32), np.zeros((B, D), np.float32)
    add_product(norm, project, qkv)
    for b in range(B):
        row, end = qkv[b], views[b, END]
        _rotate(row, (R + 1) * G, angles[b, 0], angles[b, 1])
        for g in range(G):
            keys, values = slots[views[b, ROW], 0, g], slots[views[b, ROW], 1, g]
            for i in range(d):
                keys[end, i] = row[D + g * d + i]
                values[end, i] = row[D + (G + g) * d + i]
    for b in range(B):
        first, end = views[b, FIRST], views[b, END] + 1
        for g in range(G):
            q = qkv[b, g * R * d : (g + 1) * R * d].reshape(R, d)
            y = mixed[b, g * R * d : (g + 1) * R * d].reshape(R, d)
            keys, values = slots[views[b, ROW], 0, g], slots[views[b, ROW], 1, g]
            _attend(q, keys[first:end], values[first:end], y)
    add_product(mixed, out, x)


@inlined
def _activate(h: Array, activation: int, y: Array) -> None:
    """y (H,): the activation of h (H,), or (2 H,) with the gate first."""
    H = len(y)
    if activation == RELU2:
        for k in range(H):
            y[k] = h[k] * max(h[k], ZERO)
    elif activation == RELU:
        for k in range(H):
            y[k] = max(h[k], ZERO)
    elif activation == GELU:
        for k in range(H):
            y[k] = HALF * h[k] * np.float32(1 + math.erf(h[k] * SQRT_HALF))
    else:
        for k in range(H):
            y[k] = h[k] / (ONE + np.float32(math.exp(-h[k]))) * h[H + k]


@kernel(
    "void(f4[:, ::1], f4[:, :, ::1], f4[:, :, ::1], f4[:, :, ::1], f4[:, :, ::1], f8[::1], i8, f8,"
    " i8[:, ::1], f4[:, :, :, :, :, ::1])"
)
def add_layers(
    x: Array,
    project: Array,
    out: Array,
    hidden: Array,
    last: Array,
    frequencies: Array,
    activation: int,
    epsilon: float,
    views: Array,
    slots: Array,
) -> None:
    """Apply all layers, attention then feed-forward, to the residual stream x (B, D), and normalise it, in place.

    project (L, E, D), out (L, D, D), hidden (L, H or 2 H, D), last (L, D, H), frequencies (d/2,) of the angles; views
    (B, 5). The slots (L, P, 2, G, S, d): that at END is written, those from FIRST to END are seen.
    """
    B, pairs = len(x), len(frequencies)
    angles, norm = np.empty((B, 2, pairs), np.float32), np.empty_like(x)
    for b in range(B):
        for i in range(pairs):
            angle = views[b, POSITION] * frequencies[i]
            angles[b, 0, i], angles[b, 1, i] = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    h, activated = np.empty((B, hidden.shape[1]), np.float32), np.empty((B, last.shape[2]), np.float32)
    for layer in range(len(project)):
        rms_norm(x, epsilon, norm)
        _add_attention(x, norm, project[layer], out[layer], angles, views, slots[layer])
        rms_norm(x, epsilon, norm)
        for b in range(B):
            for k in range(h.shape[1]):
                h[b, k] = ZERO
        add_product(norm, hidden[layer], h)
        for b in range(B):
            _activate(h[b], activation, activated[b])
        add_product(activated, last[layer], x)
    rms_norm(x, epsilon, norm)
    for b in range(B):
        for k in range(x.shape[1]):
            x[b, k] = norm[b, k]


@kernel("i8(i8[:, ::1], i8[::1], i8, b1[::1])")
def claim(views: Array, filled: Array, size: int, refused: Array) -> int:
    """The number of streams that must move to another row: theirs is full, or another stream has appended to it.

    The others reserve their next slot in filled (P,), the number of slots in use in each row.
    """
    count = 0
    for b in range(len(views)):
        row, end = views[b, ROW], views[b, END]
        refused[b] = end >= size or filled[row] != end
        if refused[b]:
            count += 1
        else:
            filled[row] += 1
    return count
