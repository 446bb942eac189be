"""What a comparison found: a row a contender, what was equal for all of them, and what was not."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np

from charlm.checkpoint import Card, History
from charlm.comparison.provenance import pace_of
from charlm.comparison.sources import FROZEN
from charlm.compression import Proof
from charlm.corpus import Split
from charlm.evaluation import Difference, Evaluation, paired_difference, with_seeds
from charlm.threads import DISTURBED
from charlm.tokenizers import Tokenizer
from charlm.training import Budget


@dataclass(frozen=True)
class Conditions:
    """What a contender was trained with, as its run says it; None for what it does not say or does not have.

    A model that is counted has no budget: it reads its text once.
    """

    training_text: str | None
    vocabulary: str
    budget: str | None

    @classmethod
    def from_card(cls, card: Card, tokenizer: Tokenizer) -> "Conditions":
        """From a run's checkpoint.json and its tokenizer."""
        return cls(_training_text(card.history), _vocabulary(tokenizer), card.history.budget)


def _training_text(history: History) -> str | None:
    characters, sha256 = history.characters("training"), history.sha256("training")
    return None if characters is None or sha256 is None else f"{characters:,} characters (SHA-256 {sha256[:8]}…)"


def _vocabulary(tokenizer: Tokenizer) -> str:
    """All that decides an id; not which characters training showed, which may differ where that does not."""
    ids = tokenizer.ids_in_words(tokenizer.vocab_size)
    return f"{tokenizer.kind}, {ids} (SHA-256 {tokenizer.fingerprint[:8]}…)"


CONDITIONS = {"training_text": "training text", "vocabulary": "tokenizer", "budget": "budget"}
"""What to call each of the conditions."""


