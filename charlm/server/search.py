"""Beam search in steps, so that other requests have their turn in between."""

from collections.abc import Callable, Generator

from charlm.decoding.beam import BeamSettings, Hypothesis, Node
from charlm.decoding.beam import search as beam_steps
from charlm.inference import EngineState, LogProbs
from charlm.server.library import ServedModel


def search(
    model: ServedModel,
    log_probs: LogProbs,
    state: EngineState,
    sought: BeamSettings,
    on_step: Callable[[list[Node]], None] = lambda _: None,
) -> Generator[None, None, list[Hypothesis]]:
    """The best texts, best first, given the log-probabilities of the next token (1, V). Yields after each step.

    `on_step` receives the nodes that a step adds to the tree.
    """
    steps = beam_steps(model.engine, model.tokenizer, model.allowed, log_probs, state, sought)
    while True:
        try:
            on_step(next(steps))
        except StopIteration as done:
            hypotheses: list[Hypothesis] = done.value
            return hypotheses
        yield
