"""Beam search for the most probable continuations.

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

MAX_BEAMS = 4096
"""Each beam has a state of its own, so a larger number is probably a typing error."""


@dataclass(frozen=True)
class BeamSettings:
    """What to search for: the `texts` best texts of `length` characters, or up to a stop string."""

    length: int
    beams: int
    texts: int
    length_penalty: float = 0.0
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Node:
    """A token in the tree of a search, whose root, number 0, is the prompt."""

    number: int
    parent: int
    token: int
    log_prob: float  # ln P of all tokens from the root to here
    greedy: bool  # whether each token from the root to here is the most probable at its place


@dataclass(frozen=True)
class Hypothesis:
    """A continuation that a search returns."""

    text: str
    log_prob: float  # ln P of its tokens, given the prompt
    score: float  # what it is ranked by
    finish_reason: str = "length"
    tokens: int = 0  # how many
    node: int = 0  # the number of its last node


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
    """The best continuations, best first, no two with the same text; at most `hypotheses` (default: `beams`).

    Without a prompt (None) the text starts at the beginning of a line, see `opening`. Only `AllowedIds` are tried. At
    every step the `beams` most probable extensions are kept. One with `length` characters or a stop string, which is
    not part of its text, is finished; its log_prob includes all its tokens. The score is log_prob / ((5 + n) /
    6)**length_penalty, where n is the number of characters, so that it does not depend on the tokenizer (Wu et al.
    2016, equation 14). The search ends when no unfinished extension can enter the list. One beam is greedy decoding.
    Raises UsageError for settings out of range, TrainingFault for probabilities that are not numbers.
    """
    texts = beams if hypotheses is None else hypotheses
    if not 1 <= texts <= beams <= MAX_BEAMS:
        raise UsageError(
            f"must be 1 to {MAX_BEAMS}, and no fewer than the {texts} texts asked for, not {beams}", "beams"
        )
    if not 0 <= length_penalty < np.inf:
        raise UsageError(f"must be at least 0, not {length_penalty}", "length_penalty")
    engine, settings = as_engine(model), BeamSettings(length, beams, texts, length_penalty, stop)
    if Continuation(StreamDecoder(tokenizer), length, stop).finish_reason:
        return [Hypothesis("", 0.0, 0.0)]
    steps = search(engine, tokenizer, AllowedIds(engine.model, tokenizer), *read(engine, tokenizer, prompt), settings)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            results: list[Hypothesis] = done.value
            return results


def search(
    engine: Engine,
    tokenizer: Tokenizer,
    allowed: AllowedIds,
    log_probs: LogProbs,
    state: EngineState,
    settings: BeamSettings,
) -> Generator[list[Node], None, list[Hypothesis]]:
    """`beam_search` from a state, given ln P of the next id, (1, V); yields each step's nodes, returns the texts."""
    start = Continuation(StreamDecoder(tokenizer), settings.length, settings.stop)
    if start.finish_reason:
        return [Hypothesis("", 0.0, 0.0)]
    branches, totals, finished = [_Branch("", start, Node(0, 0, 0, 0.0, True))], np.zeros(1), dict[str, Hypothesis]()
    prefixes, numbers, depth = np.zeros(1, np.int64), count(1), 0
    while not _is_finished(finished, totals, settings):
        masked = allowed.masked(log_probs, prefixes)
        with np.errstate(invalid="ignore"):  # `_best` looks for what is not a number
            extended = totals[:, None] + masked.astype(np.float64)
        parents, tokens, totals = _best(extended, settings.beams)
        prefixes, depth, likeliest = allowed.after(prefixes[parents], tokens), depth + 1, masked.argmax(1)
        branches = [
            branches[parent].grown(next(numbers), token, total, token == likeliest[parent])
            for parent, token, total in zip(parents.tolist(), tokens.tolist(), totals.tolist(), strict=True)
        ]
        for branch in branches:
            if reason := branch.continuation.finish_reason:
                total, text = branch.node.log_prob, branch.text
                score = _score(total, len(text), settings.length_penalty)
                if text not in finished or finished[text].score < score:
                    finished[text] = Hypothesis(text, total, score, reason, depth, branch.node.number)
        yield [branch.node for branch in branches]
        going = np.array([not branch.continuation.finish_reason for branch in branches])
        branches = [branch for branch in branches if not branch.continuation.finish_reason]
        totals, prefixes = totals[going], prefixes[going]
        if branches:
            log_probs, state = engine.step(tokens[going], engine.select(state, parents[going]))
    return sorted(finished.values(), key=lambda hypothesis: -hypothesis.score)[: settings.texts]


@dataclass(frozen=True)
class _Branch:
    """An unfinished text: its certain characters, the decoder of the next ones, and its node in the tree."""

    text: str
    continuation: Continuation
    node: Node

    def grown(self, number: int, token: int, log_prob: float, likeliest: bool) -> "_Branch":
        continuation, greedy = self.continuation.fork(), self.node.greedy and bool(likeliest)
        node = Node(number, self.node.number, token, log_prob, greedy)
        return _Branch(self.text + continuation.push(token), continuation, node)


def _score(log_prob: float, characters: int, penalty: float) -> float:
    return float(log_prob / ((5 + characters) / 6) ** penalty)


def _is_finished(finished: dict[str, Hypothesis], totals: Floats, settings: BeamSettings) -> bool:
    """Whether no branch can enter the list: ln P only decreases, and the length penalty helps most at full length."""
    if not len(totals):
        return True
    scores = sorted((hypothesis.score for hypothesis in finished.values()), reverse=True)
    best = _score(totals.max(), settings.length, settings.length_penalty)
    return len(scores) >= settings.texts and best <= scores[settings.texts - 1]


def _best(candidates: Floats, beams: int) -> tuple[Indices, Indices, Floats]:
    """Rows, ids and values of the `beams` largest of (B, V), largest first, the first of equal ones first; no -inf."""
    flat = candidates.ravel()
    if np.isnan(flat).any():
        raise broken()
    threshold = np.partition(flat, -beams)[-beams] if beams < len(flat) else -np.inf
    best = np.flatnonzero((flat >= threshold) & (flat > -np.inf))
    best = best[np.argsort(-flat[best], kind="stable")][:beams]
    parents, tokens = np.divmod(best, candidates.shape[1])
    return parents, tokens, flat[best]
