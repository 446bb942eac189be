"""Beam search: the likeliest texts, instead of random ones.

Shapes: B hypotheses in the beam, V vocabulary.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from charlm.decoding.allowed import AllowedIds
from charlm.decoding.continuation import Continuation, Floats, Indices, broken, read
from charlm.errors import UsageError
from charlm.inference import Engine, EngineState, LogProbs, as_engine
from charlm.models.base import LanguageModel
from charlm.tokenizers.base import StreamDecoder, Tokenizer

MOST_BEAMS = 4096
"""More is a typing error: each beam is a state of its own."""


@dataclass(frozen=True)
class Sought:
    """What is searched for: the `wanted` best texts of `length` characters, or up to a stop string."""

    length: int
    beams: int
    wanted: int
    length_penalty: float = 0.0
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Node:
    """A token of the tree that a search grows: number 0 is its root, the prompt."""

    number: int
    parent: int
    token: int
    log_prob: float  # ln P of all tokens from the root to here
    greedy: bool  # whether each token from the root to here is the likeliest in its place


@dataclass(frozen=True)
class Hypothesis:
    """A continuation, the natural logarithm of its probability given the prompt, and what it was ranked by.

    Then why it ended, how many tokens it has, and the number of the node that it ends at.
    """

    text: str
    log_prob: float
    score: float
    finish_reason: str = "length"
    tokens: int = 0
    node: int = 0


def beam_search(
    model: LanguageModel | Engine,
    tokenizer: Tokenizer,
    prompt: str | None,
    *,
    length: int,
    beams: int,
    hypotheses: int | None = None,
    length_penalty: float = 0.0,
    stop: Sequence[str] = (),
) -> list[Hypothesis]:
    """The best continuations found, best first, no two with the same text; at most `hypotheses` (default: `beams`).

    Without a prompt (None) a line begins, see `opening`. Only ids that training showed are tried, see `AllowedIds`.
    At every step the `beams` likeliest extensions go on. One that has `length` characters, or a stop string, which is
    not part of its text, is done; its log_prob is of all its tokens. Ranked by score: log_prob / ((5 + n) /
    6)**length_penalty with n the characters of the text, so that it means the same for every tokenizer (Wu et al.
    2016, equation 14). The search ends when nothing still going on can enter the list. One beam is greedy decoding.
    Raises UsageError for numbers that make no sense, TrainingFault for probabilities that are not numbers.
    """
    wanted = beams if hypotheses is None else hypotheses
    if not 1 <= wanted <= beams <= MOST_BEAMS:
        raise UsageError(
            f"must be 1 to {MOST_BEAMS}, and no fewer than the {wanted} texts asked for, not {beams}", "beams"
        )
    if not 0 <= length_penalty < np.inf:
        raise UsageError(f"must be at least 0, not {length_penalty}", "length_penalty")
    engine, sought = as_engine(model), Sought(length, beams, wanted, length_penalty, stop)
    if Continuation(StreamDecoder(tokenizer), length, stop).finish_reason:
        return [Hypothesis("", 0.0, 0.0)]
    steps = search(engine, tokenizer, AllowedIds(engine.model, tokenizer), *read(engine, tokenizer, prompt), sought)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: list[Hypothesis] = done.value
            return found


def search(
    engine: Engine,
    tokenizer: Tokenizer,
    allowed: AllowedIds,
    log_probs: LogProbs,
    state: EngineState,
    sought: Sought,
) -> Generator[list[Node], None, list[Hypothesis]]:
    """`beam_search` from a state on, given what comes next (1, V): yields the nodes of each step, returns the texts."""
    start = Continuation(StreamDecoder(tokenizer), sought.length, sought.stop)
    if start.finish_reason:
        return [Hypothesis("", 0.0, 0.0)]
    alive, totals, found = [_Branch("", start, Node(0, 0, 0, 0.0, True))], np.zeros(1), dict[str, Hypothesis]()
    prefixes, numbers, depth = np.zeros(1, np.int64), count(1), 0
    while not _settled(found, totals, sought):
        masked = allowed.masked(log_probs, prefixes)
        with np.errstate(invalid="ignore"):  # `_best` looks for what is not a number
            extended = totals[:, None] + masked.astype(np.float64)
        parents, tokens, totals = _best(extended, sought.beams)
        prefixes, depth, likeliest = allowed.after(prefixes[parents], tokens), depth + 1, masked.argmax(1)
        alive = [
            alive[parent].grown(next(numbers), token, total, token == likeliest[parent])
            for parent, token, total in zip(parents.tolist(), tokens.tolist(), totals.tolist(), strict=True)
        ]
        for branch in alive:
            if reason := branch.continuation.finish_reason:
                total, text = branch.node.log_prob, branch.text
                score = _score(total, len(text), sought.length_penalty)
                if text not in found or found[text].score < score:
                    found[text] = Hypothesis(text, total, score, reason, depth, branch.node.number)
        yield [branch.node for branch in alive]
        going = np.array([not branch.continuation.finish_reason for branch in alive])
        alive = [branch for branch in alive if not branch.continuation.finish_reason]
        totals, prefixes = totals[going], prefixes[going]
        if alive:
            log_probs, state = engine.step(tokens[going], engine.select(state, parents[going]))
    return sorted(found.values(), key=lambda hypothesis: -hypothesis.score)[: sought.wanted]


@dataclass(frozen=True)
class _Branch:
    """A text that goes on: its certain characters, what waits to become certain, and where it is in the tree."""

    text: str
    continuation: Continuation
    node: Node

    def grown(self, number: int, token: int, log_prob: float, likeliest: bool) -> "_Branch":
        continuation, greedy = self.continuation.fork(), self.node.greedy and bool(likeliest)
        node = Node(number, self.node.number, token, log_prob, greedy)
        return _Branch(self.text + continuation.push(token), continuation, node)


def _score(log_prob: float, characters: int, penalty: float) -> float:
    return float(log_prob / ((5 + characters) / 6) ** penalty)


def _settled(found: dict[str, Hypothesis], totals: Floats, sought: Sought) -> bool:
    """Whether nothing alive can enter the list: probability only falls, and the penalty is largest at the end."""
    if not len(totals):
        return True
    scores = sorted((hypothesis.score for hypothesis in found.values()), reverse=True)
    best = _score(totals.max(), sought.length, sought.length_penalty)
    return len(scores) >= sought.wanted and best <= scores[sought.wanted - 1]


def _best(candidates: Floats, beams: int) -> tuple[Indices, Indices, Floats]:
    """Row, id and value of the greatest of (B, V) values, greatest first, the earlier of equals first; none of -inf."""
    flat = candidates.ravel()
    if np.isnan(flat).any():
        raise broken()
    least = np.partition(flat, -beams)[-beams] if beams < len(flat) else -np.inf
    chosen = np.flatnonzero((flat >= least) & (flat > -np.inf))
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")][:beams]
    parents, tokens = np.divmod(chosen, candidates.shape[1])
    return parents, tokens, flat[chosen]
