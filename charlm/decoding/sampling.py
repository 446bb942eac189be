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
from charlm.decoding.allowed import AllowedIds
from charlm.decoding.continuation import NEWLINE, Continuation, Floats, Indices, broken, opening, read, reading
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
    prompt: str | None,
    *,
    length: int,
    settings: Sampling = Sampling(),
    streams: int = 1,
    stop: Sequence[str] = (),
    generator: torch.Generator | None = None,
    on_text: Callable[[int, str], None] | None = None,
    every: int = 1,
) -> list[str]:
    """`streams` continuations of the prompt, each of `length` characters or up to a stop string, without either.

    Without a prompt (None) a line begins, see `opening`; before a line that is drawn, each stream draws some that are
    not part of its text, see `Continuation`. Only ids that training showed are drawn, see `AllowedIds`. The prompt is
    read once. A finished stream leaves the batch. `on_text` is told (stream, whole characters) as they become certain;
    that, and the search for stop strings, come after `every` ids at most, and do not change the texts. The draws come
    from `generator`, which lives on the CPU whatever the model's device (None: a new one with a seed of its own);
    stream b uses the same draws whenever the others end. A token of several characters is cut where the length ends.
    Raises UsageError for a length, stream count or stop string that makes no sense, TrainingFault for probabilities
    that are not numbers.
    """
    if streams < 1:
        raise UsageError(f"--num-samples must be at least 1, not {streams}")
    skips = prompt is None and settings.temperature > 0 and opening(tokenizer) == NEWLINE
    texts = _Texts([Continuation(StreamDecoder(tokenizer), length, stop, skips) for _ in range(streams)], on_text)
    device, longest = device_of(model), int(tokenizer.byte_lengths().max())
    drawing = _Drawing(model, tokenizer, settings, streams, generator)
    alive, last = np.arange(streams if length else 0), None
    with reading(model):
        log_probs, state = read(model, tokenizer, prompt)
        last_read = tokenizer.encode(prompt[-1:])[-1] if prompt else BOUNDARY
        log_probs = drawing.allowed.without_floor(log_probs, int(last_read)).repeat(streams, 0)
        step, state = model.stepper(select(state, torch.zeros(streams, dtype=torch.int64, device=device)))
        while len(alive):
            drawn = []
            for _ in range(texts.steps(alive, longest, every if stop or on_text else length)):
                if last is not None:
                    log_probs, state = step(last, state)
                last = drawing(log_probs, alive, texts.lines_due)
                drawn.append(last)
            going = texts.push(alive, drawn)
            if len(going) < len(alive):
                alive, last = alive[going], drawn[-1][going]
                drawing.keep(going)
                state = select(state, torch.tensor(going, dtype=torch.int64, device=device))
    return texts.joined()


