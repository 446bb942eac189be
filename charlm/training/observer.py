"""Who is told how a training run goes, and may stop it."""

from dataclasses import dataclass

from charlm.models import LanguageModel


@dataclass(frozen=True)
class Progress:
    """Where a training run stands. Losses are in bits per character; `validation` only right after one was made.

    `training` is a running mean, which lags behind; `loss` the mean over the steps since the last progress alone.
    """

    step: int
    steps: int | None  # None while the budget is still being measured
    seconds: float
    seconds_left: float | None
    characters_per_second: float
    learning_rate: float
    training: float
    validation: float | None
    best: float | None
    loss: float | None = None


class TrainingObserver:
    """Receives what happens in a training run. Subclasses override what they need; here every method does nothing.

    All methods are called in the thread that trains, between two steps; the time they take is part of the budget.
    """

    wants_samples = False
    """Whether to draw a sample after each validation for `on_sample`."""

    def on_stage(self, what: str, done: float) -> None:
        """Before the first step: what is being done (encoding, counting), and which fraction of it is done."""

    def on_progress(self, progress: Progress) -> None:
        """A few times a second, and after each validation."""

    def on_validation(self, network: LanguageModel) -> None:
        """After each validation, with the network in eval mode."""

    def on_sample(self, text: str) -> None:
        """What the network writes after a validation."""

    def on_notice(self, sentence: str) -> None:
        """Something the user did not ask for and should know."""

    def should_stop(self) -> bool:
        """Whether to save and stop; asked before each step and while the text is encoded or counted."""
        return False
