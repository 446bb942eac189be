"""N-grams and mixtures that charlm trained, for Hugging Face Transformers: what `modeling_charlm.py` is for networks.

WHAT `trust_remote_code=True` MEANS: Transformers runs this file and that one, as it would any others, with all that you
may do on your machine. Load them only if you have read them, or trust whoever gave them to you. They open no file, no
connection and no other program; they only compute.

Shapes: B streams, T tokens, V vocabulary, K contexts of an n-gram, or experts of a mixture, A symbols, W window of a
cache, L lengths of its matches.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .modeling_charlm import CharlmForCausalLM, Network

LENGTHS = (16, 11, 8, 6, 5, 4, 3, 2)  # of the matches of a cache, each with a weight
MAX_MATCH, L = LENGTHS[0], len(LENGTHS)
RANKS = tuple(1 + sum(length > run for length in LENGTHS) for run in range(MAX_MATCH + 1))  # of 0, 1, ... equal tokens
MAX_TRUST = 0.999  # of all matches together
MAX_COMPARISONS = 1 << 22  # tokens times window, at a time


def tables(module, **shapes):
    """Register tensors of these shapes and types, which are loaded, and not trained: buffers where they are ids."""
    for name, (dtype, *shape) in shapes.items():
        table = torch.zeros(shape, dtype=dtype)
        if dtype.is_floating_point:
            module.register_parameter(name, nn.Parameter(table, requires_grad=False))
        else:
            module.register_buffer(name, table)


class NGram(nn.Module):
    """P(w | h) = mass(h w) + backoff(h) P(w | h without its first token), from the empty h to the longest counted.

    The n-grams are a trie: node 0 is empty; what extends a node begins at `first`, in the order of their last symbol.
    State: the nodes of the last 1 .. K tokens, -1 where they were not counted, (B, K); and what the cache has read.
    """

    def __init__(self, settings, vocab_size):
        super().__init__()
        self.K, A, M, C = settings["order"] - 1, settings["symbols"], settings["ngrams"], settings["contexts"]
        small = torch.uint8 if A <= 256 else torch.int32
        ids = {"ids": (torch.int64, A), "codes": (torch.int64, vocab_size), "symbol": (small, M)}
        weights = {"mass": (torch.float32, M), "backoff": (torch.float32, C), "unigram": (torch.float32, vocab_size)}
        tables(self, **ids, **weights, first=(torch.int32, C + 1))
        self.cache = Cache(settings["cache"]) if settings["cache"] else None

    def start(self, B):
        nodes = self.ids.new_full((B, self.K), -1)
        return (nodes, nodes.new_zeros(B, 0)) if self.cache else (nodes,)

    def forward(self, tokens, state):
        nodes = self.walk(tokens, state[0])  # (B, T, K)
        counted, (B, T, _) = nodes >= 0, nodes.shape
        backoff = torch.where(counted, self.backoff[nodes.clamp(min=0)], 1.0)
        P = self.unigram.repeat(B * T, 1)  # (B T, V)
        for k in range(self.K):
            P = P * backoff[:, :, k].reshape(-1, 1)
            rows = counted[:, :, k].flatten().nonzero().squeeze(1)
            begin, end = (self.first[nodes[:, :, k].flatten()[rows] + step].long() for step in (0, 1))
            sizes = end - begin
            offsets = (begin - sizes.cumsum(0) + sizes).repeat_interleave(sizes)
            child = torch.arange(len(offsets), device=rows.device) + offsets - 1
            places = rows.repeat_interleave(sizes) * P.shape[1] + self.ids[self.symbol[child].long()]
            P = P.flatten().index_add(0, places, self.mass[child]).view_as(P)
        P = P.view(B, T, -1)
        if self.cache is None:
            return P.log(), (nodes[:, -1],)
        longest = self.backoff[F.pad(nodes, (1, 0)).amax(2)]  # nodes of longer contexts have higher numbers
        P, read = self.cache(P, counted.sum(2), longest, tokens, state[1])
        return P.log(), (nodes[:, -1], read)

    def walk(self, tokens, before):
        """Tokens (B, T) after contexts (B, K) -> (B, T, K)."""
        symbols, shorter, found = self.codes[tokens], torch.zeros_like(tokens), []
        for k in range(self.K):
            found.append(self.child(shorter, symbols))
            shorter = torch.cat([before[:, k : k + 1], found[-1][:, :-1]], 1)
        return torch.stack(found, 2) if found else tokens.new_zeros(*tokens.shape, 0)

    def child(self, nodes, symbols):
        """The node that extends each node by a symbol, -1 if there is none: by bisection."""
        low, end = (self.first[nodes.clamp(min=0) + step].long() for step in (0, 1))
        high, last = end, len(self.symbol) - 1
        for _ in range(len(self.ids).bit_length()):
            middle = (low + high) // 2
            less = (low < high) & (self.symbol[(middle - 1).clamp(max=last)].long() < symbols)
            low, high = torch.where(less, middle + 1, low), torch.where(less, high, middle)
        same = (nodes >= 0) & (low < end) & (self.symbol[(low - 1).clamp(max=last)].long() == symbols)
        return torch.where(same, low, -1)


class Cache(nn.Module):
    """Mixes in what followed where the last 2, 3, ... 16 tokens occurred before, among the last W tokens of the text.

    A small network weighs the matches of each length. State: the last W + 16 tokens, or fewer.
    """

    def __init__(self, window, features=4, hidden=8):
        super().__init__()
        shapes = {"inward": (features, hidden), "left": (hidden,), "length": (L, hidden)}
        shapes |= {"matched": (MAX_MATCH + 1, hidden), "outward": (hidden,), "bias": (L,)}
        tables(self, **{name: (torch.float32, *shape) for name, shape in shapes.items()})
        self.window = window

    def forward(self, P, context_lengths, backoff, tokens, before):
        """P (B, T, V) of a table; the length of its longest context, and that one's back-off weight, (B, T)."""
        B, T = tokens.shape
        stream = torch.cat([before, tokens], 1)
        padding = MAX_MATCH + min(self.window, stream.shape[1]) - before.shape[1]
        padded, parts = F.pad(stream, (max(0, padding), 0), value=-1), []
        W = padded.shape[1] - T - MAX_MATCH
        steps = max(1, MAX_COMPARISONS // (B * W))
        for begin in range(0, T, steps):
            now = slice(begin, begin + steps)
            part = padded[:, begin : MAX_MATCH + W + min(begin + steps, T)]
            parts.append(self.mix(P[:, now], context_lengths[:, now], backoff[:, now], part, W))
        return torch.cat(parts, 1), stream[:, -(MAX_MATCH + self.window) :]

    def mix(self, P, context_lengths, backoff, stream, W):
        """P (B, T, V) with the matches of the last T tokens of the stream, each with the W tokens before it."""
        T, end = P.shape[1], stream.shape[1]
        same, run = True, 0  # (B, T, W): how many tokens equal the last ones, at each place before
        for back in range(MAX_MATCH):
            there = stream[:, MAX_MATCH - back : end - 1 - back].unfold(1, W, 1)
            same = (there == stream[:, end - T - back : end - back, None]) & same
            run = run + same.long()
        rank = torch.tensor(RANKS, device=P.device)[run]  # 1 + the index of the longest length that is reached
        follower = stream[:, MAX_MATCH + 1 :].unfold(1, W, 1).clamp(min=0)
        longest = torch.full(P.shape, L + 1, device=P.device).scatter_reduce(2, follower, rank, "amin")  # of each token
        matches, kinds = (torch.stack([(x <= r).sum(2) for r in range(L + 1)], 2) for x in (rank, longest))
        by_length, rest = self.weigh(torch.stack([matches - kinds, kinds], -1), context_lengths, backoff)
        by_match = (by_length / matches[..., 1:].clamp(min=1)).flip(-1).cumsum(-1).flip(-1)  # it counts for all shorter
        weights = F.pad(by_match, (0, 1)).gather(2, (rank - 1).flatten(2))
        return (P * rest.unsqueeze(-1)).scatter_add(2, follower, weights)

    def weigh(self, counts, context_lengths, backoff):
        """(B, T, 1 + L, 2) -> the weights of the matches of each length (B, T, L), and of the table (B, T)."""
        logs = counts.float().log1p()
        features = torch.cat([logs[:, :, :-1], logs[:, :, 1:]], -1)  # of the next longer length, and of each
        place = self.matched[context_lengths.clamp(max=MAX_MATCH)] + backoff.unsqueeze(-1) * self.left
        hidden = (features @ self.inward + self.length + place.unsqueeze(2)).tanh()
        trust = (1 + (hidden @ self.outward + self.bias).tanh()) * (MAX_TRUST / 2) * (counts[:, :, 1:].sum(-1) > 0)
        rest = (1 - trust).cumprod(-1)
        return trust * rest / (1 - trust), rest[..., -1]


class Linear(nn.Module):
    """P = sum of share_k P_k."""

    def __init__(self, K):
        super().__init__()
        tables(self, shares=(torch.float32, K))

    def forward(self, experts):
        return (self.shares.log_softmax(0).unsqueeze(1) + experts).logsumexp(-2)


class LogLinear(nn.Module):
    """P = product of P_k ^ exponent_k, normalised."""

    def __init__(self, K):
        super().__init__()
        tables(self, exponents=(torch.float32, K))

    def forward(self, experts):
        return product(experts, self.exponents)


class Gate(nn.Module):
    """A small network computes, at each place, the exponents of a product, and the shares of it and each expert."""

    def __init__(self, K, features=5, hidden=16):
        super().__init__()
        shapes = {"centre": (features * K,), "scale": (features * K,), "inward": (features * K, hidden)}
        shapes |= {"hidden": (hidden,), "outward": (hidden, 2 * K + 1), "bias": (2 * K + 1,)}
        tables(self, **{name: (torch.float32, *shape) for name, shape in shapes.items()})

    def forward(self, experts):
        K = experts.shape[-2]
        inputs = (statistics(experts) - self.centre) * self.scale
        outputs = (inputs @ self.inward + self.hidden).tanh() @ self.outward + self.bias
        terms = torch.cat([product(experts, outputs[..., :K]).unsqueeze(-2), experts], -2)
        return (terms + outputs[..., K:].log_softmax(-1).unsqueeze(-1)).logsumexp(-2)


def product(experts, exponents):
    return (experts * exponents.unsqueeze(-1)).sum(-2).log_softmax(-1)


def statistics(experts):
    """(.., K, V) -> (.., 5 K): entropy, variance of the surprisal, largest ln P, divergences from and of the mean."""
    p = experts.exp()
    mean, log_mean = p.mean(-2, keepdim=True), experts.logsumexp(-2, keepdim=True) - math.log(experts.shape[-2])
    entropy = -(p * experts).sum(-1)
    variance = (p * experts**2).sum(-1) - entropy**2
    from_mean, of_mean = -(p * log_mean).sum(-1) - entropy, (mean * (log_mean - experts)).sum(-1)
    return torch.cat([entropy, variance, experts.amax(-1), from_mean, of_mean], -1)


COMBINATIONS = {"linear": Linear, "log-linear": LogLinear, "gate": Gate}


class Mixture(nn.Module):
    """Several models combined. State: those of its members, one after the other."""

    def __init__(self, settings, vocab_size):
        super().__init__()
        members = settings["members"]
        self.members = nn.ModuleList(build(one["network"], one["settings"], vocab_size) for one in members)
        self.combination = COMBINATIONS[settings["combine"]](len(members))

    def start(self, B):
        return tuple(leaf for member in self.members for leaf in member.start(B))

    def forward(self, tokens, state):
        experts, after = [], ()
        for member in self.members:
            size = len(member.start(1))
            log_probs, read = member(tokens, state[:size])
            experts, after, state = [*experts, log_probs], (*after, *read), state[size:]
        return self.combination(torch.stack(experts, -2)), after


def build(name, settings, vocab_size):
    kind = {"ngram": NGram, "mixture": Mixture}.get(name)
    return kind(settings, vocab_size) if kind else Network(name, settings, vocab_size)


class CharlmMixtureForCausalLM(CharlmForCausalLM):
    build = staticmethod(build)
