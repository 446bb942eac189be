"""A text, an architecture and a budget into a run."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm import checkpoint, training
from charlm.corpus import Origin, ReadingLog, Split, reopen
from charlm.errors import UsageError
from charlm.library.progress import training_bar
from charlm.library.run import Run, load
from charlm.models import ARCHITECTURES
from charlm.tokenizers import TOKENIZERS, Tokenizer, alphabet
from charlm.training import DEFAULT_ARCHITECTURE, TrainingConfig, TrainingObserver

Corpus = str | Path | Sequence[str | Path]
"""One source of a text, or several."""

Value = bool | int | float | str | None
"""What a setting can be."""


@dataclass(frozen=True)
class Chosen:
    """Settings by whose they are: the training's, the tokenizer's of this kind, and the rest, the model's."""

    tokenizer: str
    of_training: dict[str, Any]
    of_tokenizer: dict[str, Any]
    of_model: dict[str, Any]

    @classmethod
    def of(cls, tokenizer: str, settings: Mapping[str, Value]) -> "Chosen":
        """Raises UsageError for an unknown tokenizer."""
        if tokenizer not in TOKENIZERS:
            raise UsageError(f"must be one of {', '.join(TOKENIZERS)}, not {tokenizer!r}", "tokenizer")
        names = set(TrainingConfig.names()), set(TOKENIZERS[tokenizer].Config.names())
        training, pieces = ({name: settings[name] for name in settings if name in own} for own in names)
        model = {name: value for name, value in settings.items() if not any(name in own for own in names)}
        return cls(tokenizer, training, pieces, model)

    def learn(self, split: Split) -> Tokenizer:
        """The tokenizer, learned from the training part."""
        kind = TOKENIZERS[self.tokenizer]
        return kind.train(split.training.chunks(), kind.Config(**self.of_tokenizer))


def train(
    corpus: Corpus = (),
    architecture: str | None = None,
    *,
    budget: str | None = None,
    size: str = "auto",
    tokenizer: str = "characters",
    held_out: str | Path | None = None,
    encoding: str = "utf-8",
    output: str | Path | None = None,
    force: bool = False,
    start: str | Path | None = None,
    resume: str | Path | None = None,
    device: str = "auto",
    observer: TrainingObserver | None = None,
    **settings: Value,
) -> Run:
    """Train a model on a text and save it as a run, which is returned.

    `corpus` is a file, a folder of texts, `builtin:NAME`, or several of these; its last tenth is held out unless
    `held_out` names a text of its own. `architecture` is "lstm" by default. `budget` is an amount of time, steps,
    tokens or epochs: 90s, 5m, 2h, 3000steps, 50Mtokens, 10epochs. `size` is tiny, small, medium, large, or auto. The
    run is saved in the folder `output`, by default checkpoints/CORPUS-ARCHITECTURE; `force` replaces a run that is
    there. With `start`, the folder of a run, a new run begins with the weights of that network, and has its
    architecture and tokenizer. With `resume`, a run itself goes on: an interrupted one to its end, a finished one under
    a larger `budget`. `settings` are those of the training, the architecture and the tokenizer, under the names that
    the command line has without dashes: `seed=1`, `width=64`, `learning_rate=1e-3`. An `observer` is told how far it is
    and may stop it; in a notebook a bar shows it.

    Raises CharlmError: UsageError for a setting that makes no sense, DataError for a text that cannot be read,
    TrainingFault when the numbers go wrong.

    >>> run = charlm.train("corpus.txt", "gru", budget="50steps", width=16, seed=1)
    >>> run.path.name
    'corpus-gru'
    """
    if resume is not None:
        return _resumed(checkpoint.find_run(resume), budget, device, observer)
    chosen = Chosen.of(tokenizer, {**settings, "budget": budget or TrainingConfig.budget})
    begun = None if start is None else _begun(start, architecture, size, chosen)
    architecture = begun.architecture if begun else architecture or DEFAULT_ARCHITECTURE
    if begun is None and architecture not in ARCHITECTURES:
        raise UsageError(f"must be one of {', '.join(ARCHITECTURES)}, not {architecture!r}", "architecture")
    origin, folder = origin_of(corpus, held_out, encoding), None if output is None else Path(output)
    return _trained(origin, architecture, size, chosen, begun, folder, force, device, observer)


def _begun(path: str | Path, architecture: str | None, size: str, chosen: Chosen) -> checkpoint.Run:
    """The run to start from. Raises UsageError for one that cannot be, and for settings that it brings itself."""
    given = {"architecture": architecture or "", "size": size.replace("auto", ""), **chosen.of_tokenizer}
    given |= {"tokenizer": chosen.tokenizer.replace("characters", ""), **chosen.of_model}
    for name, value in given.items():
        if value != "":
            raise UsageError("cannot change with `start`: the run brings it", name)
    run = checkpoint.load(checkpoint.find_run(path))
    if not run.model.by_gradient:
        raise UsageError(f"{run.path} starts no other run: gradients do not train {run.architecture} models", "start")
    return run


def _trained(
    origin: Origin,
    architecture: str,
    size: str,
    chosen: Chosen,
    start: checkpoint.Run | None,
    output: Path | None,
    force: bool,
    device: str,
    observer: TrainingObserver | None,
) -> Run:
    config, target = (
        training.complete(TrainingConfig(**chosen.of_training), architecture),
        training.choose_device(device),
    )
    log = ReadingLog()
    split = origin.open(log)
    amount, speed = training.Budget.parse(config.budget), training.speed(config.precision, target)
    if start is None:
        model = training.model_config(architecture, size, chosen.of_model, split.training.characters, amount, speed)
        tokenizer = chosen.learn(split)
    else:
        model = start.model.config
        tokenizer = start.tokenizer.also_seeing(alphabet(split.training.chunks()))
    path = checkpoint.new_run(f"{split.training.name}-{architecture}", output, force=force)
    try:
        with training_bar(architecture) if observer is None else nullcontext(observer) as shown:
            parents = checkpoint.lineage(start) if start else ()
            history = checkpoint.History(corpus=origin.describe(split, log), parents=parents)
            training.train(
                path, split, tokenizer, architecture, model, config,
                history=history, device=target, start=start.model if start else None, observer=shown,
            )  # fmt: skip
    finally:
        if not any(path.iterdir()):
            path.rmdir()
    return load(path)


def _resumed(path: Path, budget: str | None, device: str, observer: TrainingObserver | None) -> Run:
    finished = checkpoint.read_card(path).history.finished
    run = checkpoint.load(path, resume=not (budget and finished))
    split = reopen(run.history.corpus).learned
    with training_bar(run.architecture) if observer is None else nullcontext(observer) as shown:
        training.resume(run, split, budget=budget, device=training.choose_device(device), observer=shown)
    return load(path)


def origin_of(corpus: Corpus, held_out: str | Path | None, encoding: str) -> Origin:
    """The sources that a user names."""
    sources = [corpus] if isinstance(corpus, str | Path) else corpus
    return Origin(tuple(map(str, sources)), encoding, None if held_out is None else str(held_out))
