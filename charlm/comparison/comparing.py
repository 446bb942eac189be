"""Have the contenders one after the other, measure them on the same text, put them in order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch

from charlm import checkpoint
from charlm.comparison.provenance import provenance
from charlm.comparison.result import Comparison, Conditions, Row, mean_row
from charlm.comparison.sources import FROZEN, ComparisonObserver, Contender, Source
from charlm.compression import Proof, prove
from charlm.corpus import Split, Text
from charlm.decoding import Sampling, sample
from charlm.errors import TrainingFault
from charlm.evaluation import Difference, Evaluation, baselines, evaluate, record
from charlm.models import LanguageModel, adapted, nearest
from charlm.progress import Listener
from charlm.tokenizers import Tokenizer
from charlm.training import Unsaved

SAMPLE_CHARACTERS = 60
SAMPLING = Sampling(temperature=0.8)


class _Stopped(Exception):  # noqa: N818 - a request, not an error
    """The observer asked for an end while a model was being evaluated."""


def compare(
    sources: Mapping[str, Sequence[Source]],
    split: Split,
    *,
    context: int | None = None,
    adapt: str | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    proving: bool = False,
    observer: ComparisonObserver | None = None,
) -> Comparison:
    """Have each contender in turn, evaluate it on `split.held_out`, and put them in order.

    The several sources of one name differ in their seed and make one row; all names have their first turn before any
    has its second. A model that adapts to what it reads makes two rows: as it is, and frozen as it was trained.
    `context` as in `evaluate`; `adapt` too, as far as each model can; `seed` is that of the samples. With `proving`,
    which goes with no `context`, each stores the text and decodes it, as `charlm.compression.prove` does. One whose
    numbers go wrong is left out and noted in `faults`. When the observer stops it, the contender that is being trained
    is saved and those that are done are still compared. Raises whatever training and evaluation raise besides.
    """
    observer = observer or ComparisonObserver()
    rows_by_name: dict[tuple[str, bool], list[Row]] = {}
    faults: dict[str, str] = {}
    interrupted = None
    for name, source in _turns(sources):
        if observer.should_stop():
            break
        try:
            contender = source(observer)
            if observer.should_stop():
                interrupted = None if contender.finished else contender.path
                break
            contender.model.to(device or "cpu")
            for one in _forms(contender, adapt):
                title = name + (FROZEN if one.frozen else "")
                evaluation = _evaluated(title, one, split.held_out, context, observer)
                proof = _proved(title, one, split.held_out, evaluation, observer) if proving else None
                rows_by_name.setdefault((name, one.frozen), []).append(_row(one, evaluation, proof, seed))
        except (_Stopped, Unsaved):
            break
        except TrainingFault as fault:
            faults[name] = str(fault)
    rows = sorted(map(mean_row, rows_by_name.values()), key=lambda row: row.evaluation.bits_per_character)
    ranked = tuple(replace(row, difference=row.minus(rows[0])) for row in rows)
    stopped, needed = observer.should_stop(), {}
    if rows and not stopped:
        with observer.evaluating("gzip and xz"):
            needed = baselines(split.training, split.held_out)
    return Comparison(split, ranked, needed, faults, stopped, interrupted)


def _turns(sources: Mapping[str, Sequence[Source]]) -> list[tuple[str, Source]]:
    """Every first source by its name, then every second, and so on."""
    named = [[(name, source) for source in several] for name, several in sources.items()]
    return [one for turn in zip_longest(*named) for one in turn if one is not None]


def _forms(contender: Contender, adapt: str | None) -> list[Contender]:
    """The contender, and if it then adapts the same one frozen: scored once more, not trained once more."""
    asked = replace(contender, adapt=nearest(contender.model, adapt))
    if not adapted(contender.model, asked.adapt).adapts:
        return [asked]
    return [asked, replace(contender, model=contender.model.frozen(), frozen=True)]


def _evaluated(
    name: str, contender: Contender, text: Text, context: int | None, observer: ComparisonObserver
) -> Evaluation:
    weights = checkpoint.weights_digest(contender.path)
    with observer.evaluating(name) as show:
        progress = _stoppable(show, observer)
        evaluation = evaluate(
            contender.model, contender.tokenizer, text, context=context, adapt=contender.adapt, progress=progress
        )
    if not contender.frozen and contender.adapt in (None, contender.model.adaptation):  # a figure of the run as it is
        record(contender.path, weights, evaluation)
    observer.on_measured(contender, evaluation)
    return evaluation


def _proved(name: str, contender: Contender, text: Text, evaluation: Evaluation, observer: ComparisonObserver) -> Proof:
    with observer.evaluating(name) as show:
        progress = _stoppable(show, observer)
        return prove(
            contender.model.to("cpu"),
            contender.tokenizer,
            text,
            evaluation,
            on_progress=lambda coding: progress(coding.what, coding.done),
        )


def _stoppable(show: Listener, observer: ComparisonObserver) -> Listener:
    """A listener that ends what it listens to where the observer asks for it."""

    def progress(what: str, done: float) -> None:
        if observer.should_stop():
            raise _Stopped
        show(what, done)

    return progress


def _row(contender: Contender, evaluation: Evaluation, proof: Proof | None, seed: int) -> Row:
    card = checkpoint.read_card(contender.path)
    return Row(
        runs=(contender.path,),
        architecture=contender.architecture,
        frozen=contender.frozen,
        tokenizer=contender.tokenizer.kind,
        conditions=Conditions.from_card(card, contender.tokenizer),
        provenance=(provenance(contender.path, card, contender.model.chosen),),
        parameters=contender.model.parameters_count,
        training_seconds=contender.training_seconds,
        finished=contender.finished,
        evaluation=evaluation,
        difference=Difference(0.0, 0.0, 0.0),
        seeds=(evaluation.bits_per_character,),
        sample=sample_line(contender.model, contender.tokenizer, seed),
        proof=proof,
    )


def sample_line(model: LanguageModel, tokenizer: Tokenizer, seed: int) -> str:
    """What the model writes without a prompt, as one line: white space is a blank, what cannot be shown is U+FFFD."""
    generator = torch.Generator().manual_seed(seed)
    drawn = sample(model, tokenizer, None, length=2 * SAMPLE_CHARACTERS, settings=SAMPLING, generator=generator)[0]
    line = " ".join(drawn.split())[:SAMPLE_CHARACTERS].rstrip()
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
