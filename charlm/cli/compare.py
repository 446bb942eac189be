"""`charlm compare`: which architecture predicts a text best."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from charlm.checkpoint import CARD, History, find_run, is_run
from charlm.cli.live import Stopping, TrainingView, errors, stop_on_signal
from charlm.cli.options import (
    CONTEXT,
    GroupedCommand,
    apply,
    check_encoding,
    check_name,
    corpus_options,
    given,
    moved_options,
    option,
    refuse,
    refuse_all_but,
)
from charlm.cli.ranking import as_csv, as_json, as_table
from charlm.cli.report import EvaluationBars, write_report
from charlm.cli.runs import offered_with_files
from charlm.cli.settings import run_options
from charlm.cli.spelling import spelled
from charlm.cli.texts import note_held_out, note_learned_by, origin_of, tell
from charlm.cli.train import STEPWISE, check_counting, check_sizes, check_threads, learn_tokenizer
from charlm.cli.typeset import as_latex, as_markdown
from charlm.comparison import (
    MATCHES,
    Comparison,
    Contender,
    budget_for,
    compare,
    plan,
    to_train,
    trained_already,
)
from charlm.corpus import ReadingLog
from charlm.errors import TrainingFault, UsageError
from charlm.evaluation import Evaluation
from charlm.models import ARCHITECTURES, SINGLE, CountingModel
from charlm.names import shell_quoted
from charlm.report import check_output
from charlm.training import SIZES, Budget, TrainingConfig, TrainingObserver, assumptions, choose_device, speed

DEFAULT_CORPUS = "builtin:python-reference"
FORMATS: dict[str, Callable[[Comparison, bool], None]] = {
    "json": lambda result, _: as_json(result),
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}
"""How else to print a comparison, by the name of the option."""
FOR_RUNS = {
    "corpora",
    "corpus_moved",
    "held_out",
    "context",
    "seed",
    "device",
    "threads",
    "report",
    "pairs",
    "prove",
    *FORMATS,
}  # what trained runs can still be told


@click.command("compare", cls=GroupedCommand)
@click.argument("corpora", nargs=-1, metavar="[CORPUS_OR_RUNS]...", shell_complete=offered_with_files)
@option(
    "--arch",
    multiple=True,
    help=f"Kinds of model, with commas: {', '.join(ARCHITECTURES)}.  [default: all but mixture]",
)
@option(
    "--budget",
    default=None,
    help=f"How long each: 90s, 5m, 2h, 10epochs, 50Mtokens, 3000steps.  [default: {budget_for(None, None)}]",
)
@option(
    "--match",
    type=click.Choice(list(MATCHES)),
    default=None,
    help="What to make equal: the budget, of time or of tokens; or, by width, the parameters as well.  "
    "[default: what --budget counts]",
)
@option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds; shows their mean.")
@option("--again", is_flag=True, help="Train anew what an earlier comparison has trained.")
@option("--again-disturbed", is_flag=True, help="Train anew what was trained while the machine was busy.", rare=True)
@option("--size", type=click.Choice(SIZES), default="auto", show_default=True, help="Size of the models.")
@apply(corpus_options)
@option("--context", type=int, default=None, help=CONTEXT, rare=True)
@option(
    "--prove", is_flag=True, rare=True, help="Store the text in the bits that each model claims, and decode it again."
)
@option("--output", "-o", type=click.Path(path_type=Path), help="Folder for the runs.  [default: checkpoints]")
@option("--report", type=click.Path(path_type=Path), help="Make a page as well, an HTML file.  [default: none]")
@option("--pairs", is_flag=True, help="Show every two models' difference and its interval, too; with --csv only those.")
@option("--json", is_flag=True, help="Print JSON: the pairs, all settings, versions and hashes, too.")
@option("--csv", is_flag=True, help="Print CSV.")
@option("--markdown", is_flag=True, help="Print a Markdown table.", rare=True)
@option("--latex", is_flag=True, help="Print a LaTeX table, for the booktabs package.", rare=True)
@apply(moved_options[:1])
@apply(run_options)
def command(corpora: tuple[str, ...], pairs: bool, **values: Any) -> int:
    """Train every architecture on one text and say which predicts the rest of it best, in bits per character.

    CORPUS is what `charlm train` takes, by default builtin:python-reference. Runs, named by folder or by name, are
    compared as they are. Ctrl-C saves and shows what is done; the same command goes on from there, and trains nothing
    twice.
    """
    if values["again"] and values["again_disturbed"]:
        raise UsageError("--again trains all anew, those that were slowed down included: give one of the two")
    if values["prove"]:
        refuse({"context"}, "goes with no --prove, which lets a model see all that it can use")
    show = _format(values, pairs)
    named = [_run_named(name) for name in corpora]
    runs = [path for path in named if path]
    if runs and len(runs) < len(corpora):
        other = corpora[named.index(None)]
        raise UsageError(f"{runs[0]} is a run and {other} is not: name runs only, or a corpus")
    if page := values["report"]:
        check_output(page)
    with stop_on_signal() as stopping:
        if runs:
            refuse_all_but(FOR_RUNS, "is for training, and these runs are trained")
            result = _compare_runs(runs, values, stopping)
        else:
            refuse({"corpus_moved"}, "says where the corpus of trained runs is now, and no runs are named")
            result = _compare_architectures(corpora or (DEFAULT_CORPUS,), values, stopping)
        show(result, pairs)
        if page and result.rows and not result.stopped:
            write_report(result, page, values["seed"] or 0)
        return _outcome(result, stopping())


def _format(values: dict[str, Any], pairs: bool) -> Callable[[Comparison, bool], None]:
    """How to print the result. Raises UsageError for two ways, or for what one of them has no use for."""
    wanted = [name for name in FORMATS if values[name]]
    if len(wanted) > 1:
        raise UsageError(f"{' and '.join(f'--{name}' for name in wanted)}: give one of them")
    if pairs and wanted == ["json"]:
        raise UsageError("--pairs: JSON always has them; leave it out")
    return FORMATS[wanted[0]] if wanted else as_table


def _run_named(name: str) -> Path | None:
    """The run of that name; None for a text, which goes before a run of the same name in checkpoints/."""
    path = Path(name) if os.path.exists(name) else find_run(name)  # noqa: PTH110 - a name may be too long for Path
    return path if is_run(path) else None


def _compare_runs(runs: list[Path], values: dict[str, Any], stopping: Stopping) -> Comparison:
    device = choose_device(values["device"])
    log = ReadingLog()
    moved = (values["corpus_moved"], values["held_out"])
    split, sources = trained_already(runs, moved, log)
    tell(log)
    note_learned_by(runs, split.held_out, moved)
    observer = _View(stopping)
    stopping.patient = True
    return compare(
        sources,
        split,
        context=values["context"],
        seed=values["seed"] or 0,
        device=device,
        proving=values["prove"],
        observer=observer,
    )


def _compare_architectures(corpora: tuple[str, ...], values: dict[str, Any], stopping: Stopping) -> Comparison:
    names = [name.strip() for several in values["arch"] for name in several.split(",")] or list(SINGLE)
    names = [check_name(name, ARCHITECTURES, "--arch") for name in names]
    check_counting(names, {"seeds", *STEPWISE} - {"seed", "device"})
    check_encoding(corpora, values["held_out"])
    check_sizes(names)
    if sum(ARCHITECTURES[name].by_gradient for name in set(names)) < 2 and values["match"] == "parameters":
        refuse({"match"}, "makes networks equally large: name two or more with --arch, or another --match")
    budget = budget_for(values["match"], values["budget"])
    training, device = (
        TrainingConfig(**{**given(values, TrainingConfig), "budget": budget}),
        choose_device(values["device"]),
    )
    check_threads(values["threads"], training)
    options = given(values, *(kind.Config for kind in ARCHITECTURES.values()))
    equal, pace = values["match"] == "parameters", speed(training.precision, device)
    plan(names, values["size"], options, training, 0, vocab_size=1 if equal else None)  # wrong options before long work
    folder = values["output"]
    if folder and folder.exists() and not (folder.is_dir() and all(_is_run(entry) for entry in folder.iterdir())):
        raise UsageError(f"{folder} exists, and not as a folder of runs; choose another --output")
    origin, log = origin_of(corpora, values), ReadingLog()
    split = origin.open(log)
    tell(log)
    tokenizer = learn_tokenizer(values["tokenizer"], values, split)
    history = History(corpus=origin.describe(split, log))
    if origin.held_out is not None:
        note_held_out(split, history, tokenizer)
    vocab_size = tokenizer.vocab_size if equal else None
    characters = split.training.characters
    plans = plan(names, values["size"], options, training, characters, vocab_size=vocab_size, speed=pace)
    sources = to_train(
        plans, split, tokenizer, history=history, folder=folder, device=device,
        seeds=values["seeds"], again=values["again"], again_disturbed=values["again_disturbed"],
    )  # fmt: skip
    titles = {name: f"{name} on {split.training.name}, {n} of {len(plans)}" for n, name in enumerate(plans, 1)}
    assumed = {
        name: assumptions(name, values["size"], chosen.config, characters, Budget.parse(budget), pace)
        for name, chosen in plans.items()
        if not issubclass(ARCHITECTURES[name], CountingModel)
    }
    observer = _View(stopping, titles, assumed)
    stopping.patient = True
    result = compare(
        sources,
        split,
        context=values["context"],
        seed=training.seed,
        device=device,
        proving=values["prove"],
        observer=observer,
    )
    scaled = {name: chosen.scaled for name, chosen in plans.items() if equal and ARCHITECTURES[name].by_gradient}
    return replace(result, budget=budget, match=values["match"], scaled=scaled)


def _is_run(folder: Path) -> bool:
    """Whether this is a run, or what is left of one that was killed before its first save."""
    return folder.name.startswith(".") or (folder / CARD).is_file() or (folder.is_dir() and not any(folder.iterdir()))


@dataclass(frozen=True)
class _View(EvaluationBars):
    """Shows a comparison; of the contenders that train, what to call each and what was assumed of it."""

    stopping: Stopping
    titles: Mapping[str, str] = field(default_factory=dict)
    assumed: Mapping[str, str] = field(default_factory=dict)

    @override
    @contextmanager
    def training(self, name: str) -> Iterator[TrainingObserver]:
        if not errors.is_terminal:
            errors.print(self.titles[name], soft_wrap=True)
        if name in self.assumed:
            errors.print(f"{name} of {self.assumed[name]}", soft_wrap=True)
        with TrainingView(self.titles[name], stopping=self.stopping) as shown:
            yield shown

    @override
    def on_measured(self, contender: Contender, evaluation: Evaluation) -> None:
        figure = f"{evaluation.bits_per_character:.3f} bits/char"
        errors.print(f"{contender.name}: {figure}  {contender.path}", soft_wrap=True)

    @override
    def on_found(self, path: Path, finished: bool) -> None:
        done = "trained already; --again trains it anew" if finished else "goes on where it was stopped"
        errors.print(f"{path}: {done}", soft_wrap=True)

    @override
    def should_stop(self) -> bool:
        return bool(self.stopping())


def _outcome(result: Comparison, signalled: int) -> int:
    """What went wrong or is left to do, on standard error; the exit code."""
    for name, fault in result.faults.items():
        errors.print(f"{name}: left out: {spelled(fault)}", style="red", soft_wrap=True)
    if result.disturbed():
        errors.print("when the machine is quiet, --again-disturbed trains those anew that were slowed down")
    if not result.stopped:
        return TrainingFault.exit_code if result.faults else 0
    errors.print("stopped before the end; the same command goes on from here", style="yellow")
    if result.interrupted:
        run = shell_quoted(result.interrupted)
        errors.print(f"or only this run\n  charlm train --resume {run}", soft_wrap=True)
    return 128 + signalled