@dataclass(frozen=True)
class Row:
    """One contender's result. `difference` is its bits per character minus those of the best.

    With several seeds the figures are means over their `runs`, the seeds' own bits per character are `seeds`; their
    spread is part of `interval` and `difference`. `frozen`: a model that adapts to what it reads, kept from it. Each
    run's `provenance` says how it was made; `proof`, if one was asked for, that the text was stored in those bits.
    """

    runs: tuple[Path, ...]
    architecture: str
    frozen: bool
    tokenizer: str
    conditions: Conditions
    provenance: tuple[dict[str, Any], ...]
    parameters: int
    training_seconds: float
    finished: bool
    evaluation: Evaluation
    difference: Difference
    seeds: tuple[float, ...]
    sample: str
    proof: Proof | None = None

    @property
    def run(self) -> Path:
        """The run of the first seed."""
        return self.runs[0]

    @property
    def adapts(self) -> bool:
        """Whether it goes on learning from the text that it is evaluated on."""
        return self.evaluation.adapt != "none"

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of its bits per character, over texts and seeds; infinite for a text too short to tell."""
        e = self.evaluation
        return with_seeds(e.bits_per_character, e.interval, len(e.block_bits), self.seeds)

    def minus(self, other: "Row") -> Difference:
        """Its bits per character minus those of another row, with the 95 % interval over texts and seeds."""
        return paired_difference(self.evaluation, other.evaluation, seeds=(self.seeds, other.seeds))

    @property
    def timed(self) -> bool:
        """Whether its budget was one of time, so that a busy machine made it learn less."""
        budget = self.conditions.budget
        return budget is not None and Budget.parse(budget).seconds is not None

    @property
    def pace(self) -> float:
        """The share of its usual pace at which it trained, the least over the seeds: below 1 on a busy machine."""
        return min((pace_of(run["processor_use"]) for run in self.provenance), default=1.0)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the bits per character over the seeds; None for one."""
        return stdev(self.seeds) if len(self.seeds) > 1 else None

    @property
    def characters_per_second(self) -> float:
        """How fast it reads the held-out text."""
        return self.evaluation.characters / max(self.evaluation.seconds, 1e-9)

    @property
    def upper_bound(self) -> bool:
        """Whether its figures are only bounds: of the segmentations that a text has, one was scored."""
        return self.tokenizer == "sentencepiece"

    def to_json(self) -> dict[str, Any]:
        """Every figure by its name; ends of intervals that are infinite are null."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        own = {
            "runs": [str(run) for run in self.runs],
            "conditions": dataclasses.asdict(self.conditions),
            "provenance": list(self.provenance),
            "difference": _finite(dataclasses.asdict(self.difference)),
            "seeds": list(self.seeds),
            "proof": None if self.proof is None else self.proof.to_json(),
        }
        del named["evaluation"]
        derived = {name: getattr(self, name) for name in ("spread", "characters_per_second", "upper_bound")}
        interval = list(_finite(dict(zip(("low", "high"), self.interval, strict=True))).values())
        return {"run": str(self.run), **named, **own, **derived, **self.evaluation.to_json(), "interval": interval}


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no infinity: null instead."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


class Pair(NamedTuple):
    """Two rows by their names, and the bits per character of the first minus those of the second."""

    name: str
    against: str
    difference: Difference

    def to_json(self) -> dict[str, Any]:
        """Ends of intervals that are infinite are null."""
        return {"name": self.name, "against": self.against, **_finite(dataclasses.asdict(self.difference))}


def mean_row(rows: Sequence[Row]) -> Row:
    """One row of several, which differ in their seed: bits are summed block by block before anything is divided."""
    first, *_ = rows
    proofs = [row.proof for row in rows if row.proof is not None]
    evaluations = [row.evaluation for row in rows]
    evaluation = replace(
        first.evaluation,
        block_bits=np.mean([e.block_bits for e in evaluations], axis=0),
        unseen_bits=fmean(e.unseen_bits for e in evaluations),
        seconds=fmean(e.seconds for e in evaluations),
    )
    return replace(
        first,
        runs=tuple(run for row in rows for run in row.runs),
        provenance=tuple(one for row in rows for one in row.provenance),
        training_seconds=fmean(row.training_seconds for row in rows),
        finished=all(row.finished for row in rows),
        evaluation=evaluation,
        seeds=tuple(bits for row in rows for bits in row.seeds),
        proof=Proof.mean(proofs) if len(proofs) == len(rows) else None,
    )


@dataclass(frozen=True)
class Comparison:
    """Rows from best to worst, and bits per character of what needs no model (empty if stopped).

    `faults` says of each contender that failed why; `interrupted` is the run that was saved unfinished, if one was.
    `budget` and `match` are what was asked for; None where runs were compared as they are. `scaled` says, where the
    parameters were to be equally many, which setting of each network was chosen for that; None where it has none.
    """

    split: Split
    rows: tuple[Row, ...]
    baselines: Mapping[str, float]
    faults: Mapping[str, str]
    stopped: bool
    interrupted: Path | None
    budget: str | None = None
    match: str | None = None
    scaled: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What tells the rows apart: their architectures, the names of their runs, or else where these lie."""
        for name in (lambda row: row.architecture, lambda row: row.run.resolve().name, lambda row: str(row.run)):
            names = [name(row) + (FROZEN if row.frozen else "") for row in self.rows]
            if len(set(names)) == len(names):
                break
        return names

    def pairs(self) -> list[Pair]:
        """Every two rows, the worse one first: how much it costs more than the other."""
        named = list(zip(self.names, self.rows, strict=True))
        return [
            Pair(name, better, row.minus(other)) for n, (name, row) in enumerate(named) for better, other in named[:n]
        ]

    def disturbed(self) -> list[tuple[str, Row]]:
        """The rows of a budget of time that others' work on the machine cost more than a fifth of their pace."""
        named = zip(self.names, self.rows, strict=True)
        return [(name, row) for name, row in named if not row.frozen and row.timed and row.pace < DISTURBED]

    def conditions(self) -> dict[str, dict[str, list[str]]]:
        """Of each of the `CONDITIONS`: which values it had, and for which rows. One value: it was equal for all."""
        names_by_value: dict[str, dict[str, list[str]]] = {field: {} for field in CONDITIONS}
        for name, row in zip(self.names, self.rows, strict=True):
            for field, values in names_by_value.items():  # of a run that has two rows, those of one
                if not row.frozen and (value := getattr(row.conditions, field)) is not None:
                    values.setdefault(value, []).append(name)
        return {CONDITIONS[field]: values for field, values in names_by_value.items()}
