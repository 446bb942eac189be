"""`charlm sample`: text out of a run."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from charlm.cli.glyphs import harmless
from charlm.cli.live import errors
from charlm.cli.options import GroupedCommand, device_option, given, option, refuse, settings_options, threads_option
from charlm.cli.runs import RUN
from charlm.cli.texts import as_utf8, note_file, note_line_ends
from charlm.corpus import Text
from charlm.decoding import AllowedIds, Hypothesis, Sampling, Token, beam_search, generate
from charlm.errors import DataError, UsageError
from charlm.inference import Engine
from charlm.models import LanguageModel
from charlm.names import quoted_word

PIPED_TOKENS = 64  # drawn before they are written where nobody watches: one write costs as much as several draws


@click.command("sample", cls=GroupedCommand)
@click.argument("run", required=False, type=RUN)
@option("--prompt", "-p", default=None, callback=as_utf8, help="What to continue.  [default: a line begins]")
@option(
    "--prompt-file",
    type=click.Path(path_type=Path),
    help="Continue the content of this file, - for standard input.  [default: none]",
)
@option(
    "--length", "-l", type=click.IntRange(min=0), default=500, show_default=True, help="Characters, without the prompt."
)
@option(
    "--num-samples",
    "-n",
    type=click.IntRange(min=1, max=10_000),
    default=1,
    show_default=True,
    help="Texts, drawn side by side.",
)
@option(
    "--stop",
    multiple=True,
    callback=as_utf8,
    help="End before this string, taken as it stands; may be given several times.  [default: none]",
)
@option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    default=None,
    help="The same seed draws the same text.  [default: another each time]",
)
@option("--stream/--no-stream", default=None, help="Write characters as they come.  [default: for one text]", rare=True)
@option("--json", "as_json", is_flag=True, help="Print JSON: prompt, texts and, with beams, their bits.")
@device_option(rare=True)
@threads_option(rare=True)
@settings_options(
    "Drawing, in this order: temperature, then top-k, top-p, min-p", {"sampling": Sampling}, short={"temperature": "-t"}
)
@option("--greedy", is_flag=True, help="Always the likeliest: temperature 0.", heading="Searching instead of drawing")
@option(
    "--beams",
    type=click.IntRange(min=1),
    default=None,
    help="Beam search of this width; prints the -n best.  [default: none]",
    heading="Searching instead of drawing",
)
@option(
    "--length-penalty",
    type=float,
    default=0.0,
    show_default=True,
    help="Above 0 favours longer texts (with --beams and --stop).",
    rare=True,
    heading="Searching instead of drawing",
)
def command(run: Path | None, **values: Any) -> None:
    """Continue a prompt with RUN, by default the newest in checkpoints/."""
    from charlm import checkpoint
    from charlm.training import choose_device

    settings = _sampling(values)
    prompt = _prompt(values["prompt"], values["prompt_file"])
    loaded = checkpoint.load(run or checkpoint.newest())
    model = loaded.model.to(choose_device(values["device"]))
    note_line_ends(Text.from_string(prompt, "the prompt"), loaded.history, loaded.tokenizer)
    length, count, stop = values["length"], values["num_samples"], values["stop"]
    _check_characters(loaded, prompt, stop)
    output, engine = TextOutput(), _engine(loaded.architecture, model)
    how = {"length": length, "stop": stop}
    if values["beams"]:
        hypotheses = beam_search(
            engine, loaded.tokenizer, prompt or None, beams=values["beams"], hypotheses=count,
            length_penalty=values["length_penalty"], **how,
        )  # fmt: skip
        texts = [_described(hypothesis) for hypothesis in hypotheses]
    else:
        tokens = generate(
            engine, loaded.tokenizer, prompt or None, settings=settings, streams=count,
            generator=_generator(values["seed"]), **how,
        )  # fmt: skip
        if values["stream"] is not False and count == 1 and not values["as_json"]:
            return _write_live(prompt, tokens, output)
        texts = [{"text": "", "finish_reason": "length"} for _ in range(count)]
        for token in tokens:
            texts[token.stream]["text"] += token.text
            texts[token.stream]["finish_reason"] = token.finish_reason
    if values["as_json"]:
        about = {"run": str(loaded.path), "backend": engine.backend, "prompt": prompt}
        return click.echo(json.dumps({**about, "texts": texts}))
    for number, entry in enumerate(texts, 1):
        if len(texts) > 1:
            note = f", {entry['bits']:.2f} bits" if "bits" in entry else ""
            click.echo(click.style(f"── {number}{note}", dim=True), err=True)
        output.write(f"{prompt}{entry['text']}\n")
    return None


def _engine(architecture: str, model: LanguageModel) -> Engine:
    """The engine of a model; where it must be compiled first, a line says so."""
    from charlm.inference import open_engine, uncompiled
    from charlm.models import device_of

    if device_of(model).type == "cpu" and uncompiled(type(model), model.config):
        click.echo(f"compiling what samples {architecture} models, once on this machine: some seconds", err=True)
    return open_engine(model)


def _described(hypothesis: Hypothesis) -> dict[str, Any]:
    """A text that beam search found, for JSON."""
    return {
        "text": hypothesis.text,
        "bits": -hypothesis.log_prob / math.log(2),
        "log_prob": hypothesis.log_prob,
        "score": hypothesis.score,
        "finish_reason": hypothesis.finish_reason,
    }


def _write_live(prompt: str, tokens: Iterable[Token], output: "TextOutput") -> None:
    """Write the text of one stream as it comes, in a pipe some tokens at a time."""
    output.write(prompt)
    waiting: list[str] = []
    for token in tokens:
        waiting.append(token.text)
        if output.terminal or len(waiting) == PIPED_TOKENS:
            output.write("".join(waiting))
            waiting.clear()
    output.write("".join(waiting) + "\n")


def _check_characters(run: Any, prompt: str, stop: tuple[str, ...]) -> None:
    """Say which characters of the prompt the training text never had.

    Raises UsageError for a stop string with such a character: only what training showed is drawn.
    """
    allowed, seen = AllowedIds(run.model, run.tokenizer), set(run.tokenizer.seen.tolist())

    def unseen(text: str) -> str:
        found = [c for c in dict.fromkeys(text) if ord(c) not in seen and not allowed.can_write(c)]
        return ", ".join("\\" if c == "\\" else repr(c) for c in found[:5])

    for text in stop:
        if missing := unseen(text):
            raise UsageError(f"--stop {_typed(text)}: never matches, the training text has no {missing}{_advice(text)}")
        if _advice(text):
            errors.print(f"--stop {_typed(text)} is taken as it stands{_advice(text)}", soft_wrap=True)
    if missing := unseen(prompt):
        errors.print(f"the training text has no {missing}: what follows is a guess{_advice(prompt)}", soft_wrap=True)


def _typed(text: str) -> str:
    """A text as a shell takes it, shortened, with nothing that a terminal obeys."""
    return quoted_word(text if len(text) <= 40 else f"{text[:37]}...")


def _advice(text: str) -> str:
    """How to type a line feed, for a text that has a backslash and an n."""
    return "; a line feed is typed $'\\n' in most shells" if "\\n" in text else ""


def _sampling(values: dict[str, Any]) -> Sampling:
    """The settings to draw with. Raises UsageError for an option that has no effect beside the others."""
    chosen = given(values, Sampling)
    if values["beams"]:
        refuse({"seed", "greedy", "stream"}, "has no effect with --beams, which searches and draws nothing")
    if not values["beams"] or not values["stop"]:
        refuse({"length_penalty"}, "weighs texts of different length: it goes with --beams and --stop")
    if values["stream"] and (values["as_json"] or values["num_samples"] > 1):
        refuse({"stream"}, "shows one text as it comes: it goes with no --json and no --num-samples")
    if values["greedy"] or chosen.get("temperature") == 0:
        refuse({"seed"}, "has no effect where nothing is drawn")
    if chosen.get("temperature") == 0:
        refuse(set(chosen) - {"temperature"}, "has no effect at temperature 0")
    if values["greedy"]:
        if chosen:
            raise UsageError(
                "--greedy always takes the likeliest: it goes with no --temperature, --top-k, --top-p or --min-p"
            )
        return Sampling(temperature=0.0)
    if values["beams"] and chosen:
        raise UsageError(
            "--beams searches instead of drawing: it goes with no --temperature, --top-k, --top-p or --min-p"
        )
    return Sampling(**chosen)


def _generator(seed: int | None) -> Any:
    import torch

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt as given, from a file, or from standard input if something is piped into it."""
    if prompt is not None and file is not None:
        raise UsageError("--prompt and --prompt-file: give one of them")
    if file is None:
        note_file(prompt or "", "--prompt-file ")
        return prompt or ""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")  # without a byte order mark
    except OSError as problem:
        raise DataError(f"{file}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{file}: not UTF-8 at byte {problem.start}; convert it first") from None


class TextOutput:
    """Text to standard output, at once: as it is in a pipe, with nothing that moves or colours on a terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self._held = ""  # a carriage return on a terminal, of which the next character tells whether it ends a line

    def write(self, text: str) -> None:
        """As UTF-8; what UTF-8 cannot say (half a surrogate pair) as U+FFFD."""
        if self.terminal:
            text = self._held + text
            self._held = "\r" if text.endswith("\r") else ""
            text = harmless(text[: len(text) - len(self._held)])
        sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode())
        sys.stdout.buffer.flush()
