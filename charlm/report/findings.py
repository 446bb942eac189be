"""What the page shows of each contender, computed from its run."""

import datetime
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from charlm import checkpoint
from charlm.analysis import (
    Activations,
    AttentionMaps,
    Character,
    ContextPoint,
    EmbeddingMap,
    Gradients,
    Kind,
    Quote,
    Reading,
    activations,
    attention_maps,
    bits_by_kind,
    context_curve,
    embedding_map,
    gradients_through_time,
    lens,
    longest_quote,
    read,
    untrained,
)
from charlm.benchmark import machine
from charlm.comparison import SAMPLING, Comparison, Row, listed
from charlm.corpus import Text
from charlm.decoding import sample
from charlm.errors import TrainingFault, UsageError
from charlm.models import LanguageModel, Mixture
from charlm.models.recurrent import RNN
from charlm.progress import Listener, silent
from charlm.tokenizers import Tokenizer

MAX_READ_CHARACTERS = 500_000  # of the held-out text, from which passages, kinds and curves are computed
EXCERPT_CHARACTERS = 700  # shown with the predictions in the place of each
WARM_UP_CHARACTERS = 2_000  # read before the excerpt, so that every model has context
SAMPLE_CHARACTERS = 400
ATTENTION_CHARACTERS = 32
ACTIVATION_CHARACTERS = 4_000  # at the beginning of the text, over which units are correlated with properties
OLD_SMOOTHING = 0.98  # of the running mean in metrics that have no `loss`
CONTEXT_TOKENS = 1 << 16  # read for each point of the context curve
GRADIENT_REACH = 64  # tokens
UNTRAINED_POSITIONS = 64  # over which the gradients of an untrained network are averaged


@dataclass(frozen=True)
class Measured:
    """A point of a learning curve, in bits per character; `validation` is None where it was not measured.

    `training` is the mean loss over the steps since the last point.
    """

    characters: float
    seconds: float
    training: float
    validation: float | None


@dataclass(frozen=True)
class Learned:
    """The training of one contender and its result: what figures of quality need."""

    name: str
    row: Row
    curve: tuple[Measured, ...]


@dataclass(frozen=True)
class Finding(Learned):
    """What the page shows of one contender; None for what the model does not have.

    `card` is the card of its run. `made` are the members of a mixture and how they are combined. `beginnings` are the
    gradients before training, by name; for an rnn also those with the other activation.
    """

    card: checkpoint.Card
    made: tuple[str, str] | None
    reading: Reading
    kinds: dict[str, Kind]
    context: tuple[ContextPoint, ...]
    excerpt: tuple[Character, ...]
    sample: str
    quote: Quote
    gradients: Gradients | None
    beginnings: Mapping[str, Gradients]
    attention: AttentionMaps | None
    embedding: EmbeddingMap | None
    activations: Activations | None


@dataclass(frozen=True)
class Findings:
    """What the page shows: the contenders from best to worst, and the texts.

    `read` is the held-out text or its beginning, from which passages, kinds and curves are computed; `span` is the
    place of the excerpt in it, in characters. `yardstick` is the longest passage of the training text in a piece of
    held-out text as long as a sample. `machine` and `date` (ISO) are those of the page.
    """

    result: Comparison
    contenders: tuple[Finding, ...]
    read: Text
    span: tuple[int, int]
    yardstick: Quote
    machine: Mapping[str, Any]
    date: str


def find(result: Comparison, *, seed: int = 0, progress: Callable[[str], Listener] = lambda _: silent) -> Findings:
    """Compute everything that the page shows of a comparison; `progress` returns the listener of each row.

    Raises CheckpointError for runs that are missing or have changed since, and the errors of evaluation.
    """
    held_out = result.split.held_out
    text = held_out.slice(0, MAX_READ_CHARACTERS)
    span = _excerpt(text)
    contenders = tuple(
        _finding(name, row, result, text, span, seed, progress(name))
        for name, row in zip(result.names, result.rows, strict=True)
        if not row.frozen  # it has the same run as another row
    )
    yardstick = longest_quote(text.slice(*span).read()[:SAMPLE_CHARACTERS], result.split.training)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return Findings(result, contenders, text, span, yardstick, machine(torch.device("cpu")), today)


