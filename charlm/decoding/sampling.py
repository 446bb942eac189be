"""Drawing texts from a model, many at a time.

Shapes: B streams, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from charlm.config import BOUNDARY, Settings, setting
from charlm.decoding.continuation import Continuation, Floats, Indices, broken, read, reading
from charlm.errors import UsageError
from charlm.models.base import LanguageModel, LogProbs, device_of, select
from charlm.models.stepping import Compiled
from charlm.tokenizers.base import StreamDecoder, Tokenizer

Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sampling(Settings):
    """How the next token is drawn. Applied in this order: temperature, then top-k, top-p, min-p."""

    temperature: float = setting(
        1.0, "below 1 keeps to the likely, above 1 dares more; 0 always takes the likeliest", min=0.0
    )
    top_k: int = setting(0, "draw from the k likeliest tokens only; 0: from all", min=0)
    top_p: float = setting(
        1.0, "draw from the fewest tokens that have this much probability together", above=0.0, max=1.0
    )
    min_p: float = setting(0.0, "leave out tokens less likely than this share of the likeliest one", min=0.0, below=1.0)


def sample(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    length: int,
    settings: Sampling = Sampling(),
    streams: int = 1,
    stop: Sequence[str] = (),
    generator: torch.Generator | None = None,
    on_text: Callable[[int, str], None] | None = None,
) -> list[str]:
    """`streams` continuations of the prompt, each of `length` characters or up to a stop string, without either.

    The prompt is read once. A finished stream leaves the batch. `on_text` is told (stream, whole characters) as they
    become certain. The draws come from `generator`, which lives on the CPU whatever the model's device (None: a new
    one with a seed of its own); stream b uses the same draws whenever the others end. A token of several characters
    is cut where the length ends. Raises UsageError for a length, stream count or stop string that makes no sense,
    TrainingFault for probabilities that are not numbers.
    """
    if streams < 1:
        raise UsageError(f"--num-samples must be at least 1, not {streams}")
    continuations = [Continuation(StreamDecoder(tokenizer), length, stop) for _ in range(streams)]
    parts: list[list[str]] = [[] for _ in range(streams)]
    device, uniforms = device_of(model), _uniforms(streams, generator)
    longest = None if stop or on_text else int(tokenizer.byte_lengths().max())
    alive, last = np.arange(streams if length else 0), None
    with reading(model):
        log_probs, state = read(model, tokenizer, prompt)
        step, state = model.stepper(select(state, torch.zeros(streams, dtype=torch.int64, device=device)))
        log_probs = log_probs.repeat(streams, 0)
        while len(alive):
            drawn = []
            for _ in range(_steps(continuations, alive, longest)):
                if last is not None:
                    log_probs, state = step(last, state)
                last = draw(log_probs, settings, next(uniforms)[alive])
                drawn.append(last)
            for stream, tokens in zip(alive.tolist(), np.transpose(drawn).tolist(), strict=True):
                text = continuations[stream].push(*tokens)
                if text:
                    parts[stream].append(text)
                    if on_text:
                        on_text(stream, text)
            going = [row for row, stream in enumerate(alive) if not continuations[stream].ended]
            if len(going) < len(alive):
                alive, last = alive[going], drawn[-1][going]
                state = select(state, torch.tensor(going, dtype=torch.int64, device=device))
    return ["".join(part) for part in parts]


def _steps(continuations: Sequence[Continuation], alive: Indices, longest: int | None) -> int:
    """How many ids may be drawn before one must look whether a text has ended; `longest`: bytes of an id, at most.

    No id brings more characters than it has bytes, but for the up to three of a broken character before it.
    """
    if longest is None:
        return 1
    least: int = min(continuations[stream].left for stream in alive.tolist())
    return max(1, (least - 3) // longest)


def draw(log_probs: LogProbs, settings: Sampling, uniforms: Floats) -> Indices:
    """One id for each row of log_probs (B, V), never the boundary; uniforms (B,) in [0, 1) decide which.

    Raises TrainingFault for rows that are not numbers.
    """
    first = BOUNDARY + 1
    plain = (settings.top_k, settings.top_p, settings.min_p) == (0, 1, 0)
    if plain and settings.temperature and Compiled.kernels:
        tokens: Indices = Compiled.kernels.drawn(log_probs, first, uniforms, settings.temperature)
        if tokens.min() < 0:
            raise broken()
        return tokens
    scores: Numbers = (log_probs if plain else filter_log_probs(log_probs, settings))[:, first:]
    if settings.temperature == 0:
        best: Indices = scores.argmax(1)
        if np.isnan(scores[np.arange(len(scores)), best]).any():
            raise broken()
        return best + first
    if plain and settings.temperature != 1:
        scores = _cooled(scores, scores.max(1, keepdims=True), settings.temperature)
    weights = np.exp(scores)
    if len(weights) == 1:
        return np.array([_drawn(weights[0], uniforms.item())]) + first
    sums = torch.from_numpy(weights).cumsum(1, dtype=torch.float64).numpy()  # a fifth of numpy's time
    totals = sums[:, -1]
    if not (totals > 0).all():
        raise broken()
    targets = np.minimum(uniforms * totals, np.nextafter(totals, 0))  # below the total, which rounding may reach
    tokens = (sums > targets[:, None]).argmax(1)
    return tokens + first


def _drawn(weights: Numbers, uniform: float) -> int:
    """As `draw` does it for a single row, which takes a third of the time."""
    sums = np.add.accumulate(weights, dtype=np.float64)
    total = sums.item(-1)
    if not total > 0:
        raise broken()
    return int(sums.searchsorted(min(uniform * total, math.nextafter(total, 0)), "right"))


def filter_log_probs(log_probs: LogProbs, settings: Sampling) -> LogProbs:
    """(B, V) -> (B, V): the normalised distribution that is drawn from, -inf for the boundary and all that is left out.

    Temperature divides the log-probabilities (0: the likeliest has them all); top-k keeps the k likeliest (Fan et al.
    2018); top-p the fewest whose sum reaches p (Holtzman et al. 2020); min-p those of at least p times the likeliest
    (Nguyen et al. 2024). Of equals the lower id goes first.
    """
    order = np.argsort(-log_probs[:, BOUNDARY + 1 :], axis=1, kind="stable") + BOUNDARY + 1
    ranked: Numbers = np.take_along_axis(log_probs, order, 1)
    if settings.temperature == 0:
        ranked[:, 1:] = -np.inf
    else:
        ranked = _cooled(ranked, ranked[:, :1], settings.temperature)
    if settings.top_k:
        ranked[:, settings.top_k :] = -np.inf
    probabilities = _normalised(np.exp(ranked - ranked[:, :1]))
    dropped = probabilities < settings.min_p * probabilities[:, :1]
    if settings.top_p < 1:
        dropped |= probabilities.cumsum(1) - probabilities >= settings.top_p
    kept = np.zeros_like(log_probs)
    np.put_along_axis(kept, order, _normalised(np.where(dropped, 0, probabilities)), 1)
    with np.errstate(divide="ignore"):
        found: LogProbs = np.log(kept)
    return found


def _cooled(scores: Numbers, best: Numbers, temperature: float) -> Floats:
    """What is left of log-probabilities (B, V), the greatest of each row being `best`, at a temperature."""
    with np.errstate(over="ignore", invalid="ignore"):
        cooled: Floats = (scores - best).astype(np.float64) / temperature
    return cooled


def _normalised(weights: Floats) -> Floats:
    sums: Floats = weights / weights.sum(1, keepdims=True)
    return sums


def _uniforms(streams: int, generator: torch.Generator | None) -> Iterator[Floats]:
    """Rows of one number in [0, 1) a stream, for ever; made many at a time because making one is slow."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    while True:
        yield from torch.rand(max(1, 4096 // streams), streams, dtype=torch.float64, generator=generator).numpy()
