"""`charlm train`: a text in, a run out."""

import json
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli import INTERRUPTED
from charlm.cli.live import Stopping, TrainingView, errors, stop_on_signal
from charlm.cli.options import (
    GroupedCommand,
    apply,
    check_encoding,
    check_name,
    corpus_options,
    given,
    option,
    refuse,
    refuse_all_but,
)
from charlm.cli.runs import RUN
from charlm.cli.settings import run_options
from charlm.cli.spelling import spelled
from charlm.cli.texts import note_held_out, origin_of, tell
from charlm.comparison import duration
from charlm.corpus import ReadingLog, Split, Text, relocated, reopen
from charlm.errors import UsageError
from charlm.inference import compile_in_background
from charlm.models import ALL_ARCHITECTURES, ARCHITECTURES, CountingModel
from charlm.names import quoted_word, shell_quoted
from charlm.tokenizers import TOKENIZERS, Tokenizer, alphabet
from charlm.training import (
    PRESETS,
    SIZES,
    Budget,
    RankLost,
    Trained,
    TrainingConfig,
    World,
    assumptions,
    choose_device,
    complete,
    joined,
    model_config,
    policy_of,
    resume,
    speed,
    train,
    with_preset,
    with_units,
)

DEFAULT = "lstm"
"""The architecture that is trained where none is named."""

EXAMPLE, EXAMPLE_WITHIN = 12, 2000  # characters of a prompt that is suggested; of the text where one is looked for


MODEL_SETTINGS = {
    "preset",
    "size",
    "tokenizer",
    *(name for kinds in (TOKENIZERS, ARCHITECTURES) for kind in kinds.values() for name in kind.Config.names()),
}
"""The options that say what a model is: those that a trained run has decided."""

STEPWISE = {"size", "device", *TrainingConfig.names()} - {"budget"}
"""The options that say how to train by steps; a budget is a limit, which counting keeps, too."""

RESUMING = {"corpus", "resumed", "budget", "device", "threads", "quiet", "as_json"}
"""What a run that goes on can be told."""


def check_counting(architectures: Collection[str], options: Collection[str]) -> None:
    """Raises UsageError for one of these options if all of these architectures are counted, not trained by steps."""
    if all(issubclass(ARCHITECTURES[name], CountingModel) for name in architectures):
        names = " and ".join(dict.fromkeys(architectures))
        refuse(options, f"has no effect on {names} models, which are counted")


def check_sizes(architectures: Collection[str]) -> None:
    """Raises UsageError for a --size if none of these architectures comes in sizes."""
    if not any(policy_of(name).sizes for name in architectures):
        names = " and ".join(dict.fromkeys(architectures))
        refuse({"size"}, f"has no effect on {names} models, which have one size")


def learn_tokenizer(name: str, values: dict[str, Any], split: Split) -> Tokenizer:
    """The tokenizer of that name, learned from the training part; an option of another tokenizer is an error."""
    kind = TOKENIZERS[check_name(name, TOKENIZERS, "--tokenizer")]
    every = [tokenizer.Config for tokenizer in TOKENIZERS.values()]
    options, own = given(values, *every), given(values, kind.Config)
    if wrong := sorted(set(options) - set(own)):
        raise UsageError(f"--{wrong[0].replace('_', '-')} is not an option of the {name} tokenizer")
    return kind.train(split.training.chunks(), kind.Config(**own))


def check_threads(threads: str, training: TrainingConfig) -> None:
    """Raises UsageError for several threads and a training that is to be deterministic."""
    if training.deterministic and threads not in ("auto", "1"):
        raise UsageError("--deterministic trains on one thread: it goes with no --threads but 1")


