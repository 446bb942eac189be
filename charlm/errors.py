"""What can go wrong for a user, and the exit code that says so.

CharlmError            1   anything a user can mend: the message says what, where, and what to do next
├── UsageError         2   a setting that makes no sense
├── DataError          3   a text that cannot be read or is too small
├── CheckpointError    3   a run that is missing, damaged, or from another version
└── TrainingFault      4   the loss or a gradient is not finite

A message names settings as Python has them, between backquotes: `top_k`, `weight_decay=0.1`, and calls as
`train(resume='run')`. Each surface may spell them in its own way: charlm/cli/spelling.py makes options of them.
"""


class CharlmError(Exception):
    """A failure that the user can understand and mend; its text is one or two lines, shown without a traceback."""

    exit_code = 1


class UsageError(CharlmError):
    """A setting outside its range, one that does not exist, two that contradict each other.

    `setting` is the name of the one at fault, as a Python user types it, and `problem` what is wrong with it:
    `UsageError("must be at least 0, not -3", "top_k")`. Where no single setting is at fault, the problem says it all.
    """

    exit_code = 2

    def __init__(self, problem: str, setting: str | None = None) -> None:
        super().__init__(problem, setting)  # as its arguments are, so that it can be pickled
        self.problem, self.setting = problem, setting

    def __str__(self) -> str:
        return self.problem if self.setting is None else f"`{self.setting}` {self.problem}"


class DataError(CharlmError):
    """A corpus that is missing, not text, or too small. Names the file and the place in it."""

    exit_code = 3


class CheckpointError(CharlmError):
    """A run that is missing, damaged, or made by a version that this one cannot read. Names the file."""

    exit_code = 3


class TrainingFault(CharlmError):  # noqa: N818 - nothing the user did wrong
    """Training met a loss or gradient that is not finite. The last good weights are kept."""

    exit_code = 4
