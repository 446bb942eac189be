"""Products and functions that all kernels share.

Shapes: B streams, D inputs, H outputs.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from charlm.jit import OPTIONS, F, inner, njit

Array = np.ndarray[Any, np.dtype[Any]]
Kernel = Callable[..., Any]
"""A function that numba compiles."""

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
LN_2 = np.float32(math.log(2))
LOG2_E = np.float32(1 / math.log(2))
MIN_EXPONENT = np.float32(-127)  # of a float32; its bits are those of 0
EXP2_SERIES = tuple(np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 7))  # of 2^x
LOG_SERIES = tuple(np.float32(2 / k) for k in (1, 3, 5, 7, 9))  # of ln((1 + x) / (1 - x)), odd powers
SQRT_HALF_BITS = np.float32(math.sqrt(0.5)).view(np.int32)


def inlined(function: F) -> F:
    """A function that a single kernel calls, inlined by numba, which compiles faster than a call."""
    return cast(F, njit(inline="always", **OPTIONS)(function))


def kernel(signature: str) -> Callable[[Kernel], Kernel]:
    """A function that Python calls; `load` compiles it.

    Kernels never assign an array to a slice: numba would spend five seconds on compiling the message of an error.
    """

    def wrap(function: Kernel) -> Kernel:
        dispatcher: Any = njit(cache=True, **OPTIONS)(function)
        dispatcher.signature = signature
        return cast(Kernel, dispatcher)

    return wrap


def load(function: Kernel) -> Kernel:
    """The kernel, compiled or loaded from numba's cache. Raises RuntimeError or OSError if nothing can be cached."""
    dispatcher: Any = function
    dispatcher.compile(dispatcher.signature)
    return function


@inner
def exp_sum(x: Array, largest: np.float32) -> np.float32:
    """Replace x by exp(x - largest), where no x is above `largest`; returns the sum.

    exp is computed as 2^(n + f) with f in [-1/2, 1/2]: 2^f by its series, and n is added to the bits of the exponent,
    because vector instructions have no exponential. Their conversion to integers rounds towards zero.
    """
    c1, c2, c3, c4, c5, c6 = EXP2_SERIES
    bits, total = x.view(np.int32), ZERO
    for i in range(len(x)):
        power = max((x[i] - largest) * LOG2_E, MIN_EXPONENT)
        n = np.int32(power - HALF)
        f = power - np.float32(n)
        x[i] = ONE + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))
        bits[i] += n << np.int32(23)
        total += x[i]
    return total


@inner
def maximum(x: Array) -> np.float32:
    """The largest of x."""
    largest = -np.float32(np.inf)
    for i in range(len(x)):
        largest = max(largest, x[i])
    return largest


@inner
def log(x: Array) -> None:
    """Replace x, finite and above 0, by ln(x) = n ln 2 + ln(m), with m near 1 by a series."""
    c1, c3, c5, c7, c9 = LOG_SERIES
    bits = x.view(np.int32)
    for i in range(len(x)):
        n = np.int32(np.int32(bits[i] - SQRT_HALF_BITS) >> np.int32(23))
        bits[i] -= n << np.int32(23)
        y = (x[i] - ONE) / (x[i] + ONE)
        z = y * y
        x[i] = np.float32(n) * LN_2 + y * (c1 + z * (c3 + z * (c5 + z * (c7 + z * c9))))


@inner
def tanh(x: Array) -> None:
    """Replace x by tanh(x), to within 2e-7."""
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = -TWO * abs(x[i])
    exp_sum(y, ZERO)
    for i in range(len(x)):
        x[i] = math.copysign((ONE - y[i]) / (ONE + y[i]), x[i])


@inner
def fill_rows(x: Array, y: Array) -> None:
    """Set every row of y (B, H) to x (H,)."""
    for b in range(len(y)):
        for i in range(len(x)):
            y[b, i] = x[i]


@inner
def dot(x: Array, y: Array) -> np.float32:
    """The dot product."""
    total = ZERO
    for k in range(len(x)):
        total += x[k] * y[k]
    return total


@inner
def add_product(x: Array, matrix: Array, y: Array) -> None:
    """y (B, H) += x (B, D) matrix^T, the matrix (H, D).

    Blocks of two rows by four columns are summed together: their sums fit into registers, and six loads serve eight
    products. An odd last row is paired with itself, so the order of summation of a row does not depend on the others.
    """
    (B, H), D = y.shape, x.shape[1]
    fours = H // 4 * 4
    for j in range(0, fours, 4):
        for b in range(0, B, 2):
            c = min(b + 1, B - 1)
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
            for k in range(D):
                s, t = x[b, k], x[c, k]
                m0, m1, m2, m3 = matrix[j, k], matrix[j + 1, k], matrix[j + 2, k], matrix[j + 3, k]
                s0, s1, s2, s3 = s0 + s * m0, s1 + s * m1, s2 + s * m2, s3 + s * m3
                t0, t1, t2, t3 = t0 + t * m0, t1 + t * m1, t2 + t * m2, t3 + t * m3
            for i, s in enumerate((s0, s1, s2, s3)):
                y[b, j + i] += s
            if c > b:
                for i, t in enumerate((t0, t1, t2, t3)):
                    y[c, j + i] += t
    for i in range(fours, H):
        for b in range(B):
            y[b, i] += dot(x[b], matrix[i])


@inner
def rms_norm(x: Array, epsilon: float, y: Array) -> None:
    """y (B, D): each row of x divided by the root of its mean square (Zhang & Sennrich 2019)."""
    for b in range(len(x)):
        factor = np.float32(1 / math.sqrt(dot(x[b], x[b]) / x.shape[1] + epsilon))
        for i in range(x.shape[1]):
            y[b, i] = factor * x[b, i]