@click.command("train", cls=GroupedCommand)
@click.argument("corpus", nargs=-1)
@option("--arch", help=f"Kind of model: {', '.join(ARCHITECTURES)}.  [default: {DEFAULT}, or what --preset asks for]")
@option(
    "--budget",
    default=None,
    help=f"How long: 90s, 5m, 2h, 10epochs, 50Mtokens, 3000steps.  [default: {TrainingConfig.budget}]",
)
@option(
    "--size",
    type=click.Choice(SIZES),
    default="auto",
    show_default=True,
    help="Size of the model; auto goes by text, budget and processor.",
)
@option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help=f"Settings that belong together: {'; '.join(f'{name}, {p.about}' for name, p in PRESETS.items())}.  "
    "[default: none]",
)
@apply(corpus_options)
@option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder of the run.  [default: checkpoints/CORPUS-ARCH]"
)
@option("--force", is_flag=True, help="Replace the run of that name, or in --output.")
@option(
    "--from",
    "start",
    type=RUN,
    help="Start from this run's weights and tokenizer (fine-tuning).  [default: none]",
)
@option(
    "--resume",
    "resumed",
    type=RUN,
    help="Go on with this interrupted run; with a larger --budget, for the whole, also with a finished one.  "
    "[default: none]",
)
@option("--quiet", "-q", is_flag=True, help="Show nothing unless something goes wrong.")
@option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@apply(run_options)
def command(corpus: tuple[str, ...], quiet: bool, as_json: bool, resumed: Path | None, **values: Any) -> int:
    """Train a model on CORPUS: files, a folder of texts, - for standard input, builtin:NAME, or a downloaded NAME.

    `--arch mixture` trains an n-gram and an LSTM within the budget and weighs what they say; their options are its own.
    The last tenth of the text is held out for `charlm evaluate`. Ctrl-C saves, a second one quits at once; --resume
    goes on, with CORPUS only if the text has moved. A finished run goes on under a larger --budget from its last
    weights: the learning rate rises and falls once more, and until it has fallen the run may be worse than before.
    """
    if resumed is not None:
        refuse_all_but(RESUMING, "cannot change with --resume, which goes on with the run's own text and settings")
    try:
        with stop_on_signal() as stopping, joined(choose_device(values["device"])) as world:
            work = partial(_resume, resumed) if resumed else _train
            trained, text = work(corpus, values, quiet or not world.is_main, stopping, world)
            if not world.is_main:
                return 0 if trained.finished else INTERRUPTED
            return show_outcome(trained, text, as_json, stopping(), quiet=quiet)
    except RankLost as problem:
        click.echo(f"error: {spelled(str(problem))}", file=sys.__stderr__)  # whichever ranks are left
        return problem.exit_code


def _train(
    corpus: tuple[str, ...], values: dict[str, Any], quiet: bool, stopping: Stopping, world: World
) -> tuple[Trained, Text]:
    if not corpus:
        raise UsageError("no CORPUS: name a text file, or try builtin:python-reference, which every Python brings")
    start = checkpoint.load(values["start"]) if values["start"] else None
    if start:
        refuse({"arch", *MODEL_SETTINGS}, "cannot change with --from: the run brings it")
    architecture = start.architecture if start else _architecture(values["arch"], values["preset"])
    check_encoding(corpus, values["held_out"])
    training = complete(TrainingConfig(**given(values, TrainingConfig)), architecture)
    device = choose_device(values["device"])
    options = given(values, *(kind.Config for kind in ARCHITECTURES.values()))
    options = with_preset(values["preset"], options) if values["preset"] else options
    check_threads(values["threads"], training)
    if start and not ALL_ARCHITECTURES[architecture].by_gradient:
        raise UsageError(f"--from {shell_quoted(values['start'])}: {_no_start(start)}")
    if not start:
        check_counting([architecture], STEPWISE)
        check_sizes([architecture])
    budget, pace = Budget.parse(training.budget), speed(training.precision, device)
    model_config(architecture, values["size"], options, 0, budget, pace)  # wrong options before long work
    origin, log = origin_of(corpus, values), ReadingLog()
    split = origin.open(log)
    tell(log)
    config = (
        start.model.config
        if start
        else model_config(architecture, values["size"], options, split.training.characters, budget, pace)
    )
    if not start and not quiet and not issubclass(ARCHITECTURES[architecture], CountingModel):
        chosen = assumptions(architecture, values["size"], config, split.training.characters, budget, pace)
        errors.print(f"{architecture} of {chosen}", soft_wrap=True)
    tokenizer = _seeing_more(start, split) if start else learn_tokenizer(values["tokenizer"], values, split)
    folder = f"{split.training.name}-{architecture}"
    path = checkpoint.new_run(folder, values["output"], force=values["force"]) if world.is_main else Path()
    path = Path(world.text_of_main(str(path))) if world.size > 1 else path
    parents = checkpoint.lineage(start) if start else ()
    history = checkpoint.History(corpus=origin.describe(split, log), parents=parents)
    if origin.held_out is not None:
        note_held_out(split, history, tokenizer)
    if world.is_main:
        compile_in_background(ALL_ARCHITECTURES[architecture], config)
    with view(f"{architecture} on {split.training.name} → {path}", quiet, stopping, path, world) as observer:
        trained = train(
            path, split, tokenizer, architecture, config, training,
            history=history, device=device, start=start.model if start else None, observer=observer, world=world,
        )  # fmt: skip
    return trained, split.training


