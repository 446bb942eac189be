"""What the page shows of each contender, worked out from its run."""

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

MOST_READ = 500_000  # characters of the held-out text that passages, kinds and curves are looked for in
EXCERPT = 700  # characters shown with all that was expected instead of them
BEFORE_EXCERPT = 2_000  # characters read first, so that no model begins cold
SAMPLE = 400  # characters that each writes
LINE = 32  # characters whose attention is shown
ACTIVATION_CHARACTERS = 4_000  # from the beginning of the text: what correlations of units are worked out from
OLD_SMOOTHING = 0.98  # of the running mean in metrics that have no `loss`
CONTEXT_TOKENS = 1 << 16  # read for each point of the context curve
REACH = 64  # tokens that gradients are followed back
FEW = 64  # positions that tell enough of a network that has learned nothing


@dataclass(frozen=True)
class Measured:
    """A point of a learning curve; bits per character, `validation` None where none was made.

    `training` is the mean loss over the steps since the last point.
    """

    characters: float
    seconds: float
    training: float
    validation: float | None


@dataclass(frozen=True)
class Learned:
    """How one contender learned and what came of it: all that figures of quality need."""

    name: str
    row: Row
    curve: tuple[Measured, ...]


@dataclass(frozen=True)
class Finding(Learned):
    """All there is to show of one contender; None for what it does not have.

    `card` is what its run says of itself. `made`: of a mixture, what it is made of and how. `beginnings`: the gradients
    before training, by name; those of an rnn with the other activation too.
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
    """What the page shows: of each contender from best to worst, and of the texts.

    `read` is what passages, kinds and curves are taken from, the held-out text or its beginning; `span` is where the
    excerpt lies in it, in characters. `yardstick` is the longest stretch of held-out text, as long as a sample, that
    stands in the training text. `machine` and `date` (ISO) are those of the page.
    """

    result: Comparison
    contenders: tuple[Finding, ...]
    read: Text
    span: tuple[int, int]
    yardstick: Quote
    machine: Mapping[str, Any]
    date: str


def find(result: Comparison, *, seed: int = 0, progress: Callable[[str], Listener] = lambda _: silent) -> Findings:
    """Everything that the page shows of a comparison, from the runs of its rows; `progress` gives each row's listener.

    Raises CheckpointError for runs that have gone or changed since, and whatever evaluation raises.
    """
    held_out = result.split.held_out
    text = held_out.slice(0, MOST_READ)
    span = _excerpt(text)
    found = tuple(
        _finding(name, row, result, text, span, seed, progress(name))
        for name, row in zip(result.names, result.rows, strict=True)
        if not row.frozen  # of the same run as another row, which is here already
    )
    yardstick = longest_quote(text.slice(*span).read()[:SAMPLE], result.split.training)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return Findings(result, found, text, span, yardstick, machine(torch.device("cpu")), today)


def _excerpt(text: Text) -> tuple[int, int]:
    """Where the excerpt lies: whole lines, after what is read first, if there are lines."""
    begin = min(BEFORE_EXCERPT, max(0, text.characters - EXCERPT))
    stretch = text.slice(begin, begin + EXCERPT).read()
    first = stretch.find("\n") + 1
    skipped = first + len(stretch[first:]) - len(stretch[first:].lstrip())
    last = stretch.rfind("\n") + 1
    if skipped > EXCERPT // 2 or last < EXCERPT // 2:  # hardly any lines
        return begin, begin + len(stretch)
    return begin + skipped, begin + last


def _finding(
    name: str, row: Row, result: Comparison, text: Text, span: tuple[int, int], seed: int, progress: Listener
) -> Finding:
    run = checkpoint.load(row.run)
    model, tokenizer = run.model, run.tokenizer
    reading = read(model, tokenizer, text, progress=progress)
    generator = torch.Generator().manual_seed(seed)
    drawn = sample(model, tokenizer, None, length=SAMPLE, settings=SAMPLING, generator=generator)[0]
    line = text.slice(*span).read()[:LINE]
    gradients = attention = embedding = units = None
    with suppress(UsageError, TrainingFault):  # an n-gram has no gradients, and some explode
        gradients = gradients_through_time(model, tokenizer, text, reach=REACH)
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
    made = {name: untrained(model)}
    if isinstance(model, RNN):
        (other,) = {"tanh", "relu"} - {model.config.activation}
        made[f"{name} with {other}"] = untrained(model, activation=other)
    found = {}
    for named, one in made.items():
        with suppress(TrainingFault):  # one that explodes costs the others nothing
            found[named] = gradients_through_time(one, tokenizer, text, reach=REACH, positions=FEW)
    return found


def learning_curve(row: Row) -> tuple[Measured, ...]:
    """The learning curve of a row's run."""
    return tuple(_curve(checkpoint.read_metrics(row.run)))


def _curve(metrics: list[dict[str, Any]]) -> list[Measured]:
    """The learning curve in what was measured; lines that are none are passed by."""
    found, before = list[Measured](), (0, 0.0)
    for entry in metrics:
        with suppress(KeyError, TypeError, ValueError):
            step, mean, seconds, validation = (entry[key] for key in ("step", "training", "seconds", "validation"))
            loss = entry.get("loss") if "loss" in entry else _without_lag(mean, step - before[0], before)
            before = (step, mean)
            found.append(
                Measured(
                    characters=float(entry["characters_per_second"]) * seconds,
                    seconds=float(seconds),
                    training=float(mean if loss is None else loss),
                    validation=None if validation is None else float(validation),
                )
            )
    return found


def _without_lag(mean: float, steps: int, before: tuple[int, float]) -> float:
    """The mean loss of the last few steps, from the exponential running mean after them and the one before them."""
    if not before[0] or steps < 1:
        return mean
    kept = OLD_SMOOTHING**steps
    return (mean - kept * before[1]) / (1 - kept)
