"""Beam search step by step, for answers and to be watched: `charlm.decoding.beam_search`, in pieces.

Shapes: B hypotheses in the beam, V vocabulary.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from charlm.decoding.beam import _best, _score, _settled
from charlm.decoding.continuation import Continuation
from charlm.inference import EngineState, LogProbs
from charlm.server.library import ServedModel
from charlm.server.streams import has_ended
from charlm.tokenizers.base import StreamDecoder


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
    """A text that is done, and the node that it ends at."""

    text: str
    log_prob: float
    score: float
    stopped: bool  # by a stop string, not by its length
    tokens: int
    node: int


@dataclass(frozen=True)
class _Branch:
    """A text that goes on."""

    text: str
    continuation: Continuation
    node: Node

    def grown(self, node: Node) -> "_Branch":
        continuation = self.continuation.fork()
        return _Branch(self.text + continuation.push(node.token), continuation, node)


def search(
    model: ServedModel,
    log_probs: LogProbs,
    state: EngineState,
    sought: Sought,
    on_step: Callable[[list[Node]], None] = lambda _: None,
) -> Generator[None, None, list[Hypothesis]]:
    """The best texts found, best first, given what comes next (1, V); yields after each step and tells its nodes."""
    allowed, penalty = model.allowed, sought.length_penalty
    start = Continuation(StreamDecoder(model.tokenizer), sought.length, sought.stop)
    if has_ended(start):
        return [Hypothesis("", 0.0, 0.0, False, 0, 0)]
    alive, totals, found = [_Branch("", start, Node(0, 0, 0, 0.0, True))], np.zeros(1), dict[str, Hypothesis]()
    prefixes, numbers, steps = np.zeros(1, np.int64), count(1), 0
    while not _settled(found, sought.wanted, totals, sought.length, penalty):  # type: ignore[arg-type]
        masked = allowed.masked(log_probs, prefixes)
        parents, tokens, totals = _best(totals[:, None] + masked.astype(np.float64), sought.beams)
        prefixes, steps = allowed.after(prefixes[parents], tokens), steps + 1
        likeliest = masked.argmax(1)
        alive = [
            alive[parent].grown(_node(next(numbers), alive[parent].node, token, total, token == likeliest[parent]))
            for parent, token, total in zip(parents.tolist(), tokens.tolist(), totals.tolist(), strict=True)
        ]
        on_step([branch.node for branch in alive])
        for branch in alive:
            if has_ended(branch.continuation):
                text, total = branch.text, branch.node.log_prob
                score, stopped = _score(total, len(text), penalty), len(text) < sought.length
                if text not in found or found[text].score < score:
                    found[text] = Hypothesis(text, total, score, stopped, steps, branch.node.number)
        going = np.array([not has_ended(branch.continuation) for branch in alive])
        alive = [branch for branch in alive if not has_ended(branch.continuation)]
        totals, prefixes = totals[going], prefixes[going]
        if alive:
            state = model.engine.select(state, parents[going])
            log_probs, state = model.engine.step(tokens[going], state)
        yield
    return sorted(found.values(), key=lambda hypothesis: -hypothesis.score)[: sought.wanted]


def _node(number: int, parent: Node, token: int, log_prob: float, likeliest: bool) -> Node:
    return Node(number, parent.number, token, log_prob, parent.greedy and bool(likeliest))
