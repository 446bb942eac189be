"""The tasks of a completion: read a prompt, echo it if that is asked for, and start streams that continue it.

Shapes: N tokens of a prompt, T tokens read at a time, V vocabulary.
"""

from collections.abc import Generator, Sequence

import numpy as np
import torch

from charlm.analysis.surprisal import places
from charlm.config import BOUNDARY
from charlm.decoding.beam import BeamSettings
from charlm.inference import EngineState, LogProbs, reading
from charlm.models.base import device_of
from charlm.server.errors import ApiError
from charlm.server.library import BOUNDARY_NAME, ServedModel
from charlm.server.limits import Limits
from charlm.server.openai import Choice, Completion, Prompt, ScoredToken, Usage
from charlm.server.scheduler import Job, Steps, Task
from charlm.server.search import search
from charlm.server.streams import LENGTH, Stream, scored

CHUNK_TOKENS = 256
"""Tokens of a prompt that are read at a time; a constant, so that the last bits do not depend on the other requests."""
SCORED_CHUNK_TOKENS = 128
"""The same where each token's log-probabilities are listed."""

PromptSteps = Generator[None, None, tuple[LogProbs, EngineState]]


def completion_tasks(model: ServedModel, asked: Completion, job: Job, usage: Usage, limits: Limits) -> list[Task]:
    """A task for each prompt of a completion; tokens are counted in `usage`. Raises ApiError for prompts too long."""
    encoded = [_ids(model, prompt, limits) for prompt in asked.prompts]
    tokens = sum(map(len, encoded))
    listed = (asked.log_probs or 0) + 1
    if asked.echo and asked.log_probs is not None and tokens * listed > limits.listed_log_probs:
        raise ApiError(
            f"echo of {tokens} tokens with {listed - 1} alternatives each is more than {limits.listed_log_probs}; "
            "ask for fewer at a time",
            param="logprobs",
        )
    usage.prompt_tokens = tokens
    return [_task(model, asked, job, usage, number, ids) for number, ids in enumerate(encoded)]


def _ids(model: ServedModel, prompt: Prompt, limits: Limits) -> list[int]:
    ids = model.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if len(ids) > limits.prompt_tokens:
        raise ApiError(
            f"a prompt of {len(ids)} tokens is longer than {limits.prompt_tokens}",
            param="prompt",
            code="context_length_exceeded",
        )
    if max(ids, default=0) >= model.engine.vocab_size:
        raise ApiError(f"prompt holds an id that is not below {model.engine.vocab_size}", param="prompt")
    if BOUNDARY in ids[1:]:
        raise ApiError(f"only the first id of a prompt can be {BOUNDARY}, the boundary", param="prompt")
    return ids


def _task(model: ServedModel, asked: Completion, job: Job, usage: Usage, number: int, ids: list[int]) -> Task:
    choices = range(number * asked.n, (number + 1) * asked.n)
    if asked.beams:
        return Task(asked.beams, lambda: complete_by_beams(model, asked, job, usage, choices, ids))
    return Task(asked.n, lambda: complete(model, asked, job, usage, choices, ids))


def complete(
    model: ServedModel, asked: Completion, job: Job, usage: Usage, choices: Sequence[int], ids: list[int]
) -> Steps:
    """Read a prompt, send its echo to each choice if that is asked for, and return the streams that continue it."""
    engine, text = model.engine, model.decode(ids)
    echoed = list[ScoredToken]()
    log_probs: LogProbs | None = None
    if asked.echo and asked.log_probs is not None:
        echoed, log_probs = yield from score_prompt(model, ids, asked.log_probs)
    if asked.echo or not asked.max_tokens:
        reason = None if asked.max_tokens else LENGTH
        for index in choices:
            job.send(Choice(index, text if asked.echo else "", list(echoed), reason))
    if not asked.max_tokens:
        return None
    state: EngineState = None
    if log_probs is None or asked.max_tokens > 1:
        log_probs, state = yield from read_prompt(model, ids)
    else:
        state = engine.start(1)  # one token is drawn, and none read
    last = ids[-1] if ids else BOUNDARY
    first = model.allowed.without_floor(log_probs, last)
    streams = [Stream(model, asked, job, usage, index, sample, len(text)) for sample, index in enumerate(choices)]
    return streams, first.repeat(len(streams), 0), engine.select(state, [0] * len(streams))


def complete_by_beams(
    model: ServedModel, asked: Completion, job: Job, usage: Usage, choices: Sequence[int], ids: list[int]
) -> Steps:
    """Read a prompt, and send the best texts of a beam search as choices, best first."""
    log_probs, state = yield from read_prompt(model, ids)
    settings = BeamSettings(asked.max_tokens, asked.beams or 1, asked.n, asked.length_penalty, asked.stop)
    hypotheses = yield from search(model, log_probs, state, settings)
    echoed = model.decode(ids) if asked.echo else ""
    for index, hypothesis in zip(choices, hypotheses, strict=False):
        usage.completion_tokens += hypothesis.tokens
        job.send(Choice(index, echoed + hypothesis.text, [], hypothesis.finish_reason))
    return None


def with_boundary(ids: Sequence[int]) -> list[int]:
    """The ids of a prompt with the boundary before them, once."""
    return list(ids) if ids and ids[0] == BOUNDARY else [BOUNDARY, *ids]


def read_prompt(model: ServedModel, ids: Sequence[int]) -> PromptSteps:
    """Read the boundary and a prompt; returns the log-probabilities of the next token (1, V) and the state."""
    engine, stream = model.engine, np.array(with_boundary(ids), np.int64)
    state = engine.start(1)
    for begin in range(0, len(stream), CHUNK_TOKENS):
        log_probs, state = engine.read(stream[begin : begin + CHUNK_TOKENS], state)
        yield
    return log_probs, state


def score_prompt(
    model: ServedModel, ids: Sequence[int], listed: int
) -> Generator[None, None, tuple[list[ScoredToken], LogProbs]]:
    """Every token of a prompt as the answer lists it, and the log-probabilities of the next token (1, V).

    This calls the model itself, because an engine returns log-probabilities after the last token only.
    """
    stream = torch.from_numpy(np.array(with_boundary(ids), np.int64)).to(device_of(model.run.model)).unsqueeze(0)
    state, offsets = model.run.model.initial_state(1), _offsets(model, ids)
    has_boundary = len(ids) + 1 - stream.shape[1]  # 1 if the prompt has the boundary, which is never predicted
    tokens = [ScoredToken(BOUNDARY, None, (), 0)] * has_boundary
    for begin in range(0, stream.shape[1], SCORED_CHUNK_TOKENS):
        with reading(model.run.model):
            chunk, state = model.run.model(stream[:, begin : begin + SCORED_CHUNK_TOKENS], state)
        log_probs = chunk[0].cpu().numpy()  # (T, V)
        targets = stream[0, begin + 1 : begin + SCORED_CHUNK_TOKENS + 1].tolist()
        for row, token in zip(log_probs, targets, strict=False):
            tokens.append(scored(token, row, listed, offsets[len(tokens)]))
        yield
    return tokens, log_probs[-1:]


def _offsets(model: ServedModel, ids: Sequence[int]) -> list[int]:
    """The number of characters of the prompt before the one in which each token begins; (N,)."""
    if not ids:
        return []
    first, _ = places(model.tokenizer, np.array(ids, np.int64))
    name = len(BOUNDARY_NAME) if ids[0] == BOUNDARY else 0
    offsets: list[int] = (np.maximum(first, 0) + name).tolist()
    return [0, *offsets[1:]] if name else offsets
