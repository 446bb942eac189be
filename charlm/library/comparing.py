"""Architectures on one text: which predicts it best, and by how much."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from charlm import checkpoint, comparison
from charlm.corpus import Origin, ReadingLog
from charlm.errors import CharlmError, UsageError
from charlm.library.progress import ComparisonBars
from charlm.library.training import Chosen, Corpus, Value, origin_of
from charlm.models import ARCHITECTURES, SINGLE
from charlm.report import as_notebook
from charlm.training import TrainingConfig, choose_device, speed

if TYPE_CHECKING:
    import pandas

GAP = "  "  # between two columns


@dataclass(frozen=True, repr=False)
class Comparison(comparison.Comparison):
    """What `compare` found: `rows` from best to worst. It prints as a table; a notebook shows the plots as well.

    >>> result = charlm.compare("corpus.txt", ["rnn", "ngram"], budget="20steps", order=3)
    >>> sorted({row.architecture for row in result.rows})
    ['ngram', 'rnn']
    """

    @override
    def __str__(self) -> str:
        headings, lines = comparison.table(self)
        cells = [headings, *([cell.text for cell in line.cells] for line in lines)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rows = [
            GAP.join(
                cell.rjust(width) if n else cell.ljust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        return "\n".join(row.rstrip() for row in rows)

    @override
    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For notebooks: the table and the plots."""
        return as_notebook(self)

    def to_frame(self) -> "pandas.DataFrame":
        """A pandas DataFrame of a row a model, from best to worst, then the baselines; columns as in CSV.

        Raises CharlmError where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise CharlmError("to_frame() needs pandas: pip install pandas") from None
        return pandas.DataFrame(comparison.records(self))


def compare(
    corpus: Corpus,
    architectures: Sequence[str] = SINGLE,
    *,
    budget: str | None = None,
    match: str | None = None,
    size: str = "auto",
    tokenizer: str = "characters",
    held_out: str | Path | None = None,
    encoding: str = "utf-8",
    output: str | Path | None = None,
    seeds: int = 1,
    device: str = "auto",
    adapt: str | None = None,
    observer: comparison.ComparisonObserver | None = None,
    **settings: Value,
) -> Comparison:
    """Train `architectures` on a text, each within `budget`, and evaluate them on the text held out.

    `corpus`, `size`, `tokenizer`, `held_out`, `encoding`, `device` and `settings` are those of `train`; a setting goes
    to every architecture that has it. `match` says what is equal for all: seconds (by default, 30s), tokens or
    parameters. With several `seeds` each network is trained as often. `adapt` is that of `Run.evaluate`, as far as each
    model can. Runs are saved in the folder `output`, by default checkpoints/; one that an earlier comparison left is
    taken as it is.

    Raises what `train` raises; an architecture whose numbers go wrong is left out and noted in `faults`.

    >>> result = charlm.compare("corpus.txt", ["rnn", "ngram"], budget="20steps", order=3)
    >>> result.rows[0].evaluation.bits_per_character <= result.rows[1].evaluation.bits_per_character
    True
    >>> str(result).split()[:2]
    ['model', 'bits/char']
    """
    for name in architectures:
        if name not in ARCHITECTURES:
            raise UsageError(f"must be some of {', '.join(ARCHITECTURES)}, not {name!r}", "architectures")
    chosen = Chosen.of(tokenizer, {**settings, "budget": comparison.budget_for(match, budget)})
    origin, folder = origin_of(corpus, held_out, encoding), None if output is None else Path(output)
    return _compared(
        origin, architectures, size, chosen, match, folder, seeds, device, adapt, observer or ComparisonBars()
    )


def _compared(
    origin: Origin,
    architectures: Sequence[str],
    size: str,
    chosen: Chosen,
    match: str | None,
    folder: Path | None,
    seeds: int,
    device: str,
    adapt: str | None,
    observer: comparison.ComparisonObserver,
) -> Comparison:
    config, target, log = TrainingConfig(**chosen.of_training), choose_device(device), ReadingLog()
    split = origin.open(log)
    learned, equal = chosen.learn(split), match == "parameters"
    plans = comparison.plan(
        architectures,
        size,
        chosen.of_model,
        config,
        split.training.characters,
        vocab_size=learned.vocab_size if equal else None,
        speed=speed(config.precision, target),
    )
    history = checkpoint.History(corpus=origin.describe(split, log))
    sources = comparison.to_train(plans, split, learned, history=history, folder=folder, device=target, seeds=seeds)
    result = comparison.compare(sources, split, adapt=adapt, seed=config.seed, device=target, observer=observer)
    scaled = {name: plan.scaled for name, plan in plans.items() if equal and ARCHITECTURES[name].by_gradient}
    result = replace(result, budget=config.budget, match=match, scaled=scaled)
    return Comparison(**{field.name: getattr(result, field.name) for field in fields(result)})
