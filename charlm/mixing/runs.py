"""Runs into one mixture: over the same text and tokenizer, weighed on what they have not learned from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm import checkpoint
from charlm.checkpoint import History, Run
from charlm.corpus import ReadingLog, Stream, Text, TrainingPart, encode, relocated, reopen
from charlm.errors import UsageError
from charlm.mixing.tuning_text import TuningText
from charlm.models import CountingModel, LanguageModel, Member, Mixture, MixtureConfig
from charlm.progress import Listener, silent
from charlm.tokenizers import Tokenizer


@dataclass(frozen=True)
class Mixed:
    """A mixture, what its card should say of it, and the bits per character of the text it was tuned on.

    `bits_per_character` has the members by the names of their runs, and at last the mixture.
    """

    model: Mixture
    tokenizer: Tokenizer
    history: History
    bits_per_character: dict[str, float]


def mix(
    paths: Sequence[str | Path],
    *,
    combine: str = MixtureConfig.combine,
    text: Text | None = None,
    moved: Sequence[str] = (),
    log: ReadingLog | None = None,
    progress: Listener = silent,
) -> Mixed:
    """The mixture of runs, weighed on the validation slice that they share, or else on `text`.

    What n-grams say of the slice is asked of others that have not counted it. A network that has learned from it
    (`join`) cannot be asked any more: UsageError, unless there is a `text`. Also raises UsageError for runs of
    different texts or tokenizers, and what loading and reading raise. `moved` says where the sources of the corpus are
    now, `log` notes what reading them tells, `progress` is told (what is done, fraction done).
    """
    runs = [checkpoint.load(path) for path in paths]
    config = MixtureConfig(combine, tuple(Member(run.architecture, run.model.config) for run in runs))
    shared, tokenizer = _shared(runs, named=text is not None), runs[0].tokenizer
    described = relocated(shared.history.corpus, moved)
    split = None
    if text is None or _hashes(shared) is not None:
        split = reopen(described, "train the runs again to mix them", given=bool(moved), log=log).learned
    for run in runs[1:]:
        tokenizer = tokenizer.also_seeing(run.tokenizer.seen)
    tuned_on = _tuned_on(runs, shared, split, text)
    ids = encode(tuned_on, tokenizer, progress=progress)
    tuning_text = TuningText(ids, tokenizer.vocab_size)
    learned = encode(split.train, tokenizer) if split is not None and text is None else None
    experts = [_log_probs(run.model, tuning_text, tokenizer, learned, ids, progress) for run in runs]
    model = Mixture(config, tokenizer.vocab_size, [run.model for run in runs])
    tuning_text.tune(model, experts, lambda done: progress("weighing", done))
    experts.append(model.combined(torch.stack(experts, 1), tuning_text.log_counts))
    bits = len(ids) / len(tuning_text.targets) / tuned_on.characters / math.log(2)  # of a nat, per character
    names = [str(path) for path in paths]
    figures = {name: bits * tuning_text.nats(expert) for name, expert in zip([*names, "mixture"], experts, strict=True)}
    history = History(
        corpus=described,
        parents=tuple(parent for run in runs for parent in run.history.parents),
        mixed=tuple(names),
        progress=_progress_of(runs),
        weighed_on=_described(text) if text else None,
        result=None if text else checkpoint.Result(figures["mixture"], checkpoint.VALIDATION),
    )
    return Mixed(model.eval(), tokenizer, history, figures)


def _tuned_on(runs: Sequence[Run], shared: Run, split: TrainingPart | None, text: Text | None) -> Text:
    """The text to weigh the runs on. Raises UsageError for one that a run has learned from, or is evaluated on."""
    if text is None:
        assert split is not None
        for run in runs:
            _check_apart(run)
        return split.validation
    if split is not None and text.sha256 == _hashes(shared)["held_out"]:
        raise UsageError(f"{text.name} is what these runs hold out to be evaluated on; name another `text`")
    return text


def _log_probs(
    model: LanguageModel,
    tuning_text: TuningText,
    tokenizer: Tokenizer,
    learned: Stream | None,
    ids: Stream,
    progress: Listener,
) -> Tensor:
    """What a model says of the tuning_text; what counts is fitted anew if it has `learned` a text and counted `ids`."""
    if isinstance(model, CountingModel) and learned is not None:
        before_counting: list[Tensor] = []
        anew = type(model)(model.config, model.vocab_size)
        anew.read_vocabulary(tokenizer.whole_texts)
        anew.fit(learned, ids, progress, lambda one: before_counting.append(tuning_text.log_probs(one)))
        return before_counting[0]
    if isinstance(model, Mixture):
        experts = [_log_probs(member, tuning_text, tokenizer, learned, ids, progress) for member in model.each()]
        return model.combined(torch.stack(experts, 1), tuning_text.log_counts)
    progress("reading", 0.0)
    return tuning_text.log_probs(model)


def _shared(runs: Sequence[Run], *, named: bool) -> Run:
    """The first run whose text is that of all. Raises UsageError if they have different texts or tokenizers.

    With a `named` text to weigh them on, runs that do not know what they learned from, as imported ones, may be among
    them, or all of them.
    """
    known = [run for run in runs if _hashes(run) is not None or not named] or runs
    first = known[0]
    for run in runs:
        if run.tokenizer.fingerprint != first.tokenizer.fingerprint:
            raise UsageError(
                f"{first.path} and {run.path} have different tokenizers, so their tokens are not the same\n"
                "train them on one text with the same tokenizer"
            )
        if run in known and _hashes(run) != _hashes(first):
            raise UsageError(
                f"{first.path} and {run.path} learned from different texts, or hold out different ones: nothing is "
                "left that is new to both\ntrain them on one text"
            )
    return first


def _described(text: Text) -> dict[str, Any]:
    """What the card keeps of the text that a mixture is tuned on."""
    return {"name": text.name, "characters": text.characters, "sha256": text.sha256}


def _hashes(run: Run) -> Any:
    return (run.history.corpus or {}).get("sha256")


def _check_apart(run: Run) -> None:
    """Raises UsageError for a run that has learned from the validation slice by gradients."""
    if run.history.joined is not None:
        raise UsageError(
            f"{run.path} has learned from the validation slice too, so what it says of it is hindsight\n"
            "train it with `train(TEXT, join=False)`, or all at once with `train(TEXT, architecture='mixture')`, "
            "or name a `text` that is new"
        )


def _progress_of(runs: Sequence[Run]) -> dict[str, Any]:
    """How the members came to be, as far as it matters to those who train or mix on."""
    joined = [run.history.joined for run in runs if run.history.joined is not None]
    return {
        "finished": True,
        "seconds": sum(run.history.seconds for run in runs),
        "joined": joined[0] if joined else None,
    }
