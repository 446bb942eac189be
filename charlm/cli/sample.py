"""`charlm sample`: text out of a run."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.options import GroupedCommand, given, option, settings_options, threads_option
from charlm.cli.texts import as_utf8, note_file, note_line_ends
from charlm.corpus import Text
from charlm.decoding import Sampling, beam_search, sample
from charlm.errors import DataError, UsageError


@click.command("sample", cls=GroupedCommand)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@option("--prompt", "-p", default=None, callback=as_utf8, help="What to continue; without one, a line begins.")
@option(
    "--prompt-file", type=click.Path(path_type=Path), help="Continue the content of this file (- for standard input)."
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
@option("--stop", multiple=True, callback=as_utf8, help="End before this string; may be given several times.")
@option("--seed", type=click.IntRange(min=0, max=2**63 - 1), default=None, help="The same seed draws the same text.")
@option("--stream/--no-stream", default=None, help="Show characters as they come.  [default: on a terminal]")
@option("--json", "as_json", is_flag=True, help="Print JSON: prompt, texts and, with beams, their log-probabilities.")
@option("--device", default="auto", help="auto, cpu, cuda or mps.")
@threads_option()
@settings_options(
    "Drawing, in this order: temperature, then top-k, top-p, min-p", {"sampling": Sampling}, short={"temperature": "-t"}
)
@option("--greedy", is_flag=True, help="Always the likeliest: temperature 0.", heading="Searching instead of drawing")
@option(
    "--beams",
    type=click.IntRange(min=1),
    default=None,
    help="Beam search of this width; prints the -n best.",
    heading="Searching instead of drawing",
)
@option(
    "--length-penalty",
    type=float,
    default=0.0,
    show_default=True,
    help="Above 0 favours longer texts (with --stop).",
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
    note_line_ends(Text.from_string(prompt, "the prompt"), loaded.about, loaded.tokenizer)
    length, count, stop = values["length"], values["num_samples"], values["stop"]
    if values["beams"]:
        found = beam_search(
            model, loaded.tokenizer, prompt or "\n", length=length, beams=values["beams"], stop=stop,
            hypotheses=min(count, values["beams"]), length_penalty=values["length_penalty"],
        )  # fmt: skip
        texts = [{"text": h.text, "log_prob": h.log_prob, "score": h.score} for h in found]
    else:
        generator = _generator(values["seed"])
        stream = values["stream"] if values["stream"] is not None else sys.stdout.isatty()
        live = stream and count == 1 and not values["as_json"]
        if live:
            _write(prompt)
        drawn = sample(
            model, loaded.tokenizer, prompt or "\n", length=length, settings=settings, streams=count, stop=stop,
            generator=generator, on_text=(lambda _, text: _write(text)) if live else None,
        )  # fmt: skip
        if live:
            return _write("\n")
        texts = [{"text": text} for text in drawn]
    if values["as_json"]:
        click.echo(json.dumps({"run": str(loaded.path), "prompt": prompt, "texts": texts}))
        return None
    for number, entry in enumerate(texts, 1):
        if len(texts) > 1:
            note = f", log-probability {entry['log_prob']:.2f} nats" if "log_prob" in entry else ""
            click.echo(click.style(f"── {number}{note}", dim=True), err=True)
        _write(f"{prompt}{entry['text']}\n")
    return None


def _sampling(values: dict[str, Any]) -> Sampling:
    chosen = given(values, Sampling)
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


def _write(text: str) -> None:
    """To standard output as UTF-8 at once; what UTF-8 cannot say (half a surrogate pair) as U+FFFD."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode())
    sys.stdout.buffer.flush()
