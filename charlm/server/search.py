"""Beam search a step at a time between other work: for answers, and to be watched."""

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
    """The best texts found, best first, given what comes next (1, V); yields after each step and tells its nodes."""
    steps = beam_steps(model.engine, model.tokenizer, model.allowed, log_probs, state, sought)
    while True:
        try:
            on_step(next(steps))
        except StopIteration as done:
            found: list[Hypothesis] = done.value
            return found
        yield
