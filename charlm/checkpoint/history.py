"""How a run came to be, as its card has it: text, parents, settings, progress, and what it was last measured at."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

HELD_OUT, VALIDATION = "held out", "validation"

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A run's one figure: bits per character, and the text that they were measured on (HELD_OUT or VALIDATION).

    `before_joining`: not of the model as it is, but of what it was before it learned from the validation slice, too.
    `interval`: its 95 % interval; None where that is not known or infinite.
    """

    bits_per_character: float
    text: str
    before_joining: bool = False
    interval: tuple[float, float] | None = None

    @property
    def measured_on(self) -> str:
        """The text in a word or three, for a table."""
        return self.text + (", before joining" if self.before_joining else "")

    def __str__(self) -> str:
        """The figure in a sentence."""
        text = "the held-out text" if self.text == HELD_OUT else "the validation slice"
        before = ", before it joined the training text" if self.before_joining else ""
        interval = " (95 % interval {:.3f} to {:.3f})".format(*self.interval) if self.interval else ""
        return f"{self.bits_per_character:.3f} bits per character of {text}{before}{interval}"

    def to_json(self) -> dict[str, Any]:
        """For the card."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> "Result | None":
        """From the card; None where it has nothing that makes sense."""
        if not isinstance(data, Mapping):
            return None
        bits, text = data.get("bits_per_character"), data.get("text")
        if isinstance(bits, float) and math.isfinite(bits) and text in (HELD_OUT, VALIDATION):
            return cls(bits, text, bool(data.get("before_joining")), _interval(data.get("interval")))
        return None


def _interval(ends: Any) -> tuple[float, float] | None:
    """Two finite numbers, or None."""
    match ends:
        case [float(low), float(high)] if math.isfinite(low) and math.isfinite(high):
            return low, high
    return None


@dataclass(frozen=True)
class History:
    """How a run came to be: all that its card says besides model, tokenizer, versions and files.

    A part that the run does not have, or that the charlm which saved it did not write, is None or empty.
    """

    corpus: JsonObject | None = None
    """The text that it was made from, see `charlm.corpus.Origin.describe`."""
    parents: tuple[JsonObject, ...] = ()
    """The runs that it was trained on from, the nearest first: folder, SHA-256 of the weights, corpus of each."""
    plan: str | None = None
    """Of a comparison: what tells its plan from any other."""
    imported: JsonObject | None = None
    """Of an import: its file, and notes."""
    mixed: tuple[str, ...] = ()
    """The runs that `mix` made it of."""
    training: JsonObject | None = None
    """Its `TrainingConfig`."""
    progress: JsonObject | None = None
    """Whether it has finished, seconds of training, and the counters that `resume` needs."""
    weighed_on: JsonObject | None = None
    """The text that the gates of a mixture were tuned on where that is not its validation slice: size and SHA-256."""
    processor_use: JsonObject | None = None
    """The `MachineUse` of its training."""
    result: Result | None = None
    """What it was last measured at."""
    extra: JsonObject = field(default_factory=dict)
    """What else the model says of itself (`CountingModel.fit_results`)."""

    @property
    def finished(self) -> bool:
        """Whether it came to the end of its budget."""
        return bool((self.progress or {}).get("finished"))

    @property
    def seconds(self) -> float:
        """How long it was trained; 0 where that is not known."""
        seconds = (self.progress or {}).get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    @property
    def joined(self) -> int | None:
        """The step at which the validation slice joined the training text, if it has."""
        joined = (self.progress or {}).get("joined")
        return joined if isinstance(joined, int) else None

    @property
    def budget(self) -> str | None:
        """The budget it was trained with; None for models that are counted."""
        budget = (self.training or {}).get("budget")
        return budget if isinstance(budget, str) else None

    def sha256(self, part: str) -> str | None:
        """SHA-256 of a part of its corpus (training, held_out)."""
        digests = (self.corpus or {}).get("sha256")
        digest = digests.get(part) if isinstance(digests, Mapping) else None
        return digest if isinstance(digest, str) else None

    def characters(self, part: str) -> int | None:
        """How many characters a part of its corpus has (training, train, validation, held_out)."""
        counts = (self.corpus or {}).get("characters")
        count = counts.get(part) if isinstance(counts, Mapping) else None
        return count if isinstance(count, int) else None

    def to_json(self) -> dict[str, Any]:
        """Its part of the card."""
        parts = {
            "corpus": self.corpus,
            "parents": list(self.parents) or None,
            "plan": self.plan,
            "imported": self.imported,
            "mixed": list(self.mixed) or None,
            **self.extra,
            "training": self.training,
            "progress": self.progress,
            "weighed_on": self.weighed_on,
            "processor_use": self.processor_use,
            "result": self.result and self.result.to_json(),
        }
        return {name: part for name, part in parts.items() if part is not None}

    @classmethod
    def from_json(cls, data: JsonObject) -> "History":
        """From a card without what is not its part. Raises ValueError, naming it, for a part of the wrong type."""
        parts: dict[str, Any] = {name: data.get(name) for name in ("corpus", "imported", *_LATER_OBJECTS)}
        for name, part in parts.items():
            if part is not None and not isinstance(part, Mapping):
                raise ValueError(repr(name))
        if not isinstance(plan := data.get("plan"), str | None):
            raise ValueError("'plan'")
        known = {*parts, "plan", "parents", "mixed", "result"}
        return cls(
            **parts,
            plan=plan,
            parents=tuple(_list_of("parents", Mapping, data)),
            mixed=tuple(_list_of("mixed", str, data)),
            result=Result.from_json(data.get("result")),
            extra={name: value for name, value in data.items() if name not in known},
        )


_LATER_OBJECTS = ("training", "progress", "weighed_on", "processor_use")


def _list_of(name: str, kind: type, data: JsonObject) -> list[Any]:
    values = data.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ValueError(repr(name))
    return values
