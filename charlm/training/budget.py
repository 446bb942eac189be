"""How long to train: `90s`, `5m`, `2h`, `10epochs`, `50Mtokens`, `3000steps`."""

import math
import re
from dataclasses import dataclass

from charlm.errors import UsageError

MEASURED_SHARES = (0.05, 0.25, 0.5, 0.75, 0.9)
"""Of a budget of time: when to find out, and to correct, how many steps it buys; machines have busy minutes."""

UNITS = {
    **dict.fromkeys(("s", "sec", "seconds"), ("seconds", 1.0)),
    **dict.fromkeys(("m", "min", "minutes"), ("seconds", 60.0)),
    **dict.fromkeys(("h", "hours"), ("seconds", 3600.0)),
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1.0)),
    **dict.fromkeys(("token", "tokens"), ("tokens", 1.0)),
    **dict.fromkeys(("Ktokens", "ktokens"), ("tokens", 1e3)),
    **dict.fromkeys(("Mtokens", "mtokens"), ("tokens", 1e6)),
    **dict.fromkeys(("step", "steps"), ("steps", 1.0)),
}


@dataclass(frozen=True)
class Budget:
    """An amount of training, in `unit` seconds, epochs, tokens or steps."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str, setting: str = "budget") -> "Budget":
        """From what a user types for this setting. Raises UsageError with examples."""
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]+)\s*", text)
        unit, factor = UNITS.get(match[2], ("", 0.0)) if match else ("", 0.0)
        if not match or not unit or not 0 < float(match[1]) < math.inf:
            raise UsageError(f"{text!r} is not an amount: try 90s, 5m, 2h, 10epochs, 50Mtokens or 3000steps", setting)
        return cls(float(match[1]) * factor, unit)

    @property
    def seconds(self) -> float | None:
        """The budget in seconds, or None where it is not one of time."""
        return self.amount if self.unit == "seconds" else None

    def steps(self, tokens_per_step: int, tokens_per_epoch: int) -> int | None:
        """The number of optimizer steps, at least 1; None for a budget of time, whose speed must be measured."""
        tokens = {"epochs": self.amount * tokens_per_epoch, "tokens": self.amount}.get(self.unit)
        if tokens is not None:
            return max(1, round(tokens / tokens_per_step))
        return max(1, round(self.amount)) if self.unit == "steps" else None
