"""The output layer of a network: features to log-probabilities.

Shapes: B streams, D features, V vocabulary, K ids with trained logits.
"""

import math

import numpy as np

from charlm.inference.kernels.arithmetic import ONE, Array, add_product, exp_sum, fill_rows, kernel, log, maximum


@kernel("void(i8[::1], f4[:, ::1], f4[:, ::1], f4[::1], i8[::1], f4[::1], f4[::1], f4[:, ::1])")
def log_softmax(
    tokens: Array, x: Array, matrix: Array, offset: Array, ids: Array, bias: Array, floor: Array, y: Array
) -> None:
    """y (B, V): ln((1 - floor) softmax(logits) + floor / V), with floor (V,) taken at the last ids, tokens (B,).

    The logits of the ids (K,) are x (B, D) matrix^T (K, D) + offset (K,); those of the other ids are the bias (V,).
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
        scale, uniform = (ONE - share) / exp_sum(p, maximum(p)), share / np.float32(V)
        for v in range(V):
            p[v] = p[v] * scale + uniform
        if math.isnan(scale):  # `log` would hide it
            for v in range(V):
                p[v] = scale
        else:
            log(p)
