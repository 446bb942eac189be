"""How long work looks in a notebook: a bar that goes when the work is done. Elsewhere the library shows nothing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from typing_extensions import override

from charlm.comparison import ComparisonObserver
from charlm.progress import Listener, silent
from charlm.training import Progress, TrainingObserver


@contextmanager
def training_bar(title: str) -> Iterator[TrainingObserver]:
    """A bar for one training run."""
    with _bars() as bars:
        yield _TrainingBar(bars, title) if bars else TrainingObserver()


class ComparisonBars(ComparisonObserver):
    """A bar for each contender as it trains, and as it is evaluated."""

    @override
    def training(self, name: str) -> AbstractContextManager[TrainingObserver]:
        return training_bar(name)

    @override
    @contextmanager
    def evaluating(self, name: str) -> Iterator[Listener]:
        with _bars() as bars:
            yield _moving(bars, name) if bars else silent


@contextmanager
def _bars() -> Iterator[Bars | None]:
    console = Console()
    if not console.is_jupyter:
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        yield bars


def _moving(bars: Bars, title: str) -> Listener:
    task = bars.add_task(title, total=1.0)
    return lambda what, done: bars.update(task, description=f"{title}: {what}", completed=done)


class _TrainingBar(TrainingObserver):
    def __init__(self, bars: Bars, title: str) -> None:
        self.bars, self.title = bars, title
        self.task: TaskID = bars.add_task(title, total=1.0)

    @override
    def on_stage(self, what: str, done: float) -> None:
        self.bars.update(self.task, description=f"{self.title}: {what}", completed=done)

    @override
    def on_progress(self, progress: Progress) -> None:
        done = progress.step / progress.steps if progress.steps else 0.0
        loss = f"{self.title}: {progress.training:.3f} bits per character"
        self.bars.update(self.task, description=loss, completed=done)

    @override
    def on_notice(self, sentence: str) -> None:
        self.bars.console.print(sentence)
