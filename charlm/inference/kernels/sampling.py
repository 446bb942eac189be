"""Sampling from log-probabilities.

Shapes: B streams, K ids that may be drawn, V vocabulary.
"""

import numpy as np

from charlm.inference.kernels.arithmetic import ZERO, Array, exp_sum, kernel, maximum


@kernel("i8[::1](f4[:, :], i8[::1], f8[::1], f8)")
def draw(log_probs: Array, ids: Array, uniforms: Array, temperature: float) -> Array:
    """Draw one of the ids (K,) for each row of log_probs (B, V) at a temperature, by uniforms (B,) in [0, 1): (B,).

    Rows with NaN give -1.
    """
    tokens, p = np.empty(len(log_probs), np.int64), np.empty(len(ids), np.float32)
    for b in range(len(tokens)):
        tokens[b] = -1
        for k in range(len(ids)):
            p[k] = log_probs[b, ids[k]]
        largest, total, so_far = maximum(p), 0.0, 0.0
        for k in range(len(ids)):
            p[k] = (p[k] - largest) / temperature
        exp_sum(p, ZERO)
        for k in range(len(ids)):
            total += p[k]
        if not total > 0:
            continue
        for k in range(len(ids)):
            if p[k] > ZERO:  # if rounding keeps the sum below the total, the last of these is drawn
                tokens[b] = ids[k]
            so_far += p[k]
            if so_far > uniforms[b] * total:
                break
    return tokens
