"""What is learned from, what is tuned on, and what is held out."""

from dataclasses import dataclass

from charlm.corpus.text import Text
from charlm.errors import DataError

MIN_CHARACTERS = 100
"""Characters that a corpus must have to be split."""

_MAX_VALIDATION_CHARACTERS = 1_000_000
_MIN_VALIDATION_CHARACTERS = 1_000


@dataclass(frozen=True)
class TrainingPart:
    """What is learned from. `training` is `train` followed by `validation`: all that a counting model may count."""

    training: Text
    train: Text
    validation: Text


@dataclass(frozen=True)
class Split(TrainingPart):
    """A corpus in parts: what is learned from, and what is held out."""

    held_out: Text


def split(text: Text, held_out: Text | None = None) -> Split:
    """The first 90 % of the characters for training and the rest held out; all for training if `held_out` is given.

    The validation slice is the last 5 % of the training part, at most 1,000,000 characters and at least 1,000 (but
    never more than a fifth). Raises DataError if there are fewer than `MIN_CHARACTERS` characters.
    """
    if text.characters < MIN_CHARACTERS:
        raise DataError(f"{text.name}: {text.characters} characters are too few to split; {MIN_CHARACTERS} are needed")
    if held_out is not None and not held_out.characters:
        raise DataError(f"{held_out.name}: the held-out text is empty")
    end = text.characters if held_out is not None else text.characters * 9 // 10
    parts = _validation_apart(text.slice(0, end))
    return Split(*parts, held_out=held_out if held_out is not None else text.slice(end))


def training_part(text: Text) -> TrainingPart:
    """All of a text for training, as `split` with a held-out text has it."""
    return TrainingPart(*_validation_apart(text))


def _validation_apart(training: Text) -> tuple[Text, Text, Text]:
    """The training part, what comes before its validation slice, and the slice."""
    end = training.characters
    size = min(max(end // 20, min(_MIN_VALIDATION_CHARACTERS, end // 5)), _MAX_VALIDATION_CHARACTERS)
    return training, training.slice(0, end - size), training.slice(end - size)