def _architecture(named: str | None, preset: str | None) -> str:
    """What --arch says, or else --preset. Raises UsageError where the two do not agree."""
    asked = PRESETS[preset].architecture if preset else DEFAULT
    architecture = check_name(named or asked, ARCHITECTURES, "--arch")
    if preset and architecture != asked:
        raise UsageError(
            f"--preset {preset} is for {asked} models, not for {architecture}; leave --arch or --preset out"
        )
    return architecture


def _seeing_more(start: checkpoint.Run, split: Split) -> Tokenizer:
    """The tokenizer of the run that is trained on from; this text's characters are then seen in training, too."""
    return start.tokenizer.also_seeing(alphabet(split.training.chunks()))


def _no_start(start: checkpoint.Run) -> str:
    """Why this run gives no weights to start from, and what to do instead."""
    if issubclass(ALL_ARCHITECTURES[start.architecture], CountingModel):
        return f"{start.architecture} models are counted; count old and new text together, with --arch instead"
    if start.history.mixed:
        return "a mixture of other runs; train those on, then `charlm mix` them again"
    name = shell_quoted(start.path)
    return f"a mixture starts no other run; on its own text a larger budget trains it on: --resume {name}"


def _resume(
    path: Path, corpus: tuple[str, ...], values: dict[str, Any], quiet: bool, stopping: Stopping, world: World
) -> tuple[Trained, Text]:
    budget = values["budget"]
    run = checkpoint.load(path, resume=not (budget and checkpoint.read_card(path).history.finished))
    history = run.history
    if budget:
        Budget.parse(budget)
        history = replace(history, plan=None)  # no comparison may take it for its own any more
    if corpus:
        history = replace(history, corpus=relocated(history.corpus, corpus))
    run = replace(run, history=history)
    way_out, log = f"charlm train FILE --resume {shell_quoted(path)}", ReadingLog()
    split = reopen(
        history.corpus,
        f"say where it is now: {way_out}",
        given=bool(corpus),
        moved=(way_out, way_out),
        log=log,
    ).learned
    tell(log)
    with view(f"{run.architecture} on {split.training.name} → {path}", quiet, stopping, path, world) as observer:
        device = choose_device(values["device"])
        return resume(run, split, budget=budget, device=device, observer=observer, world=world), split.training


@contextmanager
def view(title: str, quiet: bool, stopping: Stopping, path: Path, world: World) -> Iterator[TrainingView]:
    """What is seen while a run trains. An empty folder left by a failure is removed."""
    stopping.patient = True
    try:
        with TrainingView(title, stopping=stopping, quiet=quiet) as shown:
            yield shown
    finally:
        if world.is_main and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def example_prompt(text: Text) -> str:
    """A few characters that a text has, to be continued, as a shell takes them; "" where none can be typed.

    The first that can be seen, up to the last space among them.
    """
    lines = (line.strip() for line in text.slice(0, EXAMPLE_WITHIN).read().splitlines())
    line = next((line for line in lines if line and line[:EXAMPLE].isprintable() and not line.startswith("-")), "")
    begin, space, _ = line[: EXAMPLE + 1].rpartition(" ")
    return quoted_word(begin + space or line[:EXAMPLE]) if line else ""


def show_outcome(trained: Trained, text: Text, as_json: bool, signalled: int, *, quiet: bool = False) -> int:
    """Say how a run ended, what it was last measured at and what to do next; the exit code.

    Quiet: nothing of a run that came to its end.
    """
    card = checkpoint.read_card(trained.path)
    result = checkpoint.result_of(trained.path, card)
    if as_json:
        figures = {"run": str(trained.path), "parameters": trained.model.parameters_count, "seconds": trained.seconds}
        measured = {"result": result and result.to_json(), "progress": with_units(card.history.progress or {})}
        click.echo(json.dumps({**figures, "finished": trained.finished, **measured}))
    size = f"{trained.model.parameters_count:,} {trained.model.parameters_are}"
    if trained.warning:
        errors.print(spelled(trained.warning), style="red", soft_wrap=True)
    if not trained.finished:
        errors.print(f"stopped and saved after {duration(trained.seconds)}; go on with", style="yellow", soft_wrap=True)
        errors.print(f"  charlm train --resume {shell_quoted(trained.path)}", soft_wrap=True)
        return 128 + (signalled or signal.SIGTERM)  # another process was told
    if quiet:
        return 0
    errors.print(f"{trained.path}: {size}, trained in {duration(trained.seconds)}", style="green", soft_wrap=True)
    if result:
        errors.print(str(result), style="green", soft_wrap=True)
    name = shell_quoted(trained.path)
    prompt = f" --prompt {example}" if (example := example_prompt(text)) else ""
    errors.print(f"Now try\n  charlm evaluate {name}\n  charlm sample {name}{prompt}", soft_wrap=True)
    return 0
