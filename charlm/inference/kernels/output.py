"""The output layer of a network: features to log-probabilities.

Shapes: B streams, D features, V vocabulary, K ids that training had to tell apart.
"""

import math

import numpy as np

from charlm.inference.kernels.arithmetic import ONE, Array, add_product, exp_sum, fill_rows, kernel, log, maximum


@kernel("void(i8[::1], f4[:, ::1], f4[:, ::1], f4[::1], i8[::1], f4[::1], f4[::1], f4[:, ::1])")
def log_softmax(
    tokens: Array, x: Array, matrix: Array, offset: Array, ids: Array, bias: Array, floor: Array, y: Array
) -> None:
    """y (B, V): ln((1 - floor) softmax(logits) + floor / V), the share floor (V,) of each id last read, tokens (B,).

    The logits of the ids (K,) are those of x (B, D) by a matrix (K, D) and an offset (K,); of the rest, the bias (V,).
    """
    B, V = y.shape
    logits = np.empty((B, len(ids)), np.float32)
    fill_rows(offset, logits)
    fill_rows(bias, y)
    add_product(x, matrix, logits)
    for b in range(B):
        p, share = y[b], floor[tokens[b]]
        for k in range(len(ids)):
            p[ids[k]] = logits[b, k]
        scale, least = (ONE - share) / exp_sum(p, maximum(p)), share / np.float32(V)
        for v in range(V):
            p[v] = p[v] * scale + least
        if math.isnan(scale):  # whoever draws must see it
            for v in range(V):
                p[v] = scale
        else:
            log(p)
