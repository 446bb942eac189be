"""`charlm train`: a text in, a run out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli import INTERRUPTED
from charlm.cli.live import StopRequest, TrainingView, stop_on_signal
from charlm.cli.options import (
    GroupedCommand,
    apply,
    check_name,
    force_option,
    json_option,
    option,
    output_option,
    refuse,
    refuse_all_but,
)
from charlm.cli.outcome import show_outcome
from charlm.cli.runs import RUN, removed_if_empty
from charlm.cli.setting_options import given
from charlm.cli.settings import (
    STEPWISE,
    architecture_options,
    check_counting,
    check_sizes,
    check_threads,
    learn_tokenizer,
    run_options,
)
from charlm.cli.spelling import spelled
from charlm.cli.terminal import print_message
from charlm.cli.text_options import check_encoding, corpus_options
from charlm.cli.texts import note_held_out, read_split, show_notes
from charlm.corpus import ReadingLog, Split, Text, relocated, reopen
from charlm.errors import UsageError
from charlm.inference import compile_in_background
from charlm.models import ALL_ARCHITECTURES, ARCHITECTURES, CountingModel
from charlm.names import shell_quoted
from charlm.tokenizers import TOKENIZERS, Tokenizer, alphabet
from charlm.training import (
    DEFAULT_ARCHITECTURE,
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
    resume,
    speed,
    train,
    with_preset,
)

MODEL_SETTINGS = {
    "preset",
    "size",
    "tokenizer",
    *(name for kinds in (TOKENIZERS, ARCHITECTURES) for kind in kinds.values() for name in kind.Config.names()),
}
"""The options that a trained run has already decided."""

RESUMING = {"corpus", "resumed", "budget", "device", "threads", "quiet", "as_json"}
"""The parameters that go with --resume."""


@click.command("train", cls=GroupedCommand)
@click.argument("corpus", nargs=-1)
@option(
    "--arch",
    help=f"Architecture: {', '.join(ARCHITECTURES)}.  [default: {DEFAULT_ARCHITECTURE}, or that of --preset]",
)
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
    help="Size of the model; auto depends on text, budget and processor.",
)
@option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help=f"Settings that belong together: {'; '.join(f'{name}, {p.about}' for name, p in PRESETS.items())}.  "
    "[default: none]",
)
@apply(corpus_options)
@output_option("Folder of the run.  [default: checkpoints/CORPUS-ARCH]")
@force_option()
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
    help="Continue this interrupted run; with a larger --budget, for the whole, also a finished one.  [default: none]",
)
@option("--quiet", "-q", is_flag=True, help="Show nothing unless something goes wrong.")
@json_option()
@apply(run_options())
def command(corpus: tuple[str, ...], quiet: bool, as_json: bool, resumed: Path | None, **values: Any) -> int:
    """Train a model on CORPUS: files, a folder of texts, - for standard input, builtin:NAME, or a downloaded NAME.

    `--arch mixture` counts n-grams and, if there is time, contexts, trains an LSTM, and mixes what they predict. The
    last tenth of the text is held out for `charlm evaluate`. Ctrl-C saves, a second one quits at once; --resume
    continues, with CORPUS only if the text has moved. A finished run continues under a larger --budget from its last
    weights: the learning rate rises and falls once more, and until it has fallen the run may be worse.
    """
    if resumed is not None:
        refuse_all_but(RESUMING, "cannot change with --resume, which goes on with the run's own text and settings")
    try:
        with stop_on_signal() as stop, joined(choose_device(values["device"])) as world:
            work = partial(_resume, resumed) if resumed else _train
            trained, text = work(corpus, values, quiet or not world.is_main, stop, world)
            if not world.is_main:
                return 0 if trained.finished else INTERRUPTED
            return show_outcome(trained, text, as_json, stop(), quiet=quiet)
    except RankLost as problem:
        click.echo(f"error: {spelled(str(problem))}", file=sys.__stderr__)  # from every process that is left
        return problem.exit_code


def _train(
    corpus: tuple[str, ...], values: dict[str, Any], quiet: bool, stop: StopRequest, world: World
) -> tuple[Trained, Text]:
    if not corpus:
        raise UsageError("no CORPUS: name a text file, or try builtin:python-reference, which every Python brings")
    start = _start(values)
    architecture = start.architecture if start else _architecture(values["arch"], values["preset"])
    check_encoding(corpus, values["held_out"])
    training = complete(TrainingConfig(**given(values, TrainingConfig)), architecture)
    check_threads(values["threads"], training)
    device = choose_device(values["device"])
    if not start:
        check_counting([architecture], STEPWISE)
        check_sizes([architecture])
    budget, machine_speed = Budget.parse(training.budget), speed(training.precision, device)
    options = architecture_options(values)
    options = with_preset(values["preset"], options) if values["preset"] else options
    configure = partial(model_config, architecture, values["size"], options, budget=budget, speed=machine_speed)
    configure(characters=0)  # so that wrong options fail before the text is read
    split, history = read_split(corpus, values)
    characters = split.training.characters
    config = start.model.config if start else configure(characters=characters)
    if not start and not quiet and not issubclass(ARCHITECTURES[architecture], CountingModel):
        chosen = assumptions(architecture, values["size"], config, characters, budget, machine_speed)
        print_message(f"{architecture} of {chosen}")
    tokenizer = _extended_tokenizer(start, split) if start else learn_tokenizer(values, split)
    folder = f"{split.training.name}-{architecture}"
    path = checkpoint.new_run(folder, values["output"], force=values["force"]) if world.is_main else Path()
    path = Path(world.text_of_main(str(path))) if world.size > 1 else path
    history = replace(history, parents=checkpoint.lineage(start) if start else ())
    if values["held_out"] is not None:
        note_held_out(split, history, tokenizer)
    if world.is_main:
        compile_in_background(ALL_ARCHITECTURES[architecture], config)
    with _view(f"{architecture} on {split.training.name} → {path}", quiet, stop, path, world) as observer:
        trained = train(
            path, split, tokenizer, architecture, config, training,
            history=history, device=device, start=start.model if start else None, observer=observer, world=world,
        )  # fmt: skip
    return trained, split.training


def _start(values: dict[str, Any]) -> checkpoint.Run | None:
    """The run that --from names. Raises UsageError for one that training cannot start from."""
    if not values["start"]:
        return None
    start = checkpoint.load(values["start"])
    refuse({"arch", *MODEL_SETTINGS}, "cannot change with --from: the run brings it")
    if not ALL_ARCHITECTURES[start.architecture].by_gradient:
        raise UsageError(f"--from {shell_quoted(values['start'])}: {_no_start(start)}")
    return start


def _no_start(start: checkpoint.Run) -> str:
    """Why training cannot start from this run, and what to do instead."""
    if issubclass(ALL_ARCHITECTURES[start.architecture], CountingModel):
        return f"{start.architecture} models are counted; count old and new text together, with --arch instead"
    if start.history.mixed:
        return "a mixture of other runs; train those on, then `charlm mix` them again"
    name = shell_quoted(start.path)
    return f"a mixture starts no other run; on its own text a larger budget trains it on: --resume {name}"


def _architecture(name: str | None, preset: str | None) -> str:
    """The architecture of --arch, or else of --preset. Raises UsageError where the two do not agree."""
    default = PRESETS[preset].architecture if preset else DEFAULT_ARCHITECTURE
    architecture = check_name(name or default, ARCHITECTURES, "--arch")
    if preset and architecture != default:
        raise UsageError(
            f"--preset {preset} is for {default} models, not for {architecture}; leave --arch or --preset out"
        )
    return architecture


def _extended_tokenizer(start: checkpoint.Run, split: Split) -> Tokenizer:
    """The tokenizer of the run to start from, which counts the characters of the new text as seen as well."""
    return start.tokenizer.also_seeing(alphabet(split.training.chunks()))


def _resume(
    path: Path, corpus: tuple[str, ...], values: dict[str, Any], quiet: bool, stop: StopRequest, world: World
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
    show_notes(log)
    with _view(f"{run.architecture} on {split.training.name} → {path}", quiet, stop, path, world) as observer:
        device = choose_device(values["device"])
        return resume(run, split, budget=budget, device=device, observer=observer, world=world), split.training


@contextmanager
def _view(title: str, quiet: bool, stop: StopRequest, path: Path, world: World) -> Iterator[TrainingView]:
    """Shows a run while it trains."""
    stop.graceful = True
    with (
        removed_if_empty(path) if world.is_main else nullcontext(),
        TrainingView(title, stop=stop, quiet=quiet) as view,
    ):
        yield view
