"""Where contenders come from: trained now, gone on with, or loaded as they are."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from typing_extensions import override

from charlm import __version__, checkpoint
from charlm.comparison.planning import Plan
from charlm.comparison.provenance import pace_of
from charlm.corpus import ReadingLog, Split, relocated, reopen
from charlm.errors import CheckpointError, UsageError
from charlm.evaluation import Evaluation
from charlm.models import ARCHITECTURES, CountingModel, LanguageModel
from charlm.progress import Listener, silent
from charlm.threads import DISTURBED
from charlm.tokenizers import Tokenizer
from charlm.training import Budget, TrainingObserver, resume, train

FROZEN = " (frozen)"
"""What the name of an adapting model gets where it is taken as it was trained."""


@dataclass(frozen=True)
class Contender:
    """A trained model and how it came to be; `finished` says whether it came to the end of its budget.

    `adapt`: what learns while it reads (see `charlm.models.adapted`); None: what did by its training. `frozen`: the
    model could adapt, and is taken here as it was trained, beside itself.
    """

    path: Path
    architecture: str
    model: LanguageModel
    tokenizer: Tokenizer
    training_seconds: float
    finished: bool
    adapt: str | None = None
    frozen: bool = False

    @property
    def name(self) -> str:
        """What to call it: its architecture, and whether it is frozen."""
        return self.architecture + (FROZEN if self.frozen else "")


class ComparisonObserver:
    """Receives what happens in a comparison, and may stop it. Subclasses override what they need."""

    def training(self, name: str) -> AbstractContextManager[TrainingObserver]:  # noqa: ARG002
        """Entered for as long as this contender trains, by the observer of its training, which may stop it as well."""
        return nullcontext(_StopsWith(self))

    def evaluating(self, name: str) -> AbstractContextManager[Listener]:  # noqa: ARG002
        """Entered for as long as this contender is evaluated, by who is told how far that is."""
        return nullcontext(silent)

    def on_measured(self, contender: Contender, evaluation: Evaluation) -> None:
        """After each evaluation."""

    def on_found(self, path: Path, finished: bool) -> None:
        """An earlier comparison has left a run that is taken, or if it is not finished resumed."""

    def should_stop(self) -> bool:
        """Whether to stop; the contenders that are done are still compared."""
        return False


class _StopsWith(TrainingObserver):
    """Stops the training of a contender when the comparison stops."""

    def __init__(self, comparison: ComparisonObserver) -> None:
        self.comparison = comparison

    @override
    def should_stop(self) -> bool:
        return self.comparison.should_stop()


Source = Callable[[ComparisonObserver], Contender]
"""How to have a contender: train it now, or load it."""


def to_train(
    plans: Mapping[str, Plan],
    split: Split,
    tokenizer: Tokenizer,
    *,
    history: checkpoint.History,
    folder: Path | None = None,
    device: torch.device | None = None,
    seeds: int = 1,
    again: bool = False,
    again_disturbed: bool = False,
) -> dict[str, list[Source]]:
    """Contenders still to be trained on `split`, by architecture, one a seed; each is saved as CORPUS-ARCHITECTURE.

    The runs go to checkpoints/, or into `folder`. A run that is there already, of the same plan, text and tokenizer,
    is taken or, if it has not finished, gone on with, unless they are to be trained `again`, or `again_disturbed` and a
    busy machine made them learn from less text. Counting has no randomness, so one seed stands for all.
    `history` has the corpus (see `training.train`).
    """

    def source(architecture: str, chosen: Plan) -> Source:
        key = _key(architecture, chosen, split, tokenizer)
        several = f"-seed{chosen.training.seed}" if seeds > 1 else ""

        def obtain(observer: ComparisonObserver) -> Contender:
            path = _earlier(folder or checkpoint.RUNS, key)
            if path and not again and not (again_disturbed and _disturbed(path)):
                with suppress(CheckpointError):  # one that is damaged is trained again
                    return _continued(path, split, device, observer)
            name = f"{split.training.name}-{architecture}{several}"
            path = checkpoint.new_run(name, folder=folder or checkpoint.RUNS)
            try:
                with observer.training(architecture) as training:
                    trained = train(
                        path, split, tokenizer, architecture, chosen.config, chosen.training,
                        history=replace(history, plan=key), device=device, observer=training,
                    )  # fmt: skip
            finally:
                if not any(path.iterdir()):
                    path.rmdir()
            return Contender(path, architecture, trained.model, tokenizer, trained.seconds, trained.finished)

        return obtain

    return {name: [source(name, one) for one in _seeded(name, chosen, seeds)] for name, chosen in plans.items()}


def _seeded(architecture: str, chosen: Plan, seeds: int) -> list[Plan]:
    first = chosen.training.seed
    numbers = range(first, first + (1 if issubclass(ARCHITECTURES[architecture], CountingModel) else seeds))
    return [replace(chosen, training=replace(chosen.training, seed=number)) for number in numbers]


def _key(architecture: str, chosen: Plan, split: Split, tokenizer: Tokenizer) -> str:
    """What tells this training from every other: a SHA-256. Counting does not heed the settings of training."""
    counted = issubclass(ARCHITECTURES[architecture], CountingModel)
    plan = (
        __version__,
        architecture,
        chosen.config.to_json(),
        None if counted else chosen.training.to_json(),
        [part.sha256 for part in (split.train, split.validation, split.held_out)],
        tokenizer.fingerprint,
    )
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def _earlier(folder: Path, key: str) -> Path | None:
    """The run of this plan in a folder: a finished one before one that is not, then the newest."""
    runs: dict[bool, Path] = {}
    for path in checkpoint.runs(folder):
        with suppress(CheckpointError):
            history = checkpoint.read_card(path).history
            if history.plan == key:
                runs.setdefault(history.finished, path)
    return runs.get(True, runs.get(False))


def _disturbed(path: Path) -> bool:
    """Whether a run of a budget of time trained on a busy machine."""
    history = checkpoint.read_card(path).history
    timed = history.budget and Budget.parse(history.budget).seconds
    return bool(timed) and pace_of(history.processor_use) < DISTURBED


def _continued(path: Path, split: Split, device: torch.device | None, observer: ComparisonObserver) -> Contender:
    """The contender of an earlier comparison, trained to its end."""
    if checkpoint.read_card(path).history.finished:
        contender = _loaded(path, observer)
        observer.on_found(path, True)
        return contender
    run = checkpoint.load(path, resume=True)
    observer.on_found(path, False)
    with observer.training(run.architecture) as training:
        trained = resume(run, split, device=device, observer=training)
    return Contender(path, run.architecture, trained.model, run.tokenizer, trained.seconds, trained.finished)


def trained_already(
    paths: Iterable[Path],
    moved: tuple[Sequence[str], str | None] = ((), None),
    log: ReadingLog | None = None,
) -> tuple[Split, dict[str, list[Source]]]:
    """Contenders from runs on disk, by path, and the split that the first of them was made from.

    `moved` says where the sources of its corpus and its held-out file are now, `log` notes what reading them tells.
    Raises UsageError for runs that held out different texts, CheckpointError for what is no run, DataError if the
    text cannot be read again.
    """
    histories = {path: _history(path) for path in paths}
    first, *others = histories
    for other in others:
        if histories[first].sha256("held_out") != histories[other].sha256("held_out"):
            raise UsageError(
                f"{first} held out {_held_out(histories[first])}, {other} {_held_out(histories[other])}: two texts, "
                "so their figures cannot be compared\n`evaluate(RUN, RUN, text=FILE)` measures both on one text"
            )
    way_out = "measure each with `evaluate(RUN, text=FILE)`"
    text = reopen(relocated(histories[first].corpus, *moved), way_out, given=any(moved), log=log)
    return text.split, {str(path): [partial(_loaded, path)] for path in histories}


def _history(path: Path) -> checkpoint.History:
    """The history of a run that says which text it held out."""
    history = checkpoint.read_history(path)
    if history.sha256("held_out") is None or history.characters("held_out") is None:
        raise CheckpointError(f"{path}: does not say which text it held out; train it again to compare it")
    return history


def _held_out(history: checkpoint.History) -> str:
    """Which text a run held out, in words."""
    corpus = history.corpus or {}
    whence = corpus.get("held_out_file") or f"the end of {corpus.get('name')}"
    sha256 = history.sha256("held_out") or ""
    return f"{history.characters('held_out'):,} characters, {whence} (SHA-256 {sha256[:8]}…)"


def _loaded(path: Path, _: ComparisonObserver) -> Contender:
    run = checkpoint.load(path)
    known = run.history.progress is not None
    return Contender(
        path, run.architecture, run.model, run.tokenizer, run.history.seconds, run.history.finished or not known
    )
