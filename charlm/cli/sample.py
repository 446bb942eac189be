"""`charlm sample`: text out of a run."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from charlm.cli.binary import STANDARD
from charlm.cli.glyphs import sanitized
from charlm.cli.options import (
    MAX_SEED,
    GroupedCommand,
    device_option,
    integer_option,
    json_option,
    option,
    refuse,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.setting_options import given, settings_options
from charlm.cli.terminal import print_message
from charlm.cli.texts import as_utf8, note_file, note_line_ends
from charlm.corpus import Text
from charlm.decoding import AllowedIds, Hypothesis, Sampling, Token, beam_search, generate
from charlm.errors import DataError, UsageError
from charlm.inference import Engine
from charlm.names import quoted_word

TOKENS_PER_WRITE = 64  # in a pipe: one write costs as much as several draws
MAX_QUOTED_CHARACTERS = 40  # of a text in a message
SEARCHING = "Searching instead of drawing"


@click.command("sample", cls=GroupedCommand)
@click.argument("run", required=False, type=RUN)
@option("--prompt", "-p", default=None, callback=as_utf8, help="The text to continue.  [default: a line begins]")
@option(
    "--prompt-file",
    type=click.Path(path_type=Path),
    help="Continue the content of this file, - for standard input.  [default: none]",
)
@integer_option("--length", "-l", low=0, default=500, help="Characters, without the prompt.")
@integer_option("--num-samples", "-n", low=1, high=10_000, default=1, help="How many texts, drawn side by side.")
@option(
    "--stop",
    multiple=True,
    callback=as_utf8,
    help="End before this string, taken as it stands; may be given several times.  [default: none]",
)
@integer_option(
    "--seed", low=0, high=MAX_SEED, help="The same seed draws the same text.  [default: a different one each time]"
)
@option(
    "--stream/--no-stream", default=None, help="Write characters as they are drawn.  [default: for one text]", rare=True
)
@json_option("Print JSON: prompt, texts and, with beams, their bits.")
@device_option(rare=True)
@threads_option(rare=True)
@settings_options(
    "Drawing, in this order: temperature, then top-k, top-p, min-p", {"sampling": Sampling}, short={"temperature": "-t"}
)
@option("--greedy", is_flag=True, help="Always the likeliest: temperature 0.", heading=SEARCHING)
@integer_option(
    "--beams", low=1, help="Beam search of this width; prints the -n best.  [default: none]", heading=SEARCHING
)
@option(
    "--length-penalty",
    type=float,
    default=0.0,
    show_default=True,
    help="Above 0 favours longer texts (with --beams and --stop).",
    rare=True,
    heading=SEARCHING,
)
def command(run: Path | None, **values: Any) -> None:
    """Continue a prompt with RUN, by default the newest in checkpoints/."""
    from charlm import checkpoint
    from charlm.training import choose_device

    settings = _sampling(values)
    prompt = _prompt(values["prompt"], values["prompt_file"])
    loaded = checkpoint.load(run or checkpoint.newest())
    loaded.model.to(choose_device(values["device"]))
    note_line_ends(Text.from_string(prompt, "the prompt"), loaded.history, loaded.tokenizer)
    _check_characters(loaded, prompt, values["stop"])
    output, engine = TextOutput(), _engine(loaded)
    if values["beams"]:
        texts = _search(engine, loaded, prompt, values)
    else:
        tokens = _draw(engine, loaded, prompt, settings, values)
        if values["stream"] is not False and values["num_samples"] == 1 and not values["as_json"]:
            _write_live(prompt, tokens, output)
            return
        texts = _collected(tokens, values["num_samples"])
    if values["as_json"]:
        about = {"run": str(loaded.path), "backend": engine.backend, "prompt": prompt}
        click.echo(json.dumps({**about, "texts": texts}))
    else:
        _write(prompt, texts, output)


def _engine(run: Any) -> Engine:
    """The engine of a run's model. If its kernels must be compiled first, a message says so."""
    from charlm.inference import open_engine, uncompiled
    from charlm.models import device_of

    if device_of(run.model).type == "cpu" and uncompiled(type(run.model), run.model.config):
        print_message(f"compiling the code that samples {run.architecture} models, once on this machine: some seconds")
    return open_engine(run.model)


