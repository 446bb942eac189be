"""The n-gram table and its cache, one token of each stream, or many of one.

Nodes of the trie are numbered as `charlm.models.ngram.trie` says: 0 is the empty context, the children of node n are
first[n] .. first[n + 1] - 1, by ascending symbol, and what is known of node n as an n-gram stands at n - 1.

Shapes: B streams, N tokens, K contexts, A symbols, V vocabulary, W window of the cache, L lengths, F features,
H hidden units.
"""

import math

import numpy as np

from charlm.inference.kernels.arithmetic import ONE, ZERO, Array, kernel
from charlm.jit import inner

ABOVE_1 = np.int64(-0x101010101010102)
"""A mask for eight bytes: the result is not 0 if one of them is above 1."""


@inner
def _child(first: Array, symbol: Array, node: int, code: int) -> int:
    """The child of a node for a symbol; -1 if there is none."""
    low, high = first[node], first[node + 1]
    while low < high:
        middle = (low + high) >> 1
        if symbol[middle - 1] < code:
            low = middle + 1
        else:
            high = middle
    return low if low < first[node + 1] and symbol[low - 1] == code else -1


@kernel("void(i8[:, ::1], i4[::1], i4[::1], i8[::1], i8[:, ::1])")
def walk(tokens: Array, first: Array, symbol: Array, codes: Array, contexts: Array) -> None:
    """Read tokens (N, B) into contexts (B, K), the nodes of the last 1 .. K tokens or -1; codes (V,) are symbols."""
    B, K = contexts.shape
    for n in range(len(tokens)):
        for b in range(B):
            code = codes[tokens[n, b]]
            for k in range(K - 1, 0, -1):
                node = contexts[b, k - 1]
                contexts[b, k] = _child(first, symbol, node, code) if node >= 0 else -1
            if K:
                contexts[b, 0] = code + 1 if code < first[1] - 1 else -1


@kernel("void(i8[:, ::1], i4[::1], i4[::1], i8[::1], f4[::1], f4[::1], f4[::1], f4[:, ::1])")
def probabilities(
    contexts: Array,
    first: Array,
    symbol: Array,
    ids: Array,
    mass: Array,
    backoff: Array,
    unigram: Array,
    p: Array,
) -> None:
    """p (B, V): P after contexts (B, K): mass of the n-gram plus back-off weight times P after the shorter context."""
    (B, V), K = p.shape, contexts.shape[1]
    for b in range(B):
        row, rest = p[b], ONE
        for v in range(V):
            row[v] = ZERO
        for k in range(K - 1, -1, -1):
            node = contexts[b, k]
            if node >= 0:
                for child in range(first[node], first[node + 1]):
                    row[ids[symbol[child - 1]]] += mass[child - 1] * rest
                rest *= backoff[node]
        for v in range(V):
            row[v] += unigram[v] * rest


@kernel("void(i8[:, ::1], i4[:, ::1], u1[:, ::1], i8)")
def remember(tokens: Array, history: Array, lengths: Array, longest: int) -> None:
    """Read tokens (N, B) into the cache, in place.

    history (B, W + 1): the last tokens, -1 before the first. lengths (B, W): for each of them but the last, how many
    tokens up to it equal the last tokens of the text, at most `longest`.
    """
    for n in range(len(tokens)):
        for b in range(len(history)):
            last, matched, token = history[b], lengths[b], np.int32(tokens[n, b])
            for i in range(len(matched)):
                last[i] = last[i + 1]
                grown = matched[i] + np.uint8(matched[i] < longest)
                matched[i] = np.uint8(grown) if last[i] == token else np.uint8(0)
            last[len(matched)] = token


@inner
def _matches(lengths: Array, places: Array) -> int:
    """Write the indices of lengths (W,) above 1 into places (W,); returns their number. Tests eight at a time."""
    count, eights = 0, len(lengths) // 8
    words = lengths[: 8 * eights].view(np.int64)
    for word in range(eights):
        if words[word] & ABOVE_1:
            for i in range(8 * word, 8 * word + 8):
                if lengths[i] > 1:
                    places[count] = i
                    count += 1
    for i in range(8 * eights, len(lengths)):
        if lengths[i] > 1:
            places[count] = i
            count += 1
    return count


@inner
def _match_weights(
    counts: Array, context_length: int, backoff: float, weights: tuple[Array, ...], max_trust: float, by_length: Array
) -> np.float32:
    """Write the weight of a match of each length into by_length (L,); returns the weight of the table. See `Cache`."""
    inward, of_backoff, of_length, of_context, outward, bias = weights
    L, H = of_length.shape
    rest = 1.0
    for length in range(L):
        matches = counts[length + 1, 0] + counts[length + 1, 1]
        by_length[length] = ZERO
        if not matches:
            continue
        total = bias[length]
        for h in range(H):
            x = of_length[length, h] + of_context[min(context_length, len(of_context) - 1), h] + backoff * of_backoff[h]
            for f in range(4):  # repetitions and kinds, of the next longer length and of this
                x += np.float32(math.log1p(counts[length + f // 2, f % 2])) * inward[f, h]
            total += np.float32(math.tanh(x)) * outward[h]
        trust = (1 + math.tanh(total)) * (max_trust / 2)
        by_length[length] = np.float32(trust * rest / matches)
        rest *= 1 - trust
    for length in range(L - 2, -1, -1):
        by_length[length] += by_length[length + 1]
    return np.float32(rest)


@kernel(
    "void(i8[:, ::1], f4[::1], i4[:, ::1], u1[:, ::1], i8[::1],"
    " Tuple((f4[:, ::1], f4[::1], f4[:, ::1], f4[:, ::1], f4[::1], f4[::1])), f8, f4[:, ::1])"
)
def add_matches(
    contexts: Array,
    backoff: Array,
    history: Array,
    lengths: Array,
    ranks: Array,
    weights: tuple[Array, ...],
    max_trust: float,
    p: Array,
) -> None:
    """Mix the matches of the cache into the probabilities p (B, V) of the table; ranks is `RANK_OF_LENGTH`."""
    (B, V), (W, L) = p.shape, (lengths.shape[1], len(weights[2]))
    places, best = np.empty(W, np.int64), np.zeros(V, np.int64)
    counts, by_length = np.empty((L + 1, 2), np.int64), np.empty(L, np.float32)
    for b in range(B):
        count = _matches(lengths[b], places)
        for rank in range(L + 1):
            counts[rank, 0] = counts[rank, 1] = 0
        for n in range(count):
            rank, follower = ranks[lengths[b, places[n]]], history[b, places[n] + 1]
            if best[follower] == 0 or rank < best[follower]:
                best[follower] = rank
            counts[rank, 0] += 1
        for n in range(count):  # the longest match of each following token counts as a kind, not as a repetition
            follower = history[b, places[n] + 1]
            if best[follower]:
                counts[best[follower], 0] -= 1
                counts[best[follower], 1] += 1
                best[follower] = 0
        for rank in range(1, L + 1):
            counts[rank, 0] += counts[rank - 1, 0]
            counts[rank, 1] += counts[rank - 1, 1]
        context_length, longest = 0, 0
        for k in range(contexts.shape[1]):
            if contexts[b, k] >= 0:
                context_length, longest = context_length + 1, max(longest, contexts[b, k])
        of_table = _match_weights(counts, context_length, backoff[longest], weights, max_trust, by_length)
        for v in range(V):
            p[b, v] *= of_table
        for n in range(count):
            p[b, history[b, places[n] + 1]] += by_length[ranks[lengths[b, places[n]]] - 1]
