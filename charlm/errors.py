"""What can go wrong for a user, and the exit code that says so.

CharlmError            1   anything a user can mend: the message says what, where, and what to do next
├── UsageError         2   an option or setting that makes no sense
├── DataError          3   a text that cannot be read or is too small
├── CheckpointError    3   a run that is missing, damaged, or from another version
└── TrainingFault      4   the numbers went wrong (a loss that is not finite)
"""

from typing import ClassVar


class CharlmError(Exception):
    """A failure that the user can understand and mend; its text is one or two lines, shown without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(CharlmError):
    """A setting outside its range, an option that does not exist, two that contradict each other."""

    exit_code = 2


class DataError(CharlmError):
    """A corpus that is missing, not text, or too small. Names the file and the place in it."""

    exit_code = 3


class CheckpointError(CharlmError):
    """A run that is missing, damaged, or made by a version that this one cannot read. Names the file."""

    exit_code = 3


class TrainingFault(CharlmError):  # noqa: N818 - nothing the user did wrong
    """Training met a loss or gradient that is not finite. The last good weights are kept."""

    exit_code = 4