def _search(engine: Engine, run: Any, prompt: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The texts of beam search, best first, for JSON."""
    hypotheses = beam_search(
        engine, run.tokenizer, prompt or None, beams=values["beams"], hypotheses=values["num_samples"],
        length_penalty=values["length_penalty"], length=values["length"], stop=values["stop"],
    )  # fmt: skip
    return [_to_json(hypothesis) for hypothesis in hypotheses]


def _to_json(hypothesis: Hypothesis) -> dict[str, Any]:
    return {
        "text": hypothesis.text,
        "bits": -hypothesis.log_prob / math.log(2),
        "log_prob": hypothesis.log_prob,
        "score": hypothesis.score,
        "finish_reason": hypothesis.finish_reason,
    }


def _draw(engine: Engine, run: Any, prompt: str, settings: Sampling, values: Mapping[str, Any]) -> Iterator[Token]:
    """The tokens of all texts as they are drawn."""
    return generate(
        engine, run.tokenizer, prompt or None, settings=settings, streams=values["num_samples"],
        generator=_generator(values["seed"]), length=values["length"], stop=values["stop"],
    )  # fmt: skip


def _collected(tokens: Iterable[Token], count: int) -> list[dict[str, Any]]:
    """The whole texts, for JSON."""
    texts: list[dict[str, Any]] = [{"text": "", "finish_reason": "length"} for _ in range(count)]
    for token in tokens:
        texts[token.stream]["text"] += token.text
        texts[token.stream]["finish_reason"] = token.finish_reason
    return texts


def _write(prompt: str, texts: list[dict[str, Any]], output: "TextOutput") -> None:
    for number, entry in enumerate(texts, 1):
        if len(texts) > 1:
            bits = f", {entry['bits']:.2f} bits" if "bits" in entry else ""
            click.echo(click.style(f"── {number}{bits}", dim=True), err=True)
        output.write(f"{prompt}{entry['text']}\n")


def _write_live(prompt: str, tokens: Iterable[Token], output: "TextOutput") -> None:
    """Write one text while it is drawn, in a pipe some tokens at a time."""
    output.write(prompt)
    pieces: list[str] = []
    for token in tokens:
        pieces.append(token.text)
        if output.terminal or len(pieces) == TOKENS_PER_WRITE:
            output.write("".join(pieces))
            pieces.clear()
    output.write("".join(pieces) + "\n")


def _check_characters(run: Any, prompt: str, stop: tuple[str, ...]) -> None:
    """Print which characters of the prompt never occurred in training.

    Raises UsageError for a stop string with such a character: it is never drawn.
    """
    allowed, seen = AllowedIds(run.model, run.tokenizer), set(run.tokenizer.seen.tolist())

    def unseen(text: str) -> str:
        characters = [c for c in dict.fromkeys(text) if ord(c) not in seen and not allowed.can_write(c)]
        return ", ".join("\\" if c == "\\" else repr(c) for c in characters[:5])

    for text in stop:
        if missing := unseen(text):
            raise UsageError(
                f"--stop {_quoted(text)}: never matches, the training text has no {missing}{_advice(text)}"
            )
        if _advice(text):
            print_message(f"--stop {_quoted(text)} is taken as it stands{_advice(text)}")
    if missing := unseen(prompt):
        print_message(f"the training text has no {missing}: what follows is a guess{_advice(prompt)}")


def _quoted(text: str) -> str:
    """A text as a shell reads it, shortened."""
    return quoted_word(text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[: MAX_QUOTED_CHARACTERS - 3]}...")


def _advice(text: str) -> str:
    """How to type a line feed, for a text that has a backslash and an n."""
    return "; a line feed is typed $'\\n' in most shells" if "\\n" in text else ""


def _sampling(values: Mapping[str, Any]) -> Sampling:
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
    """The prompt, from the option, from a file or from standard input; "" if there is none."""
    if prompt is not None and file is not None:
        raise UsageError("--prompt and --prompt-file: give one of them")
    if file is None:
        note_file(prompt or "", "--prompt-file ")
        return prompt or ""
    try:
        data = sys.stdin.buffer.read() if str(file) == STANDARD else file.read_bytes()
        return data.decode("utf-8-sig")  # without a byte order mark
    except OSError as problem:
        raise DataError(f"{file}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{file}: not UTF-8 at byte {problem.start}; convert it first") from None


class TextOutput:
    """Writes text to standard output at once: unchanged in a pipe, sanitized on a terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self._held = ""  # a carriage return on a terminal, until the next character shows whether it ends a line

    def write(self, text: str) -> None:
        """Write in UTF-8; half a surrogate pair, which UTF-8 cannot encode, becomes U+FFFD."""
        if self.terminal:
            text = self._held + text
            self._held = "\r" if text.endswith("\r") else ""
            text = sanitized(text[: len(text) - len(self._held)])
        sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode())
        sys.stdout.buffer.flush()
