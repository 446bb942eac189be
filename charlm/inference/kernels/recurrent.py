"""Recurrent layers, one token of each stream; h (and c) are updated in place.

Rows of W, U, b and c that belong to sigmoid gates are halved beforehand, because sigmoid(x) = (1 + tanh(x / 2)) / 2: so
one tanh serves all gates.

Shapes: B streams, H hidden width.
"""

import numpy as np

from charlm.inference.kernels.arithmetic import HALF, ONE, ZERO, Array, add_product, fill_rows, kernel, tanh


@kernel("void(f4[:, ::1], f4[:, ::1], f4[:, ::1])")
def product(x: Array, matrix: Array, y: Array) -> None:
    """y (B, H) += x (B, D) matrix^T, the matrix (H, D)."""
    add_product(x, matrix, y)


@kernel("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1])")
def rnn_tanh(x: Array, U: Array, _c: Array, h: Array) -> None:
    """h' = tanh(x + U h); x (B, H) holds W x + b and is overwritten."""
    add_product(h, U, x)
    for b in range(len(h)):
        tanh(x[b])
        for i in range(h.shape[1]):
            h[b, i] = x[b, i]


@kernel("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1])")
def rnn_relu(x: Array, U: Array, _c: Array, h: Array) -> None:
    """h' = max(0, x + U h); x (B, H) holds W x + b and is overwritten."""
    add_product(h, U, x)
    for b in range(len(h)):
        for i in range(h.shape[1]):
            h[b, i] = max(x[b, i], ZERO)


@kernel("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1])")
def gru(x: Array, U: Array, c: Array, h: Array) -> None:
    """h' = n + z (h - n), n = tanh(x_n + r (U h + c)_n); x (B, 3 H) holds W x + b of r, z, n and is overwritten."""
    H, recurrent = h.shape[1], np.empty_like(x)
    fill_rows(c, recurrent)
    add_product(h, U, recurrent)
    for b in range(len(h)):
        gates, n, u, h_b = x[b, : 2 * H], x[b, 2 * H :], recurrent[b], h[b]
        for i in range(2 * H):
            gates[i] += u[i]
        tanh(gates)
        for i in range(H):
            n[i] += (gates[i] + ONE) * u[2 * H + i] * HALF
        tanh(n)
        for i in range(H):
            h_b[i] = n[i] + (gates[H + i] + ONE) * (h_b[i] - n[i]) * HALF


@kernel("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1], f4[:, ::1])")
def lstm(x: Array, U: Array, _c: Array, h: Array, cells: Array) -> None:
    """cells' = f cells + i g, h' = o tanh(cells'); x (B, 4 H) holds W x + b of i, f, g, o and is overwritten."""
    H = h.shape[1]
    add_product(h, U, x)
    for b in range(len(h)):
        gates, h_b, cell = x[b], h[b], cells[b]
        tanh(gates)
        for i in range(H):
            cell[i] = ((gates[H + i] + ONE) * cell[i] + (gates[i] + ONE) * gates[2 * H + i]) * HALF
            h_b[i] = cell[i]
        tanh(h_b)
        for i in range(H):
            h_b[i] *= (gates[3 * H + i] + ONE) * HALF
