"""A whole training run: text and settings in, a saved run out. Interrupt it, resume it, go on from another."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from charlm import checkpoint
from charlm.config import Settings
from charlm.corpus import Split, encode
from charlm.decoding import Sampling, sample
from charlm.errors import CheckpointError, TrainingFault, UsageError
from charlm.models import ARCHITECTURES, CountingModel, LanguageModel, Network
from charlm.tokenizers import Tokenizer
from charlm.training.loop import Counters, Progress, Stopped, Trainer
from charlm.training.recipe import complete
from charlm.training.settings import TrainingConfig

SAVE_SECONDS = 60.0
SAMPLE_CHARACTERS = 80
METRICS_LINES = 500  # over a run, besides those with a validation


@dataclass(frozen=True)
class Watcher:
    """Who is told of a run: its progress, what is counted or encoded, a sample as it learns; and who may stop it."""

    progress: Callable[[Progress], None] = lambda _: None
    stage: Callable[[str, float], None] = lambda _what, _done: None
    sample: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Trained:
    """How a run ended: its folder, whether it came to the end of its budget, and the seconds that training took."""

    path: Path
    model: LanguageModel
    finished: bool
    seconds: float


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `mps`. Raises UsageError for one that this machine has not."""
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found()))
    if name not in there or not there[name]():
        raise UsageError(
            f"--device {name}: not on this machine; there is {', '.join(k for k, f in there.items() if f())}"
        )
    return torch.device(name)


def train(
    path: Path,
    split: Split,
    tokenizer: Tokenizer,
    architecture: str,
    config: Settings,
    training: TrainingConfig,
    *,
    about: Mapping[str, Any],
    device: torch.device | None = None,
    start: LanguageModel | None = None,
    watcher: Watcher = Watcher(),
) -> Trained:
    """Train one model on `split` and save it in the folder `path`.

    `training` must be complete (see `recipe.complete`); `about` goes into the checkpoint as it is; `start` is a network
    whose weights to go on from. When the watcher stops it, the run is saved so that `resume` can go on. Raises
    TrainingFault, with the weights from before it saved, when the numbers go wrong.
    """
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = ARCHITECTURES[architecture](config, tokenizer.vocab_size)
        if start is not None:
            model.load_state_dict(start.state_dict())
        if isinstance(model, CountingModel):
            return _count(path, split, tokenizer, architecture, model, about, watcher)
        assert isinstance(model, Network)
        trainer = _trainer(model, split, tokenizer, training, device, watcher)
        trainer.expect_frequencies(anew=start is None)
        return _Session(path, tokenizer, architecture, model, trainer, about, watcher).run()


def resume(
    run: checkpoint.Run,
    split: Split,
    *,
    device: torch.device | None = None,
    watcher: Watcher = Watcher(),
) -> Trained:
    """Go on with an interrupted run (loaded with `resume=True`) over the same text, as if nothing had happened."""
    where = str(run.path / checkpoint.CARD)
    training = complete(TrainingConfig.from_json(run.about.get("training"), where, CheckpointError), run.architecture)
    assert isinstance(run.model, Network)
    with torch.random.fork_rng():
        trainer = _trainer(run.model, split, run.tokenizer, training, device, watcher)
        best = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        try:
            progress = {name: value for name, value in run.about["progress"].items() if name != "finished"}
            trainer.resume(run.resume, Counters(**progress), best)
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, IndexError) as problem:
            raise CheckpointError(
                f"{run.path}: cannot be resumed: {problem}; --from {run.path} starts from its weights"
            ) from None
        return _Session(run.path, run.tokenizer, run.architecture, run.model, trainer, run.about, watcher).run()


def _trainer(
    model: Network,
    split: Split,
    tokenizer: Tokenizer,
    training: TrainingConfig,
    device: torch.device | None,
    watcher: Watcher,
) -> Trainer:
    ids = encode(split.train, tokenizer, progress=watcher.stage)
    validation = encode(split.validation, tokenizer)
    return Trainer(model.to(device or "cpu"), ids, validation, training, split.train.characters / len(ids))


def _count(
    path: Path,
    split: Split,
    tokenizer: Tokenizer,
    architecture: str,
    model: CountingModel,
    about: Mapping[str, Any],
    watcher: Watcher,
) -> Trained:
    began = time.monotonic()

    def stage(what: str, done: float) -> None:
        if watcher.should_stop():
            raise KeyboardInterrupt  # half a count is of no use: there is nothing to save
        watcher.stage(what, done)

    ids = encode(split.train, tokenizer, progress=stage)
    model.fit(ids, encode(split.validation, tokenizer), stage)
    seconds = time.monotonic() - began
    progress = {"finished": True, "seconds": seconds, "tokens": len(ids)}
    checkpoint.save(path, architecture, model, tokenizer, {**about, "progress": progress})
    return Trained(path, model, True, seconds)


@dataclass
class _Session:
    """One stretch of gradient training, between a start or resume and the end or an interruption."""

    path: Path
    tokenizer: Tokenizer
    architecture: str
    model: Network
    trainer: Trainer
    about: Mapping[str, Any]
    watcher: Watcher
    saved: float = -math.inf
    written: int = -1

    def run(self) -> Trained:
        self.saved = time.monotonic()
        try:
            self.trainer.run(self._report, self.watcher.should_stop, self._look)
        except Stopped:
            self._save(finished=False)
            return self._trained(False)
        except TrainingFault as fault:
            self._save(finished=False)
            raise TrainingFault(f"{fault}\nsaved in {self.path}") from None
        self._save(finished=True)
        return self._trained(True)

    def _trained(self, finished: bool) -> Trained:
        return Trained(self.path, self.model.cpu().eval(), finished, self.trainer.counters.seconds)

    def _report(self, progress: Progress) -> None:
        every = max(1, (progress.steps or 1) // METRICS_LINES)
        if progress.validation is not None or progress.step // every != self.written:
            self.written = progress.step // every
            with (self.path / checkpoint.METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(progress)) + "\n")
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self._save(finished=False)
        self.watcher.progress(progress)

    def _look(self, network: Network) -> None:
        if self.watcher.sample is not None:
            generator = torch.Generator().manual_seed(self.trainer.config.seed)
            drawn = sample(
                network,
                self.tokenizer,
                "\n",
                length=SAMPLE_CHARACTERS,
                settings=Sampling(temperature=0.8),
                generator=generator,
            )
            self.watcher.sample(drawn[0])

    def _save(self, *, finished: bool) -> None:
        """Save the best weights so far, and unless finished all that `resume` needs."""
        trainer = self.trainer
        tensors = None if finished else trainer.tensors()
        last = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        if trainer.best_weights is not None and trainer.counters.joined is None:
            self.model.load_state_dict(trainer.best_weights)
        progress = {"finished": finished, **asdict(trainer.counters)}
        about = {**self.about, "training": trainer.config.to_json(), "progress": progress}
        checkpoint.save(self.path, self.architecture, self.model, self.tokenizer, about, tensors)
        if not finished:
            self.model.load_state_dict(last)
        self.saved = time.monotonic()
