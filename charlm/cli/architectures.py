"""Training every architecture on one text, for `charlm compare`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from charlm.checkpoint import CARD
from charlm.cli.live import StopRequest, TrainingView
from charlm.cli.options import refuse
from charlm.cli.report import EvaluationBars
from charlm.cli.setting_options import given
from charlm.cli.settings import (
    STEPWISE,
    architecture_options,
    check_counting,
    check_sizes,
    check_threads,
    learn_tokenizer,
    named_architectures,
)
from charlm.cli.terminal import print_message, stderr
from charlm.cli.text_options import check_encoding
from charlm.cli.texts import note_held_out, read_split
from charlm.comparison import Comparison, Contender, Plan, budget_for, compare, plan, to_train
from charlm.errors import UsageError
from charlm.evaluation import Evaluation
from charlm.models import ARCHITECTURES, CountingModel
from charlm.training import Budget, TrainingConfig, TrainingObserver, assumptions, choose_device, speed


def compare_architectures(corpora: Sequence[str], values: Mapping[str, Any], stop: StopRequest) -> Comparison:
    """Train the architectures that the options name, and compare them on the held-out text."""
    request = Request.from_options(corpora, values)
    split, history = read_split(corpora, values)
    tokenizer = learn_tokenizer(values, split)
    if values["held_out"] is not None:
        note_held_out(split, history, tokenizer)
    plans = request.plans(split.training.characters, tokenizer.vocab_size)
    sources = to_train(
        plans, split, tokenizer, history=history, folder=values["output"], device=request.device,
        seeds=values["seeds"], again=values["again"], again_disturbed=values["again_disturbed"],
    )  # fmt: skip
    titles = {name: f"{name} on {split.training.name}, {n} of {len(plans)}" for n, name in enumerate(plans, 1)}
    choices = {name: request.assumptions(name, one, split.training.characters) for name, one in plans.items()}
    observer = ComparisonView(stop, titles, choices)
    stop.graceful = True
    result = compare(
        sources, split, context=values["context"], adapt=values["adaptation"], seed=request.training.seed,
        device=request.device, proving=values["prove"], observer=observer,
    )  # fmt: skip
    by_gradient = [name for name in plans if request.equal_parameters and ARCHITECTURES[name].by_gradient]
    scaled = {name: plans[name].scaled for name in by_gradient}
    return replace(result, budget=request.training.budget, match=values["match"], scaled=scaled)


@dataclass(frozen=True)
class Request:
    """What the options of training ask for, checked before the text is read."""

    architectures: list[str]
    size: str
    options: dict[str, Any]  # of the architectures
    training: TrainingConfig
    device: torch.device
    equal_parameters: bool

    @classmethod
    def from_options(cls, corpora: Sequence[str], values: Mapping[str, Any]) -> "Request":
        """Raises UsageError for options that are wrong or have no effect."""
        names, match = named_architectures(values["arch"]), values["match"]
        check_counting(names, {"seeds", *STEPWISE} - {"seed", "device"})
        if values["adaptation"] == "all":
            check_counting(names, {"adaptation"})
        check_encoding(corpora, values["held_out"])
        check_sizes(names)
        if match == "parameters" and sum(ARCHITECTURES[name].by_gradient for name in names) < 2:
            refuse({"match"}, "makes networks equally large: name two or more with --arch, or another --match")
        budget = budget_for(match, values["budget"])
        training = TrainingConfig(**{**given(values, TrainingConfig), "budget": budget})
        device = choose_device(values["device"])
        check_threads(values["threads"], training)
        options = architecture_options(values)
        request = cls(names, values["size"], options, training, device, match == "parameters")
        request.plans(characters=0, vocab_size=1)
        _check_folder(values["output"])
        return request

    @cached_property
    def speed(self) -> float:
        """The speed of the device as `charlm.training.speed` has it."""
        return speed(self.training.precision, self.device)

    def plans(self, characters: int, vocab_size: int) -> dict[str, Plan]:
        """What each architecture is trained with on a text of so many characters."""
        return plan(
            self.architectures, self.size, self.options, self.training, characters,
            vocab_size=vocab_size if self.equal_parameters else None, speed=self.speed,
        )  # fmt: skip

    def assumptions(self, name: str, chosen: Plan, characters: int) -> str | None:
        """A line on how size and dropout were chosen; None for a model that counts."""
        if issubclass(ARCHITECTURES[name], CountingModel):
            return None
        budget = Budget.parse(self.training.budget)
        return f"{name} of {assumptions(name, self.size, chosen.config, characters, budget, self.speed)}"


def _check_folder(folder: Path | None) -> None:
    """Raises UsageError for an output that is not a folder of runs."""
    if folder and folder.exists() and not (folder.is_dir() and all(_is_run(entry) for entry in folder.iterdir())):
        raise UsageError(f"{folder} exists, and not as a folder of runs; choose another --output")


def _is_run(folder: Path) -> bool:
    """Whether this is a run, or what is left of one that was killed before its first save."""
    return folder.name.startswith(".") or (folder / CARD).is_file() or (folder.is_dir() and not any(folder.iterdir()))


@dataclass(frozen=True)
class ComparisonView(EvaluationBars):
    """Shows a comparison; of the contenders that are trained, their titles and how their sizes were chosen."""

    stop: StopRequest
    titles: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str | None] = field(default_factory=dict)

    @override
    @contextmanager
    def training(self, name: str) -> Iterator[TrainingObserver]:
        if not stderr.is_terminal:
            print_message(self.titles[name])
        if line := self.choices[name]:
            print_message(line)
        with TrainingView(self.titles[name], stop=self.stop) as view:
            yield view

    @override
    def on_measured(self, contender: Contender, evaluation: Evaluation) -> None:
        print_message(f"{contender.name}: {evaluation.bits_per_character:.3f} bits/char  {contender.path}")

    @override
    def on_found(self, path: Path, finished: bool) -> None:
        state = "trained already; --again trains it anew" if finished else "goes on where it was stopped"
        print_message(f"{path}: {state}")

    @override
    def should_stop(self) -> bool:
        return bool(self.stop())