def _excerpt(text: Text) -> tuple[int, int]:
    """The place of the excerpt: whole lines after the warm-up, if the text has lines."""
    begin = min(WARM_UP_CHARACTERS, max(0, text.characters - EXCERPT_CHARACTERS))
    stretch = text.slice(begin, begin + EXCERPT_CHARACTERS).read()
    first = stretch.find("\n") + 1
    skipped = first + len(stretch[first:]) - len(stretch[first:].lstrip())
    last = stretch.rfind("\n") + 1
    if skipped > EXCERPT_CHARACTERS // 2 or last < EXCERPT_CHARACTERS // 2:  # hardly any lines
        return begin, begin + len(stretch)
    return begin + skipped, begin + last


def _finding(
    name: str, row: Row, result: Comparison, text: Text, span: tuple[int, int], seed: int, progress: Listener
) -> Finding:
    run = checkpoint.load(row.run)
    model, tokenizer = run.model, run.tokenizer
    reading = read(model, tokenizer, text, progress=progress)
    generator = torch.Generator().manual_seed(seed)
    drawn = sample(model, tokenizer, None, length=SAMPLE_CHARACTERS, settings=SAMPLING, generator=generator)[0]
    line = text.slice(*span).read()[:ATTENTION_CHARACTERS]
    gradients = attention = embedding = units = None
    with suppress(UsageError, TrainingFault):  # an n-gram has no gradients, and those of some networks explode
        gradients = gradients_through_time(model, tokenizer, text, reach=GRADIENT_REACH)
    with suppress(UsageError):  # only a Transformer has attention
        attention = attention_maps(model, tokenizer, line)
    with suppress(UsageError):
        embedding = embedding_map(model, tokenizer)
    with suppress(UsageError):
        units = activations(model, tokenizer, text.slice(0, min(text.characters, max(ACTIVATION_CHARACTERS, span[1]))))
    return Finding(
        name=name,
        row=row,
        card=checkpoint.read_card(row.run),
        made=_made(model),
        curve=learning_curve(row),
        reading=reading,
        kinds=bits_by_kind(text.read(), reading.character_bits),
        context=context_curve(model, tokenizer, reading, tokens=CONTEXT_TOKENS, progress=progress),
        excerpt=tuple(lens(model, tokenizer, text, [span])),
        sample=drawn,
        quote=longest_quote(drawn, result.split.training),
        gradients=gradients,
        beginnings=_beginnings(name, model, tokenizer, text) if gradients else {},
        attention=attention,
        embedding=embedding,
        activations=units,
    )


def _made(model: LanguageModel) -> tuple[str, str] | None:
    if not isinstance(model, Mixture):
        return None
    return listed([member.architecture for member in model.config.members]), model.combination.about


def _beginnings(name: str, model: LanguageModel, tokenizer: Tokenizer, text: Text) -> dict[str, Gradients]:
    models = {name: untrained(model)}
    if isinstance(model, RNN):
        (other,) = {"tanh", "relu"} - {model.config.activation}
        models[f"{name} with {other}"] = untrained(model, activation=other)
    gradients = {}
    for name, network in models.items():
        with suppress(TrainingFault):  # those that explode are left out
            gradients[name] = gradients_through_time(
                network, tokenizer, text, reach=GRADIENT_REACH, positions=UNTRAINED_POSITIONS
            )
    return gradients


def learning_curve(row: Row) -> tuple[Measured, ...]:
    """The learning curve of a row's run."""
    return tuple(_curve(checkpoint.read_metrics(row.run)))


def _curve(metrics: list[dict[str, Any]]) -> list[Measured]:
    """The learning curve of a run's metrics; lines without the figures are skipped."""
    curve, before = list[Measured](), (0, 0.0)
    for entry in metrics:
        with suppress(KeyError, TypeError, ValueError):
            step, mean, seconds, validation = (entry[key] for key in ("step", "training", "seconds", "validation"))
            loss = entry.get("loss") if "loss" in entry else _without_lag(mean, step - before[0], before)
            before = (step, mean)
            curve.append(
                Measured(
                    characters=float(entry["characters_per_second"]) * seconds,
                    seconds=float(seconds),
                    training=float(mean if loss is None else loss),
                    validation=None if validation is None else float(validation),
                )
            )
    return curve


def _without_lag(mean: float, steps: int, before: tuple[int, float]) -> float:
    """The mean loss of the last few steps, from the exponential running means before and after them."""
    if not before[0] or steps < 1:
        return mean
    weight = OLD_SMOOTHING**steps
    return (mean - weight * before[1]) / (1 - weight)
