"""A whole training run: text and settings in, a saved run out. Interrupt it, resume it, go on from another."""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from charlm import checkpoint
from charlm.config import Settings
from charlm.corpus import Split, Stream, TrainingPart, encode
from charlm.errors import CheckpointError, DataError, UsageError
from charlm.models import ALL_ARCHITECTURES, CountingModel, LanguageModel, Mixture
from charlm.names import code_quoted
from charlm.progress import Listener
from charlm.threads import MachineMeter, ThreadTuner
from charlm.tokenizers import Tokenizer
from charlm.training.budget import Budget
from charlm.training.distributed import World
from charlm.training.loop import Trainer
from charlm.training.memory_limit import check_size, enough_memory
from charlm.training.mixture import MixtureTuning, learner, network_of
from charlm.training.observer import TrainingObserver
from charlm.training.plan import complete
from charlm.training.session import Session, Trained, Unsaved
from charlm.training.settings import TrainingConfig
from charlm.training.state import Counters

WITHIN_MIXTURE = 1.5  # times as long: there a model is estimated twice and reads the slice between
COUNTING_SHARE = 0.5  # of a mixture's budget of time; what counting takes above that is worth a notice


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `mps`. Raises UsageError for one that this machine has not."""
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available()))
    if name not in there or not there[name]():
        raise UsageError(
            f"{name}: not on this machine; there is {', '.join(k for k, f in there.items() if f())}", "device"
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
    history: checkpoint.History | None = None,
    device: torch.device | None = None,
    start: LanguageModel | None = None,
    observer: TrainingObserver | None = None,
    world: World | None = None,
) -> Trained:
    """Train one model on `split` and save it in the folder `path`, which is locked meanwhile.

    `training` must be complete (see `plan.complete`); `history` is what the run's card says of its corpus, parents and
    plan; `start` is a network whose weights to go on from. In a `world` of several processes all call this with the
    same text and settings, and rank 0 saves. When the observer stops it, the run is saved so that `resume` can go on;
    before there is anything to save it raises Unsaved, a KeyboardInterrupt. Raises TrainingFault, with the last good
    weights saved, when the numbers go wrong, CharlmError when memory or disk are full or another process trains there.
    """
    observer, history = observer or TrainingObserver(), history or checkpoint.History()
    part, settings = learner(architecture, config)
    training = complete(training, part)
    world = world or World()
    with _locked(path, world), _arithmetic(training), enough_memory(part, settings, training):
        check_size(part, settings, tokenizer.vocab_size, training)
        model = ALL_ARCHITECTURES[architecture](config, tokenizer.vocab_size)
        model.read_vocabulary(tokenizer.whole_texts)
        if start is not None:
            model.load_state_dict(start.state_dict())
        if isinstance(model, CountingModel):
            return _count(path, split, tokenizer, architecture, model, training, history, observer, world)
        trainer = _trainer(model, split, tokenizer, training, device, observer, world)
        trainer.expect_frequencies(anew=start is None)
        return Session(path, tokenizer, architecture, model, trainer, history, observer).run()


def resume(
    run: checkpoint.Run,
    split: TrainingPart,
    *,
    budget: str | None = None,
    device: torch.device | None = None,
    observer: TrainingObserver | None = None,
    world: World | None = None,
) -> Trained:
    """Go on with an interrupted run (loaded with `resume=True`) over the same text, as if nothing had happened.

    With a `budget`, for the whole run, it trains until that is used up; and a finished run, loaded without, trains on:
    the learning rate rises and falls once more. Raises UsageError for a budget that is used up already.
    """
    where = str(run.path / checkpoint.CARD)
    if isinstance(run.model, CountingModel):
        raise CheckpointError(f"{run.path}: a model that is counted cannot be resumed: train it again")
    history = run.history
    if history.mixed:
        raise CheckpointError(f"{run.path}: mixed of other runs: train those on, then mix them again")
    training = TrainingConfig.from_json(history.training, where, CheckpointError)
    part, settings = learner(run.architecture, run.model.config)
    training, observer = complete(training, part), observer or TrainingObserver()
    usual = training.budget
    training = replace(training, budget=budget or usual)
    world = world or World()
    with _locked(run.path, world), _arithmetic(training), enough_memory(part, settings, training):
        joined = history.joined is not None
        try:
            trainer = _trainer(run.model, split, run.tokenizer, training, device, observer, world, joined=joined)
        except Unsaved:  # nothing new: the run is as it was
            return Trained(run.path, run.model, False, 0.0)
        _go_on(run, trainer, Budget.parse(usual), budget)
        if checkpoint.read_card(run.path).history.progress != history.progress:
            raise CheckpointError(f"{run.path}: another process has trained it on meanwhile; resume it once more")
        return Session(run.path, run.tokenizer, run.architecture, run.model, trainer, history, observer).run()


def _go_on(run: checkpoint.Run, trainer: Trainer, usual: Budget, larger: str | None) -> None:
    """Give the trainer of a run what the run was saved with; a finished one begins again under a larger budget."""
    best = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    try:
        progress = {name: value for name, value in (run.history.progress or {}).items() if name != "finished"}
        counters, finished = Counters.from_json(progress, usual), not run.resume
        if larger:
            steps, patience = trainer.counters.steps, trainer.config.patience
            counters = counters.extended(larger, steps, patience=patience, finished=finished)
        if larger and finished:
            trainer.extend(counters)
        else:
            trainer.resume(run.resume, counters, best)
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, IndexError) as problem:
        why = (str(problem).splitlines() or [""])[0][:100]
        raise CheckpointError(
            f"{run.path}: cannot be resumed: {why}; "
            f"`train(TEXT, start={code_quoted(run.path)})` starts from its weights"
        ) from None


def _locked(path: Path, world: World) -> AbstractContextManager[None]:
    """The folder of the run, locked by the rank that writes there."""
    return checkpoint.locked(path) if world.is_main else nullcontext()


def _stage(observer: TrainingObserver) -> Listener:
    """Passes on to the observer how far encoding and counting are. It may stop these too: nothing is saved by then."""

    def on_stage(what: str, done: float) -> None:
        if observer.should_stop():
            raise Unsaved
        observer.on_stage(what, done)

    return on_stage


@contextmanager
def _arithmetic(training: TrainingConfig) -> Iterator[None]:
    """The run's own random numbers and, if it is to be deterministic, one thread and reproducible kernels only."""
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        try:
            if training.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS: reproducible results
                torch.set_num_threads(1)
                torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(before)