class _Texts:
    """The texts of several streams as they grow."""

    def __init__(self, continuations: Sequence[Continuation], on_text: Callable[[int, str], None] | None) -> None:
        self.continuations, self.on_text = continuations, on_text
        self.parts: list[list[str]] = [[] for _ in continuations]
        self.skipping = any(continuation.skipping for continuation in continuations)
        self.lines_due: list[int] = []  # rows that are to end their line now, whatever is likely

    def push(self, alive: Indices, drawn: list[Indices]) -> list[int]:
        """Add what the streams `alive` have drawn, one array (B,) a step; the rows of those that are not at an end."""
        for stream, tokens in zip(alive.tolist(), np.transpose(drawn).tolist(), strict=True):
            text = self.continuations[stream].push(*tokens)
            if text:
                self.parts[stream].append(text)
                if self.on_text:
                    self.on_text(stream, text)
        going = [row for row, stream in enumerate(alive.tolist()) if not self.continuations[stream].ended]
        if self.skipping:
            left = [self.continuations[alive[row]] for row in going]
            self.skipping = any(continuation.skipping for continuation in left)
            self.lines_due = [row for row, continuation in enumerate(left) if continuation.line_due]
        return going

    def steps(self, alive: Indices, longest: int, every: int) -> int:
        """How many ids may be drawn before one must look whether a text has ended; `longest`: bytes of an id, at most.

        No id brings more characters than it has bytes, but for the up to three of a broken character before it.
        """
        if self.skipping or every == 1:
            return 1
        left: int = min(self.continuations[stream].left for stream in alive.tolist())
        return max(1, min(every, (left - 3) // longest))

    def joined(self) -> list[str]:
        """All that has been pushed, text by text."""
        return ["".join(part) for part in self.parts]


class _Drawing:
    """Draws the next id of each stream of a batch, from those that are allowed there."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        settings: Sampling,
        streams: int,
        generator: torch.Generator | None,
    ) -> None:
        self.allowed, self.settings = AllowedIds(model, tokenizer), settings
        self.uniforms, self.newline = _uniforms(streams, generator), int(tokenizer.encode(NEWLINE)[0])
        self.prefixes = np.zeros(streams, np.int64)  # what has begun of a character

    def __call__(self, log_probs: LogProbs, alive: Indices, lines_due: Sequence[int]) -> Indices:
        """One id for each row of (B, V), whose streams are `alive`; a line feed for the rows in `lines_due`."""
        allowed, prefixes, uniforms = self.allowed, self.prefixes, next(self.uniforms)[alive]
        if not allowed.spells or len(prefixes) == 1 or not prefixes.any():
            tokens = draw(log_probs, self.settings, uniforms, allowed.ids[prefixes[0]])
        else:
            tokens = draw(allowed.masked(log_probs, prefixes), self.settings, uniforms)
        if lines_due:
            tokens[lines_due] = self.newline
        if allowed.spells:
            self.prefixes = allowed.after(prefixes, tokens)
        return tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self.prefixes = self.prefixes[rows]


def draw(log_probs: LogProbs, settings: Sampling, uniforms: Floats, allowed: Indices | None = None) -> Indices:
    """One id for each row of log_probs (B, V); uniforms (B,) in [0, 1) decide which.

    It is one of the ids `allowed` (K,), which ascend; by default any but the boundary. Raises TrainingFault for rows
    that are not numbers.
    """
    if allowed is None:
        return _drawn_columns(log_probs[:, BOUNDARY + 1 :], settings, uniforms) + BOUNDARY + 1
    return allowed.take(_drawn_columns(log_probs.take(allowed, 1), settings, uniforms))


def _drawn_columns(scores: Numbers, settings: Sampling, uniforms: Floats) -> Indices:
    """As `draw`, from all columns of (B, K)."""
    plain = (settings.top_k, settings.top_p, settings.min_p) == (0, 1, 0)
    if plain and settings.temperature and Compiled.kernels:
        tokens: Indices = Compiled.kernels.drawn(scores, 0, uniforms, settings.temperature)
        if tokens.min() < 0:
            raise broken()
        return tokens
    if not plain:
        scores = _filtered(scores, settings)
    if settings.temperature == 0:
        best: Indices = scores.argmax(1)
        if not (scores[np.arange(len(scores)), best] > -np.inf).all():
            raise broken()
        return best
    if plain and settings.temperature != 1:
        scores = _cooled(scores, scores.max(1, keepdims=True), settings.temperature)
    weights = np.exp(scores)
    if len(weights) == 1:
        return np.array([_drawn(weights[0], uniforms.item())])
    sums = torch.from_numpy(weights).cumsum(1, dtype=torch.float64).numpy()  # a fifth of numpy's time
    totals = sums[:, -1]
    if not (totals > 0).all():
        raise broken()
    targets = np.minimum(uniforms * totals, np.nextafter(totals, 0))  # below the total, which rounding may reach
    found: Indices = (sums > targets[:, None]).argmax(1)
    return found


def _drawn(weights: Numbers, uniform: float) -> int:
    """As `_drawn_columns` does it for a single row, which takes a third of the time."""
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
    found = np.full_like(log_probs, -np.inf)
    found[:, BOUNDARY + 1 :] = _filtered(log_probs[:, BOUNDARY + 1 :], settings)
    return found


def _filtered(log_probs: Numbers, settings: Sampling) -> Numbers:
    """As `filter_log_probs`, all columns of (B, K)."""
    order = np.argsort(-log_probs, axis=1, kind="stable")
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
        found: Numbers = np.log(kept)
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
