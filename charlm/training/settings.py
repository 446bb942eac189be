"""What a training run can be told, whatever the architecture."""

from dataclasses import dataclass

from charlm.config import Settings, setting
from charlm.errors import UsageError
from charlm.training.budget import Budget
from charlm.training.optimizers import OPTIMIZERS
from charlm.training.schedule import SCHEDULES

OWN = "the architecture's own"


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Settings of the training loop. `None` stands for the architecture's own choice (its `Policy`)."""

    budget: str = setting("2m", "how long: 90s, 5m, 2h, 10epochs, 50Mtokens or 3000steps")
    batch: int | None = setting(None, "streams read side by side", min=1, unset=OWN)
    segment: int | None = setting(
        None,
        "tokens of each stream per step, as far as gradients reach; a Transformer's is never below its window",
        min=1,
        unset=OWN,
    )
    optimizer: str | None = setting(None, "how gradients become steps", choices=tuple(OPTIMIZERS), unset=OWN)
    learning_rate: float | None = setting(None, "highest learning rate", above=0.0, unset=OWN)
    schedule: str = setting("warmup-stable-decay", "how the learning rate falls", choices=tuple(SCHEDULES))
    weight_decay: float | None = setting(
        None, "shrinks the matrices a little at each step", min=0.0, unset="the optimizer's own"
    )
    clip: float = setting(1.0, "longest gradient (L2 norm) let through; 0 for no clipping", min=0.0)
    patience: int = setting(0, "stop after this many validations without a new best; 0 never stops early", min=0)
    join: bool = setting(True, "half-way through learn from the validation slice, too, starting from the best weights")
    precision: str = setting(
        "auto",
        "precision of the arithmetic; auto is bfloat16 where the processor is built for it",
        choices=("auto", "float32", "bfloat16"),
    )
    compile: bool = setting(False, "compile the step (torch.compile, needs a C++ compiler): slow to start, then faster")
    seed: int = setting(
        0, "start of all randomness: same seed, same machine, same steps, same weights", min=0, max=2**63 - 1
    )
    deterministic: bool = setting(
        False, "one thread and reproducible kernels only: the same weights however many threads there are; slower"
    )
    save_every: str = setting(
        "auto",
        "time between saves: 30s, 5m; auto: 60s, or longer where saving would take over 1 % of the time",
    )

    def __post_init__(self) -> None:
        """The amounts must read."""
        super().__post_init__()
        Budget.parse(self.budget)
        if self.save_every != "auto" and Budget.parse(self.save_every, "save_every").seconds is None:
            raise UsageError(f"{self.save_every!r} is not a time: try 30s or 5m", "save_every")
