"""The same text, every architecture: which predicts it best, and by how much."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from charlm import checkpoint
from charlm.config import Settings, option_name
from charlm.corpus import Split, Text, reopen
from charlm.decoding import Sampling, sample
from charlm.errors import CheckpointError, TrainingFault, UsageError
from charlm.evaluation import Difference, Evaluation, baselines, evaluate, paired_difference
from charlm.models import ARCHITECTURES, LanguageModel
from charlm.tokenizers import Tokenizer
from charlm.training import Budget, TrainingConfig, Unsaved, Watcher, complete, model_config, train

SAMPLE_CHARACTERS = 60
SAMPLING = Sampling(temperature=0.8)


@dataclass(frozen=True)
class Contender:
    """A trained model and how it came to be; `finished` says whether it came to the end of its budget."""

    path: Path
    architecture: str
    model: LanguageModel
    tokenizer: Tokenizer
    training_seconds: float
    finished: bool


@dataclass(frozen=True)
class Row:
    """One contender's result. `difference` is its bits per character minus those of the best."""

    run: Path
    architecture: str
    tokenizer: str
    parameters: int
    training_seconds: float
    finished: bool
    evaluation: Evaluation
    difference: Difference
    sample: str

    @property
    def characters_per_second(self) -> float:
        """How fast it reads the held-out text."""
        return self.evaluation.characters / max(self.evaluation.seconds, 1e-9)

    @property
    def upper_bound(self) -> bool:
        """Whether its figures are only bounds: of the segmentations that a text has, one was scored."""
        return self.tokenizer == "sentencepiece"

    def to_json(self) -> dict[str, Any]:
        """Every figure by its name; ends of intervals that are infinite are null."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        difference = {k: v if abs(v) < float("inf") else None for k, v in dataclasses.asdict(self.difference).items()}
        own = {"run": str(self.run), "difference": difference, "characters_per_second": self.characters_per_second}
        del named["evaluation"]
        return {**named, **own, "upper_bound": self.upper_bound, **self.evaluation.to_json()}


@dataclass(frozen=True)
class Comparison:
    """Rows from best to worst, and bits per character of what needs no model (empty if stopped).

    `faults` says of each contender that failed why; `interrupted` is the run that was saved unfinished, if one was.
    """

    held_out: Text
    rows: tuple[Row, ...]
    baselines: Mapping[str, float]
    faults: Mapping[str, str]
    stopped: bool
    interrupted: Path | None


@dataclass(frozen=True)
class Observer:
    """Who is told which contender is at work, how it fares and what came out; and who may stop it all.

    `training` and `evaluating` are entered for as long as the named contender is at it.
    """

    training: Callable[[str], AbstractContextManager[Watcher]] = lambda _: nullcontext(Watcher())
    evaluating: Callable[[str], AbstractContextManager[Callable[[str, float], None]]] = lambda _: nullcontext(
        lambda _what, _done: None
    )
    measured: Callable[[Contender, Evaluation], None] = lambda _contender, _evaluation: None
    should_stop: Callable[[], bool] = lambda: False


Source = Callable[[Observer], Contender]
"""How to have a contender: train it now, or load it."""


@dataclass(frozen=True)
class Plan:
    """What one architecture is to be trained with."""

    config: Settings
    training: TrainingConfig


def plan(
    architectures: Iterable[str], size: str, options: Mapping[str, Any], training: TrainingConfig, characters: int
) -> dict[str, Plan]:
    """A plan for each architecture: the one budget, and of the options those that it has.

    `characters` is the size of the training text. Raises UsageError for an option that none of them has, or a value
    that one of them cannot have.
    """
    names = list(dict.fromkeys(architectures))
    owned = {name: {f.name for f in fields(ARCHITECTURES[name].Config)} for name in names}
    for option in options:
        if not any(option in own for own in owned.values()):
            raise UsageError(f"{option_name(option)} is not an option of {_listed(names)}{_others(option)}")
    plans = {}
    for name in names:
        own = {option: value for option, value in options.items() if option in owned[name]}
        try:
            config = model_config(name, size, own, characters, Budget.parse(training.budget))
        except UsageError as problem:
            raise UsageError(f"{name}: {problem}") from None
        plans[name] = Plan(config, complete(training, name))
    return plans


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _others(option: str) -> str:
    owners = [name for name, kind in ARCHITECTURES.items() if option in {f.name for f in fields(kind.Config)}]
    return f"; {', '.join(owners)} {'have' if len(owners) > 1 else 'has'} it" if owners else ""


def to_train(
    plans: Mapping[str, Plan],
    split: Split,
    tokenizer: Tokenizer,
    *,
    about: Mapping[str, Any],
    folder: Path | None = None,
    device: torch.device | None = None,
) -> dict[str, Source]:
    """Contenders still to be trained, by architecture, all on `split`; each is saved as CORPUS-ARCHITECTURE.

    The runs go to checkpoints/, or into `folder`. `about` goes into every checkpoint (see `training.train`).
    """

    def source(architecture: str, chosen: Plan) -> Source:
        def obtain(observer: Observer) -> Contender:
            name = f"{split.training.name}-{architecture}"
            path = checkpoint.new_run(name, folder / name if folder else None)
            try:
                with observer.training(architecture) as watcher:
                    trained = train(
                        path,
                        split,
                        tokenizer,
                        architecture,
                        chosen.config,
                        chosen.training,
                        about=about,
                        device=device,
                        watcher=replace(watcher, should_stop=observer.should_stop),
                    )
            finally:
                if not any(path.iterdir()):
                    path.rmdir()
            return Contender(path, architecture, trained.model, tokenizer, trained.seconds, trained.finished)

        return obtain

    return {architecture: source(architecture, chosen) for architecture, chosen in plans.items()}


def trained_already(paths: Iterable[Path]) -> tuple[Split, dict[str, Source]]:
    """Contenders from runs on disk, by path, and the split they share.

    Raises UsageError for runs that held out different texts, CheckpointError for what is no run, DataError if the
    text cannot be read again.
    """
    corpora = {path: _corpus(path) for path in paths}
    first, *others = corpora
    for other in others:
        if corpora[first]["sha256"]["held_out"] != corpora[other]["sha256"]["held_out"]:
            raise UsageError(
                f"{first} held out {_held_out(corpora[first])}, {other} {_held_out(corpora[other])}: two texts, "
                "so their figures cannot be compared\n`charlm evaluate RUN RUN --text FILE` measures both on one text"
            )
    return reopen(corpora[first]), {str(path): partial(_loaded, path) for path in corpora}


def _corpus(path: Path) -> dict[str, Any]:
    corpus: Any = checkpoint.read_card(path).get("corpus")
    try:
        _held_out(corpus)
        return dict(corpus)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: does not say which text it held out; train it again to compare it") from None


def _held_out(corpus: Any) -> str:
    """Which text a run held out, in words."""
    characters, sha256 = corpus["characters"]["held_out"], corpus["sha256"]["held_out"]
    whence = corpus["held_out_file"] or f"the end of {corpus['name']}"
    return f"{characters:,} characters, {whence} (SHA-256 {sha256[:8]}…)"


def _loaded(path: Path, _: Observer) -> Contender:
    run = checkpoint.load(path)
    try:
        seconds, finished = float(run.about["progress"]["seconds"]), bool(run.about["progress"]["finished"])
    except (KeyError, TypeError, ValueError):
        seconds, finished = 0.0, True
    return Contender(path, run.architecture, run.model, run.tokenizer, seconds, finished)


class _Stopped(Exception):  # noqa: N818 - a request, not an error
    """The observer asked for an end while a model was being evaluated."""


def compare(
    sources: Mapping[str, Source],
    split: Split,
    *,
    context: int | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    observer: Observer = Observer(),
) -> Comparison:
    """Have each contender in turn, evaluate it on `split.held_out`, and put them in order.

    `context` as in `evaluate`; `seed` is that of the samples. One whose numbers go wrong is left out and noted in
    `faults`. When the observer stops it, the contender that is being trained is saved and those that are done are
    still compared. Raises whatever training and evaluation raise besides.
    """
    rows: list[Row] = []
    faults: dict[str, str] = {}
    interrupted = None
    for name, source in sources.items():
        if observer.should_stop():
            break
        try:
            contender = source(observer)
            if observer.should_stop():
                interrupted = None if contender.finished else contender.path
                break
            contender.model.to(device or "cpu")
            evaluation = _evaluated(name, contender, split.held_out, context, observer)
            rows.append(_row(contender, evaluation, seed))
        except (_Stopped, Unsaved):
            break
        except TrainingFault as fault:
            faults[name] = str(fault)
    rows.sort(key=lambda row: row.evaluation.bits_per_character)
    ranked = tuple(replace(row, difference=paired_difference(row.evaluation, rows[0].evaluation)) for row in rows)
    stopped, needed = observer.should_stop(), {}
    if rows and not stopped:
        with observer.evaluating("gzip and xz"):
            needed = baselines(split.training, split.held_out)
    return Comparison(split.held_out, ranked, needed, faults, stopped, interrupted)


def _evaluated(name: str, contender: Contender, text: Text, context: int | None, observer: Observer) -> Evaluation:
    with observer.evaluating(name) as show:

        def progress(what: str, done: float) -> None:
            if observer.should_stop():
                raise _Stopped
            show(what, done)

        evaluation = evaluate(contender.model, contender.tokenizer, text, context=context, progress=progress)
    observer.measured(contender, evaluation)
    return evaluation


def _row(contender: Contender, evaluation: Evaluation, seed: int) -> Row:
    return Row(
        run=contender.path,
        architecture=contender.architecture,
        tokenizer=contender.tokenizer.kind,
        parameters=contender.model.parameters_count,
        training_seconds=contender.training_seconds,
        finished=contender.finished,
        evaluation=evaluation,
        difference=Difference(0.0, 0.0, 0.0),
        sample=sample_line(contender.model, contender.tokenizer, seed),
    )


def sample_line(model: LanguageModel, tokenizer: Tokenizer, seed: int) -> str:
    """What the model writes after a line's end, as one line: white space is a blank, what cannot be shown is U+FFFD."""
    generator = torch.Generator().manual_seed(seed)
    drawn = sample(model, tokenizer, "\n", length=2 * SAMPLE_CHARACTERS, settings=SAMPLING, generator=generator)[0]
    line = " ".join(drawn.split())[:SAMPLE_CHARACTERS].rstrip()
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
