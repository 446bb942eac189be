"""Beam search: the likeliest texts, instead of random ones.

Shapes: B hypotheses in the beam, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charlm.decoding.allowed import AllowedIds
from charlm.decoding.continuation import Continuation, Floats, Indices, broken, read
from charlm.errors import UsageError
from charlm.inference import Engine, as_engine
from charlm.models.base import LanguageModel
from charlm.tokenizers.base import StreamDecoder, Tokenizer

MOST_BEAMS = 4096
"""More is a typing error: each beam is a state of its own."""


@dataclass(frozen=True)
class Hypothesis:
    """A continuation, the natural logarithm of its probability given the prompt, and what it was ranked by."""

    text: str
    log_prob: float
    score: float
    finish_reason: str = "length"


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
            f"--beams must be 1 to {MOST_BEAMS}, and no fewer than the {wanted} texts asked for, not {beams}"
        )
    if not 0 <= length_penalty < np.inf:
        raise UsageError(f"--length-penalty must be at least 0, not {length_penalty}")
    start = Continuation(StreamDecoder(tokenizer), length, stop)
    if start.finish_reason:
        return [Hypothesis("", 0.0, 0.0)]
    engine = as_engine(model)
    alive, totals, found = [_Branch("", start)], np.zeros(1), dict[str, Hypothesis]()
    allowed, prefixes = AllowedIds(engine.model, tokenizer), np.zeros(1, np.int64)
    log_probs, state = read(engine, tokenizer, prompt)
    while not _settled(found, wanted, totals, length, length_penalty):
        log_probs = allowed.masked(log_probs, prefixes)
        with np.errstate(invalid="ignore"):  # `_best` looks for what is not a number
            extended = totals[:, None] + log_probs.astype(np.float64)
        parents, tokens, totals = _best(extended, beams)
        prefixes = allowed.after(prefixes[parents], tokens)
        alive = [alive[parent].grown(token) for parent, token in zip(parents, tokens.tolist(), strict=True)]
        for branch, total in zip(alive, totals.tolist(), strict=True):
            if reason := branch.continuation.finish_reason:
                score = _score(total, len(branch.text), length_penalty)
                if branch.text not in found or found[branch.text].score < score:
                    found[branch.text] = Hypothesis(branch.text, total, score, reason)
        going = np.array([not branch.continuation.finish_reason for branch in alive])
        alive = [branch for branch in alive if not branch.continuation.finish_reason]
        totals, prefixes = totals[going], prefixes[going]
        if alive:
            log_probs, state = engine.step(tokens[going], engine.select(state, parents[going]))
    return sorted(found.values(), key=lambda hypothesis: -hypothesis.score)[:wanted]


@dataclass(frozen=True)
class _Branch:
    """A text that goes on: its certain characters, and what waits to become certain."""

    text: str
    continuation: Continuation

    def grown(self, token: int) -> "_Branch":
        continuation = self.continuation.fork()
        return _Branch(self.text + continuation.push(token), continuation)


def _score(log_prob: float, characters: int, penalty: float) -> float:
    return float(log_prob / ((5 + characters) / 6) ** penalty)


def _settled(found: dict[str, Hypothesis], wanted: int, totals: Floats, length: int, penalty: float) -> bool:
    """Whether nothing alive can enter the list: probability only falls, and the penalty is largest at the end."""
    if not len(totals):
        return True
    scores = sorted((hypothesis.score for hypothesis in found.values()), reverse=True)
    return len(scores) >= wanted and _score(totals.max(), length, penalty) <= scores[wanted - 1]


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