def _trainer(
    model: LanguageModel,
    split: TrainingPart,
    tokenizer: Tokenizer,
    training: TrainingConfig,
    device: torch.device | None,
    observer: TrainingObserver,
    world: World,
    *,
    joined: bool = False,
) -> Trainer:
    """A trainer of the model's network; it tunes the gates of a mixture unless the slice has `joined` before."""
    stage = _stage(observer)
    ids, validation = _encoded(split, tokenizer, stage, world)
    mixture = None
    if isinstance(model, Mixture) and not joined:
        if world.is_main:
            _warn_of_counting(model.each(), ids, training, observer)
        mixture = MixtureTuning(model, ids, validation, stage, world)
    network = network_of(model).to(world.device if world.size > 1 else device or "cpu")
    adapts = (
        Budget.parse(training.budget).seconds
        and not training.deterministic
        and (device is None or device.type == "cpu")
    )
    tuner = ThreadTuner() if adapts else None  # equal steps are to give equal weights, so they keep their threads
    return Trainer(network, ids, validation, training, split.train.characters / len(ids), tuner, mixture, world)


def _encoded(split: TrainingPart, tokenizer: Tokenizer, stage: Listener, world: World) -> tuple[Stream, Stream]:
    """The ids of the training text and of the validation slice, which rank 0 encodes for all if there is a cache."""
    _check_same_text(split, tokenizer, world)
    with world.main_first():
        return encode(split.train, tokenizer, progress=stage), encode(split.validation, tokenizer, progress=stage)


def _check_same_text(split: TrainingPart, tokenizer: Tokenizer, world: World) -> None:
    """Raises DataError on a rank that reads another text than rank 0, or cuts it into other tokens."""
    if world.size == 1:
        return
    text = f"{split.train.sha256} {split.validation.sha256} {tokenizer.fingerprint}"
    if world.text_of_main(text) != text:
        raise DataError(f"process {world.rank} has another text or tokenizer than process 0")


def _warn_of_counting(
    members: Iterable[LanguageModel], ids: Stream, training: TrainingConfig, observer: TrainingObserver
) -> None:
    """Say before counting that it takes most of a budget of time, or more: it is not cut short."""
    members, budget = list(members), Budget.parse(training.budget).seconds
    if budget is None:
        return
    needed = max([member.estimated_seconds(ids) for member in members if isinstance(member, CountingModel)], default=0)
    needed *= WITHIN_MIXTURE if len(members) > 1 else 1
    if needed <= budget * (COUNTING_SHARE if len(members) > 1 else 1):
        return
    counting = f"counting takes about {needed:.0f} s here"
    if len(members) == 1:
        observer.on_notice(f"{counting}, more than the budget of {training.budget}")
    else:
        observer.on_notice(
            f"{counting} of the budget of {training.budget}: the network trains for what is left, at least one step; "
            f"a budget of {2 * needed:.0f}s would leave it half"
        )


def _count(
    path: Path,
    split: Split,
    tokenizer: Tokenizer,
    architecture: str,
    model: CountingModel,
    training: TrainingConfig,
    history: checkpoint.History,
    observer: TrainingObserver,
    world: World,
) -> Trained:
    begin, meter, stage = time.monotonic(), MachineMeter(), _stage(observer)
    ids, validation = _encoded(split, tokenizer, stage, world)
    if world.is_main:
        _warn_of_counting([model], ids, training, observer)
    model.fit_together(world, ids, validation, stage)
    seconds = time.monotonic() - begin
    if not world.is_main:
        return Trained(path, model, True, seconds)
    progress = {"finished": True, "seconds": seconds, "tokens": len(ids)}
    result = None
    if (nats := model.validation_nats) is not None and math.isfinite(nats):
        bits = nats / math.log(2) * len(validation) / split.validation.characters
        result = checkpoint.Result(bits, checkpoint.VALIDATION, before_joining=True)
    use = meter.use().to_json()
    history = replace(history, extra=model.fit_results, progress=progress, processor_use=use, result=result)
    checkpoint.save(path, architecture, model, tokenizer, history)
    checkpoint.keep_metrics(path, 0)  # not those of a run that was there before
    return Trained(path, model, True, seconds)
